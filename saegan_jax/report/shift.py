"""What a shift of the data costs every model, as published rows, tables and one picture."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from saegan_jax.evaluation.shift import UNSEEN, UNSHIFTED, ShiftScores
from saegan_jax.report.figures import write_figure
from saegan_jax.report.table import Result, Row, document, origin, pivot

LIVE = 1e-3  # a feature lives in a set if it is active in at least this share of it
METRICS = {
    "reconstruction_ratio": "squared error over that on unshifted test images",
    "fvu": "share of the shifted set's variance",
    "l0": "active units",
    "live_overlap": "features live in both sets over those live in either",
    "probe_accuracy": "share of images, probe fitted on unshifted codes",
}
"""Measures and their units."""
PANELS = {
    "reconstruction_ratio": "squared error / unshifted",
    "l0": "active units (L0)",
    "live_overlap": "overlap of live features",
    "probe_accuracy": "probe accuracy",
}


def measures(here: ShiftScores, there: ShiftScores) -> dict[str, float]:
    """Every measure of one seed on a shifted set, beside the unshifted one."""
    live_here, live_there = here.density >= LIVE, there.density >= LIVE
    both, either = (float(np.sum(live)) for live in (live_here & live_there, live_here | live_there))
    return {
        "reconstruction_ratio": there.mse / here.mse,
        "fvu": there.fvu,
        "l0": there.l0,
        "live_overlap": both / max(either, 1.0),
        "probe_accuracy": there.accuracy,
    }


def rows_of(model: str, scores: Mapping[str, Sequence[ShiftScores]]) -> list[Row]:
    """One row per test set and measure; none of a probe's accuracy on classes of which it has seen no label."""
    rows = []
    for name, shifted in scores.items():
        found = [measures(here, there) for here, there in zip(scores[UNSHIFTED], shifted, strict=True)]
        shown = {metric: unit for metric, unit in METRICS.items() if (name, metric) != (UNSEEN, "probe_accuracy")}
        rows += [
            Row.of(model, metric, [one[metric] for one in found], unit=unit, shift=name)
            for metric, unit in shown.items()
        ]
    return rows


def tables(result: Result) -> str:
    """One table per measure: shifts down, models across."""
    parts = [origin(result), result.extra["note"]]
    shifts = dict.fromkeys(row["shift"] for row in result.rows)
    for metric, unit in METRICS.items():
        # A shift without this measure has its line too, so that all tables have the same lines.
        empty = [Row(arm=result.rows[0].arm, metric=metric, extra={"shift": shift}) for shift in shifts]
        rows = [*empty, *(row for row in result.rows if row.metric == metric)]
        parts += [f"## {metric.replace('_', ' ')} ({unit})", pivot(rows, index="shift", columns="arm")]
    return document(*parts)


def shift_curves(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw a panel per metric: shifts along the axis, a point with its interval over seeds for every model.

    Args:
      rows: of a published result: ``arm``, ``shift``, ``metric``, ``mean``, ``low`` and ``high`` (None without seeds).
      path: PNG to write.
      title: above the panels.

    Raises:
      ValueError: no row of a metric that has a panel.
    """
    found = {(row["arm"], row["shift"], row["metric"]): row for row in rows}
    panels = [metric for metric in PANELS if any(row["metric"] == metric for row in rows)]
    if not panels:
        raise ValueError(f"rows hold none of {', '.join(PANELS)}: there is nothing to draw.")
    arms, shifts = (list(dict.fromkeys(row[key] for row in rows)) for key in ("arm", "shift"))
    figure = Figure(figsize=(10, 2.6 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for axis, metric in zip(axes, panels, strict=True):
        for index, arm in enumerate(arms):
            points = [(i, found[arm, s, metric]) for i, s in enumerate(shifts) if (arm, s, metric) in found]
            x = np.array([i for i, _ in points]) + 0.8 * ((index + 0.5) / len(arms) - 0.5)
            y = np.array([row["mean"] for _, row in points])
            low = np.array([y_i if row["low"] is None else row["low"] for y_i, (_, row) in zip(y, points, strict=True)])
            high = np.array(
                [y_i if row["high"] is None else row["high"] for y_i, (_, row) in zip(y, points, strict=True)]
            )
            axis.errorbar(x, y, yerr=[y - low, high - y], fmt="o", ms=4, capsize=2, label=arm, color=f"C{index}")
        if metric in ("reconstruction_ratio", "l0"):
            axis.set_yscale("log")
        axis.set_ylabel(PANELS[metric], fontsize=9)
        axis.grid(alpha=0.3)
    axes[-1].set_xticks(range(len(shifts)), shifts, rotation=30, ha="right")
    axes[0].legend(fontsize=8, ncols=len(arms), loc="upper left")
    if title:
        figure.suptitle(title, fontsize=11)
    write_figure(figure, path, dpi=90)
