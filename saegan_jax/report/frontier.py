"""What sparsity costs: error, dead units and probe accuracy against the number of active units."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from saegan_jax.report.figures import write_figure

PANELS = {
    "fvu_active": "FVU, reconstructed from active codes",
    "dead_fraction": "dead units",
    "probe_accuracy": "probe accuracy",
}
MARKERS = "osD^vP*Xh<>"


def frontier(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw one line per variant through its combinations, against L0, with intervals over seeds in both directions.

    Args:
      rows: of a published sweep: ``variant``, ``arm``, ``metric`` (``l0`` and those of :data:`PANELS`), ``mean``, ``low`` and
        ``high``, each None where there is none. A metric that no row has gets no panel.
      path: PNG to write.
      title: above the panels.

    Raises:
      ValueError: no row with an L0.
    """
    found = {(row["arm"], row["metric"]): row for row in rows if row["mean"] is not None}
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    arms = {v: list(dict.fromkeys(row["arm"] for row in rows if row["variant"] == v)) for v in variants}
    panels = [metric for metric in PANELS if any(key[1] == metric for key in found)]
    if not panels or not any(key[1] == "l0" for key in found):
        raise ValueError("rows hold no L0 with another metric beside it: there is nothing to draw.")
    figure = Figure(figsize=(4.6 * len(panels), 4.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, metric in zip(axes, panels, strict=True):
        for index, variant in enumerate(variants):
            points = _points(found, arms[variant], metric)
            if not points:
                continue
            x, y = ([pair[side]["mean"] for pair in points] for side in (0, 1))
            x_error, y_error = (_errors([pair[side] for pair in points]) for side in (0, 1))
            axis.errorbar(
                x, y, xerr=x_error, yerr=y_error, label=variant, color=f"C{index}", lw=1, capsize=2, ms=4,
                marker=MARKERS[index % len(MARKERS)],
            )  # fmt: skip
            every = _points(found, arms[variant], "fvu") if metric == "fvu_active" else []
            if len(every) == len(y) and any(b["mean"] < 0.99 * a for a, (_, b) in zip(y, every, strict=True)):
                # What the faint codes add, which no L0 counts.
                axis.plot(
                    x, [b["mean"] for _, b in every], ls=":", lw=1, color=f"C{index}", label=f"{variant}, with faint codes"
                )  # fmt: skip
        axis.set_xscale("log")
        if metric.startswith("fvu"):
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(_plain)
            axis.yaxis.set_minor_formatter(_plain)
            axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.xaxis.set_major_formatter(_plain)
        axis.xaxis.set_minor_formatter(_plain)
        axis.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.set(xlabel="active units per image (L0)", ylabel=PANELS[metric])
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    write_figure(figure, path, dpi=100)


def _points(found: Mapping[Any, Any], arms: Sequence[str], metric: str) -> list[tuple[Any, Any]]:
    """``(L0's row, the metric's row)`` of the combinations that have both, in order of L0."""
    points = [(found[arm, "l0"], found[arm, metric]) for arm in arms if (arm, "l0") in found and (arm, metric) in found]
    return sorted(points, key=lambda pair: pair[0]["mean"])


def _plain(value: float, _: int) -> str:
    return f"{value:g}"


def _errors(points: Sequence[Mapping[str, Any]]) -> list[list[float]] | None:
    if any(point["low"] is None for point in points):
        return None
    return [[p["mean"] - p["low"] for p in points], [p["high"] - p["mean"] for p in points]]
