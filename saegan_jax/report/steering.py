"""Steering as published rows, a table and pictures: strips of images along a direction, and what doses do."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from saegan_jax.evaluation.steering import CLASS_MEAN, CONTROLS, SAE, Found
from saegan_jax.report.figures import write_figure
from saegan_jax.report.pictures import tile
from saegan_jax.report.table import Result, Row, document, origin, pivot
from saegan_jax.steering import Effect, effects_at_level, selectivity

UNITS = {
    "target": "rise of the target's probability",
    "others": "total variation distance among the other classes",
    "features": "distance moved in the classifier's features",
    "pixels": "root mean squared pixel change",
    "unreal": "further from the nearest real image, in the same features",
    "dose": "spreads of the activations",
    "selectivity": "target / others, others at least 0.01",
}
"""Measures of an arm, and their units."""
RECONSTRUCTION = {
    "fvu": "share of variance",
    "l0": "active features a vector",
    "dead_fraction": "share never active",
}
"""Measures of the autoencoder, and their units."""
MATCHED = "matched"
"""The dose, a direction's own, that changes pixels as much as every other direction does."""
COMPARED = ("target", "others", "unreal", "selectivity")
"""Measures of which the difference to each control is published."""
PANELS = (
    ("dose", "target"),
    ("dose", "others"),
    ("pixels", "target"),
    ("pixels", "others"),
    ("pixels", "unreal"),
    ("others", "target"),
)
LABELS = {
    "dose": "dose / spread of the activations",
    "target": "rise of the target's probability",
    "others": "change among other classes (TV)",
    "pixels": "pixel change (RMS)",
    "unreal": "further from real images (features)",
}


def units(values: Sequence[np.ndarray]) -> np.ndarray:
    """What intervals are over, of one ``(seeds, n_classes, features)`` per generator: generators, or the only one's classes.

    Features of one class are alike, and several autoencoders find the same ones: they count as one.
    """
    if len(values) > 1:
        return np.array([v.mean() for v in values], np.float64)
    return values[0].mean(axis=(0, 2), dtype=np.float64)


def with_selectivity(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``values`` and the selectivity that they give."""
    return {**values, "selectivity": selectivity(values["target"], values["others"])}


def reconstruction_rows(found: Sequence[Found]) -> list[Row]:
    """The autoencoders: of one generator all its seeds, of several the mean of each."""
    rows = []
    for metric, unit in RECONSTRUCTION.items():
        each = [np.array([float(getattr(m, metric)) for m in one.metrics]) for one in found]
        values = each[0] if len(each) == 1 else np.array([e.mean() for e in each])
        rows.append(Row.of(SAE, metric, values, unit=unit, dose=None))
    return rows


def measure_rows(arm: str, values: Mapping[str, np.ndarray], dose: float | str) -> list[Row]:
    """A row of each measure at one dose."""
    return [Row.of(arm, metric, one, unit=UNITS[metric], dose=dose) for metric, one in values.items()]


def arm_rows(found: Sequence[Found], arm: str, alphas: Sequence[float]) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Rows of one arm, at each dose and where pixels change equally; and the values of the latter."""
    associated = units([one.arms[arm].associated[:, :, None] for one in found])
    unit = "correlation with the target's probability, where chosen"
    rows = [Row.of(arm, "association", associated, unit=unit, dose=None)]
    for i, dose in enumerate(alphas):
        at = {m: units([getattr(one.effects[arm], m)[..., i] for one in found]) for m in Effect._fields}
        rows += measure_rows(arm, with_selectivity(at), dose)
    matched = [effects_at_level(one.effects[arm], alphas, one.level) for one in found]
    equal = {m: units([one[m] for one in matched]) for m in matched[0]}
    reached, unit = equal.pop("reached"), "share that change pixels so much at some dose"
    rows.append(Row.of(arm, "reached", reached, unit=unit, dose=MATCHED))
    equal = with_selectivity(equal)
    return rows + measure_rows(arm, equal, MATCHED), equal


def rows_of(found: Sequence[Found], alphas: Sequence[float]) -> list[Row]:
    """Of every arm: the autoencoder, each dose, the doses that change pixels equally, and differences to the controls there."""
    rows, equal = reconstruction_rows(found), {}
    for arm in found[0].effects:
        arms, equal[arm] = arm_rows(found, arm, alphas)
        rows += arms
    for arm in (*CONTROLS, CLASS_MEAN):
        difference = {metric: equal[SAE][metric] - equal[arm][metric] for metric in COMPARED}
        rows += measure_rows(f"{SAE} - {arm}", difference, MATCHED)
    return rows


def tables(result: Result) -> str:
    """Arms down, metrics across: at equal pixel change, and at the dose of one spread."""
    doses = (row["dose"] for row in result.rows if isinstance(row["dose"], float))
    one = min(doses, key=lambda dose: abs(math.log(dose)))
    parts = [origin(result), result.extra["note"]]
    for dose, title in ((MATCHED, "At equal change of pixels"), (one, f"At equal norm, {one:g} spreads")):
        rows = [row for row in result.rows if row["dose"] == dose and row.metric in UNITS]
        columns = {metric: metric for metric in UNITS if any(row.metric == metric for row in rows)}
        parts += [f"## {title}", pivot(rows, columns=columns, drop_empty=True)]
    return document(*parts, "; ".join(f"{metric}: {unit}" for metric, unit in UNITS.items()) + ".")


def strips(
    images: ArrayLike, path: str | os.PathLike[str], *, rows: Sequence[str], columns: Sequence[str], title: str = ""
) -> None:
    """Write images ``(rows, columns, height, width, channels)``, floats in [0, 1] or uint8, rows and columns named.

    Raises:
      ValueError: names that do not fit the images, or images that :func:`tile` cannot draw.
    """
    values = np.asarray(images)
    if values.ndim != 5 or values.shape[:2] != (len(rows), len(columns)):
        raise ValueError(
            f"images must be ({len(rows)}, {len(columns)}, height, width, channels) for these names, got {values.shape}."
        )
    picture = tile(values.reshape(-1, *values.shape[2:]), columns=len(columns))
    height, width = picture.shape[:2]
    figure = Figure(figsize=(width / 90 + 0.8, height / 90 + 0.7), layout="constrained")
    axis = figure.subplots()
    axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
    axis.set_xticks((np.arange(len(columns)) + 0.5) * width / len(columns), columns, fontsize=8)
    axis.set_yticks((np.arange(len(rows)) + 0.5) * height / len(rows), rows, fontsize=8)
    axis.tick_params(length=0)
    axis.set_frame_on(False)
    axis.set_title(title, fontsize=9)
    _save(figure, path)


def dose_response_curves(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw each arm's course over the doses: against the dose, and against what it did to images otherwise.

    Args:
      rows: of a published result: ``arm``, ``metric``, ``dose`` (a number in the rows that are drawn), ``mean``, ``low`` and
        ``high`` (None without an interval).
      path: PNG to write.
      title: above the panels.

    Raises:
      ValueError: no rows along doses.
    """
    found = {(r["arm"], r["metric"], r["dose"]): r for r in rows if isinstance(r.get("dose"), (int, float))}
    doses = sorted({dose for _, _, dose in found})
    arms = list(dict.fromkeys(arm for arm, _, _ in found))
    if not doses:
        raise ValueError("rows hold no doses: there is nothing to draw.")

    def course(arm: str, metric: str, field: str = "mean") -> np.ndarray:
        values = [dose if metric == "dose" else found[arm, metric, dose][field] for dose in doses]
        return np.array([0.0, *(np.nan if v is None else v for v in values)])

    figure = Figure(figsize=(13, 7.4), layout="constrained")
    for axis, (x, y) in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        for index, arm in enumerate(arms):
            axis.plot(course(arm, x), course(arm, y), marker="o", ms=3, lw=1.3, color=f"C{index}", label=arm)
            if x == "dose":
                low, high = course(arm, y, "low"), course(arm, y, "high")
                axis.fill_between(course(arm, x), low, high, color=f"C{index}", alpha=0.12, lw=0)
        if x == "dose":
            axis.set_xscale("symlog", linthresh=doses[0])
            axis.set_xticks([0, *doses], [f"{d:g}" for d in (0, *doses)])
            axis.minorticks_off()
        axis.set(xlabel=LABELS[x], ylabel=LABELS[y])
        axis.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    _save(figure, path)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    write_figure(figure, path, dpi=90)
