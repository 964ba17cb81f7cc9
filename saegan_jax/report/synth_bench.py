"""How well known features are found, as published rows and a table beside the published numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from saegan_jax.report.table import Result, Row, Text, document, each, floor_rows, origin, pivot

METRICS = {
    "mcc": "mean absolute cosine of units and features, one to one (Hungarian)",
    "f1": "of each unit as a detector of the feature nearest to it, mean over units",
    "precision": "of the examples in which a unit is active, the share in which its feature is",
    "recall": "of the examples in which the feature is active, the share in which its unit is",
    "uniqueness": "share of units left if of those nearest to one feature one is counted",
    "explained_variance": "share of variance",
    "l0": "active units",
    "dead_fraction": "share of units never active on the test draws",
}
"""Measures and their units."""
TITLES = {
    "mcc": "MCC", "f1": "F1", "explained_variance": "explained variance", "l0": "L0", "dead_fraction": "dead",
}  # fmt: skip
Values = Mapping[str, Sequence[float | None]]


def rows_of(
    values: Mapping[str, Values],
    settings: Mapping[str, Any],
    *,
    chance: float,
    published: Mapping[tuple[str, str], float],
) -> list[Row]:
    """One row for each measure of each arm; ``chance`` is the MCC of directions at random."""
    return [
        Row.of(
            arm,
            metric,
            mine[metric],
            unit=unit,
            floor=chance if metric == "mcc" else None,
            published=published.get((arm, metric)),
            **({"settings": settings[arm]} if metric == "l0" else {}),
        )
        for arm, mine in values.items()
        for metric, unit in METRICS.items()
    ]


def tables(result: Result) -> str:
    """Arms down, measures across; the published numbers beside ours where the size is the same."""
    columns: dict[str, str | Text] = {}
    for metric in METRICS:
        title = TITLES.get(metric, metric)
        columns[title] = metric
        if any(row.published is not None for row in result.rows if row.metric == metric):
            columns[f"{title}, published"] = each("published", of=metric, form="{:.3g}".format)
    legend = "\n".join(f"- {TITLES.get(metric, metric)}: {unit}" for metric, unit in METRICS.items())
    return document(
        origin(result),
        result.extra["note"],
        pivot([*result.rows, *floor_rows(result.rows, "chance")], columns=columns),
        legend,
    )
