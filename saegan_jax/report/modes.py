"""How many modes a generator finds, as a table beside published rows and a perfect generator."""

from collections.abc import Sequence
from typing import NamedTuple

from saegan_jax.report.table import Result, Row, cell, document, floor_rows, origin, pivot


class Metric(NamedTuple):
    """A column of the table: its name in the scores, its heading, its unit, and whether more is better."""

    name: str
    heading: str
    unit: str
    more_is_better: bool


MODES = Metric("modes", "modes", "count", True)
HIGH_QUALITY = Metric("high_quality", "high quality", "share", True)
REVERSE_KL = Metric("reverse_kl", "reverse KL, nats", "nats", False)
MIXTURE_METRICS = (MODES, HIGH_QUALITY, REVERSE_KL)
STACKED_METRICS = (MODES, REVERSE_KL)


def published_or_ours(row: Row | None) -> str:
    """The published value as it was printed, or ours with its interval."""
    if row is None or row.published is None:
        return cell(row, digits=4)
    return f"{row.published:g}"


def tables(result: Result, metrics: Sequence[Metric]) -> str:
    """For each case a perfect generator, the published rows, and ours."""
    shown: list[Row] = []
    for case in dict.fromkeys(row["case"] for row in result.rows):
        of_case = [row for row in result.rows if row["case"] == case]
        shown += [*floor_rows(of_case, "*a perfect generator*"), *of_case]
    columns = {metric.heading: metric.name for metric in metrics}
    table = pivot(shown, index=("case", "arm"), corner=("", "method"), columns=columns, cell=published_or_ours)
    return document(origin(result), table, result.extra["note"])
