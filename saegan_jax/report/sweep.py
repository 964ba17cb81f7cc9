"""A sweep of sparse autoencoders as published rows, a table, a recommendation, and a table for the terminal."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from saegan_jax.report.table import Result, Row, cell, document, each, origin, pivot

METRICS = {
    "l0": "active units",
    "fvu": "share of variance",
    "fvu_active": "share of variance, from active codes alone",
    "dead_fraction": "share of units",
    "probe_accuracy": "share of test images",
    "dictionary_match": "cosine between seeds",
    "coherence": "mean largest cosine",
}
"""Measures and their units."""
TITLES = ("L0", "FVU", "FVU of active", "dead", "probe", "seed match", "coherence")  # of METRICS
WITHIN = 0.2  # of the wanted L0


def validation_mean(row: Mapping[str, Any], name: str) -> float:
    """Mean over seeds of a measure on validation images; NaN without one."""
    values = [v for v in row["validation"][name] if v is not None]
    return float(np.mean(values)) if values else float("nan")


def recommend(rows: Sequence[Mapping[str, Any]], want_l0: float) -> str:
    """Of the combinations whose validation L0 is within 20 % of the wanted one, that with the fewest dead units, and of equal
    ones that with the least FVU; in words."""
    sound = [row for row in rows if not row["failed"]]
    if not sound:
        return "No combination trained without a failed member; lower the learning rate."
    near = [row for row in sound if abs(validation_mean(row, "l0") / want_l0 - 1) <= WITHIN]
    if not near:
        best = min(sound, key=lambda row: abs(np.log(max(validation_mean(row, "l0"), 1e-6) / want_l0)))
        return (
            f"No combination has an L0 within {WITHIN:.0%} of {want_l0:g} on validation images; the nearest is {best['arm']} "
            f"with {validation_mean(best, 'l0'):.3g}. Sweep values beside it."
        )
    # Shares of dead units that differ by less than half a percent are equal for any use.
    best = min(near, key=lambda row: (round(validation_mean(row, "dead_fraction") * 200), validation_mean(row, "fvu")))
    l0, dead, fvu = (validation_mean(best, name) for name in ("l0", "dead_fraction", "fvu"))
    return (
        f"For an L0 of {want_l0:g}: {best['arm']} (L0 {l0:.3g}, {dead:.1%} dead, FVU {fvu:.3g} on validation images; fewest "
        f"dead units among {len(near)} within {WITHIN:.0%}, ties by FVU)."
    )


def rows_of(combinations: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row per combination and measure, as published results have them."""
    return [
        Row.of(
            one["arm"], metric, one["metrics"][metric], unit=unit, skip_failed=True,
            **{key: one[key] for key in ("variant", "settings", "failed")},
        )
        for one in combinations
        for metric, unit in METRICS.items()
    ]  # fmt: skip


def tables(result: Result) -> str:
    """One line per combination, mean and interval over its seeds."""
    columns = {**dict(zip(TITLES, METRICS, strict=True)), "failed": each("failed", of="l0")}
    table = pivot(result.rows, columns=columns, cell=partial(cell, count_failed=False))
    return document(origin(result), table, result.extra["note"], result.extra["recommendation"])


def closing_table(result: Result) -> Table:
    """The means alone, which fit a terminal."""
    found = {(row.arm, row.metric): row for row in result.rows}
    arms = list(dict.fromkeys(row.arm for row in result.rows))
    table = Table(title=Text(result.name), title_justify="left")
    table.add_column("", no_wrap=True, min_width=max(map(len, arms)))
    for title in (*TITLES, "failed"):
        table.add_column(title, justify="right")
    for arm in arms:
        means = [found[arm, metric].mean for metric in METRICS]
        numbers = ["" if mean is None else f"{mean:.3g}" for mean in means]
        failed = found[arm, "l0"]["failed"]
        table.add_row(Text(arm), *numbers, Text(str(failed), style="red" if failed else ""))
    return table
