"""Tables and pictures of results: one module a kind of result, and the registry of the kinds."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.harness.reports import aot, bounds, feeding, forms, pictures, quality, scaling, steps
from benchmarks.harness.reports.parts import Result, by_work


class Report(NamedTuple):
    """How one kind of result is shown.

    Attributes:
      markdown: its tables.
      picture: a PNG, for kinds that have one.
      summary: a short table; None for a result that has none.
    """

    markdown: Callable[[Result], str]
    picture: Callable[[Result], bytes] | None = None
    summary: Callable[[Result], str | None] = lambda result: None


def _steps_summary(result: Result) -> str | None:
    """Only of works with peers."""
    return steps.summary(result) if any(row["metric"] == "speedup" for row in result["rows"]) else None


STEPS = "steps"
"""The kind of results that name none."""
REPORTS = {
    STEPS: Report(steps.markdown, pictures.steps, _steps_summary),
    "bounds": Report(bounds.markdown),
    "scaling": Report(scaling.markdown, pictures.scaling),
    "feeding": Report(feeding.markdown),
    "aot": Report(aot.markdown),
    "forms": Report(forms.markdown, pictures.steps),
    "quality": Report(quality.markdown, quality.picture),
}


def report_of(result: Result) -> Report:
    """How a result is shown, by the kind that it names under ``"report"``.

    Raises:
      ValueError: an unknown kind.
    """
    kind = result.get("report", STEPS)
    if kind not in REPORTS:
        raise ValueError(
            f"report = {kind!r} names no kind of result; use one of {', '.join(REPORTS)}, or leave it out."
        )
    return REPORTS[kind]


def markdown(result: Result) -> str:
    """The tables of a result."""
    return report_of(result).markdown(result)


__all__ = ["REPORTS", "STEPS", "Report", "Result", "by_work", "markdown", "report_of"]
