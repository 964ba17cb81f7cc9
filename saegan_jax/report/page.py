"""The page of a run: one HTML file that needs no network, filled from templates that escape whatever they are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from saegan_jax.files import separate_non_finite
from saegan_jax.report.axes import Axis, number
from saegan_jax.report.curves import collect_series, panels
from saegan_jax.report.pictures import tile
from saegan_jax.report.sprites import data_uri, png_bytes
from saegan_jax.stats import over_seeds

MOST_POINTS = 400  # of one curve; more are not seen
HIDDEN = ("steps_per_second", "data_wait")  # of the curves: they are in metrics.jsonl


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A picture with its caption.

    Attributes:
      src: a PNG as a data URI.
      caption: below it.
    """

    src: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """What the page of a run shows; an empty part has no section.

    Attributes:
      title: of the page.
      facts: short texts below it, by name.
      frames: see :func:`saegan_jax.report.frames.picture_series`.
      metrics: rows of metrics.jsonl.
      alarms: rows of alarms.jsonl.
      scores: rows of summary.json by measure: ``{"values", "unit", "note", "floor"}``.
      atlas: see :func:`saegan_jax.report.atlas.atlas_data`.
      dictionary: a picture of the densest atoms.
      interpolation: pictures of ways between latents.
      truncation: pictures of samples whose latents are pulled towards the mean.
      nearest: pictures of samples and training images.
      configuration: settings by name.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    frames: Sequence[Mapping[str, Any]] = ()
    metrics: Sequence[Mapping[str, Any]] = ()
    alarms: Sequence[Mapping[str, Any]] = ()
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    atlas: Mapping[str, Any] | None = None
    dictionary: Strip | None = None
    interpolation: Sequence[Strip] = ()
    truncation: Sequence[Strip] = ()
    nearest: Sequence[Strip] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)


@cache
def environment() -> Environment:
    """The templates of this package; every value is escaped."""
    loader = PackageLoader("saegan_jax.report", "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals["asset"] = asset
    made.filters["number"] = number
    return made


def asset(name: str) -> Markup:
    """A style sheet or script of this package, as it is."""
    return Markup((files("saegan_jax.report") / "templates" / name).read_text(encoding="utf-8"))


def strip(images: np.ndarray, caption: str) -> Strip:
    """``(rows, columns, height, width, channels)`` uint8 as one picture."""
    pixels = tile(images.reshape(-1, *images.shape[2:]), columns=images.shape[1], padding=1, background=128)
    return Strip(src=data_uri(png_bytes(pixels)), caption=caption)


def curve_panels(
    metrics: Sequence[Mapping[str, Any]], alarms: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Panels of curves as the page's script draws them: JSON values, of at most 400 points a curve.

    Args:
      metrics: see :func:`saegan_jax.report.curves.collect_series`.
      alarms: ``{"phase", "step", "kind", "state"}`` each; where they begin is marked.
    """
    found = []
    for phase, series in collect_series(metrics).items():
        marks = [
            {"step": a["step"], "kind": a["kind"]} for a in alarms if a["phase"] == phase and a["state"] == "begins"
        ]
        for title, names in panels(name for name in series if name not in HIDDEN).items():
            lines = []
            for name in names:
                steps, values = series[name]
                kept = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_POINTS)).astype(int))
                points, _ = separate_non_finite([[float(f"{v:.5g}") for v in row] for row in values[kept].T])
                lines.append({"name": name, "steps": steps[kept].tolist(), "values": points})
            found.append({"phase": phase, "title": title, "lines": lines, "alarms": marks})
    return found


def score_rows(scores: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Scores as the template draws them: mean, interval and values, and their places beside the floor."""
    rows = []
    for name, score in scores.items():
        values = [np.nan if v is None else float(v) for v in score["values"]]
        floor = score.get("floor")
        mean, low, high = over_seeds(values)
        axis = Axis.over([*values, floor], zero=True)
        places = [axis.place(v) for v in values if np.isfinite(v)]
        row = {"name": name, "values": values, "mean": mean, "low": low, "high": high, "floor": floor}
        at = {"dots": places, "floor_at": None if floor is None else axis.place(floor), "log": axis.log}
        rows.append(row | at | {"unit": score.get("unit", ""), "note": score.get("note", "")})
    return rows


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def run_html(page: RunPage) -> str:
    """The page as one HTML document without any address."""
    data = {
        "frames": list(page.frames),
        "curves": curve_panels(page.metrics, page.alarms),
        "atlas": page.atlas,
    }
    return environment().get_template("run.html").render(page=page, data=data, scores=score_rows(page.scores))
