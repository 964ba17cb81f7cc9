"""How well generators obey their codes, as published rows and as a table."""

from collections.abc import Mapping, Sequence

from saegan_jax.report.table import Result, Row, document, floor_rows, origin, pivot

METRICS = {
    "code_r2": "share of variance of test images' codes that is read back from images drawn of them; higher is better",
    "auc": "area under the ROC curve of a unit's activity, on against off, mean over units; higher is better",
    "auc_above_0.9": "share of units with an AUC of at least 0.9; higher is better",
    "auc_alone": "the same area where no other unit is on; higher is better",
    "auc_alone_above_0.9": "share of units with such an area of at least 0.9; higher is better",
    "others": "change of all other units, over the distance of two samples; lower is better",
    "pixels": "change of pixels, over the distance of two samples",
    "precision": "share of images with a unit turned on that lie near real images; higher is better",
}
"""Measures and their units."""


def rows_of(scores: Mapping[str, Sequence[Mapping[str, float]]], floors: Mapping[str, float]) -> list[Row]:
    """One row for each run and measure; ``scores`` are those of each member."""
    return [
        Row.of(run, name, [one[name] for one in members], unit=unit, floor=floors.get(name))
        for run, members in scores.items()
        for name, unit in METRICS.items()
        if name in members[0]
    ]


def tables(result: Result) -> str:
    """Runs down, measures across."""
    titles = {row.metric.replace("_", " "): row.metric for row in result.rows}
    legend = "\n".join(f"- {title}: {METRICS[name]}" for title, name in titles.items())
    table = pivot([*floor_rows(result.rows, "real images"), *result.rows], columns=titles)
    return document(origin(result), result.extra["note"], table, legend)
