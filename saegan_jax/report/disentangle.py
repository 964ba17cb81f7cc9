"""How codes share known factors among them, as published rows and tables: every arm, and its change against the baselines."""

from collections.abc import Mapping, Sequence
from typing import Any

from saegan_jax.report.comparison import percent
from saegan_jax.report.table import Result, Row, Text, document, each, floor_rows, origin, pivot
from saegan_jax.stats import effects

METRICS = {
    "disentanglement": "0 to 1: whether a code depends on one factor alone; higher is better",
    "completeness": "0 to 1: whether a factor is captured by one code alone; higher is better",
    "informativeness": "share of test images whose level is predicted from all codes, mean over factors; higher is better",
    "mig": "0 to 1: mutual information gap between the two codes that say most of a factor; higher is better",
    "l0": "active codes",
    "fvu": "share of variance that the reconstruction leaves",
}
"""Measures and their units."""
COMPARED = ("disentanglement", "completeness", "informativeness", "mig")
TITLES = {"mig": "MIG", "l0": "L0", "fvu": "FVU"}
Values = Mapping[str, Sequence[float | None]]


def changes_of(values: Mapping[str, Values], baseline: str, metric: str) -> dict[str, dict[str, Any]]:
    """What every arm changes of a measure against a baseline, paired by seed, as one family of comparisons."""
    found = {arm: [float("nan") if v is None else v for v in mine[metric]] for arm, mine in values.items()}
    if baseline not in found:
        return {}
    arms = {arm: mine for arm, mine in found.items() if arm != baseline}
    compared = effects(dict.fromkeys(arms, found[baseline]), arms, lower_is_better=False)
    return {arm: effect._asdict() for arm, effect in compared.items()}


def rows_of(
    values: Mapping[str, Values], settings: Mapping[str, Any], *, baselines: Sequence[str], chance: float
) -> list[Row]:
    """One row for each measure of each arm, with its changes against the baselines."""
    changes = {(b, m): changes_of(values, b, m) for b in baselines for m in COMPARED}
    rows = []
    for arm, mine in values.items():
        for metric, unit in METRICS.items():
            against = {b: changes[b, metric][arm] for b in baselines if arm in changes.get((b, metric), {})}
            extra: dict[str, Any] = {"against": against} if against else {}
            extra |= {"settings": settings[arm]} if metric == "fvu" else {}
            floor = chance if metric == "informativeness" else None
            rows.append(Row.of(arm, metric, mine[metric], unit=unit, floor=floor, **extra))
    return rows


def _change(metric: str, baseline: str) -> Text:
    """A column that shows the change of a measure against a baseline."""
    return each("against", of=metric, form=lambda against: percent(against[baseline]) if baseline in against else "")


def tables(result: Result) -> str:
    """Arms down, measures across; then the changes against each baseline."""
    titles = {TITLES.get(metric, metric): metric for metric in METRICS}
    legend = "\n".join(f"- {title}: {METRICS[metric]}" for title, metric in titles.items())
    parts = [
        origin(result),
        result.extra["note"],
        pivot([*result.rows, *floor_rows(result.rows, "chance")], columns=titles),
        legend,
    ]
    baselines = dict.fromkeys(b for row in result.rows for b in row.get("against", {}))
    for baseline in baselines:
        columns: dict[str, str | Text] = {TITLES.get(metric, metric): _change(metric, baseline) for metric in COMPARED}
        rows = [row for row in result.rows if row.arm != baseline]
        title = f"## Change against {baseline}"
        parts += [title, pivot(rows, corner="arm", columns=columns, drop_empty=True)]
    return document(*parts)
