"""The tables of ``python -m benchmarks.scaling``."""

from collections.abc import Mapping
from typing import Any

from benchmarks.harness.reports.parts import (
    Result,
    arrays_of,
    busy_note,
    by_work,
    finish,
    heading,
    number,
    percent,
    rates,
    table,
    turns,
)

TITLES = (
    *("steps/s", "images/s", "ms a step", "GFLOP/s", "of the product rate", "floor: operations", "floor: memory"),
    *("peak, MiB", "held by"),
)


def held_by(step: float, compute: float, memory: float) -> str:
    """What holds a step, by its time and its two floors: the larger floor, if it is at least half of the time."""
    if max(compute, memory) < step / 2:
        return "neither"
    if compute >= memory:
        return "operations"
    return "memory" if memory <= step else "memory, partly from a cache"


def _cells(value: str, metrics: Mapping[str, Any]) -> list[str]:
    median = {metric: row["median"] for metric, row in metrics.items()}
    cells = [f"{int(value):,}", *(number(median[m]) for m in ("rate", "images", "step"))]
    if "share" not in median:
        return cells + [""] * 6
    bounds = median["floor_compute"], median["floor_memory"]
    cells += [number(median["throughput"]), percent(median["share"]), *map(number, bounds)]
    return [*cells, number(median["peak_memory"]), held_by(median["step"], *bounds)]


def markdown(result: Result) -> str:
    """One table per series."""
    lines = [
        *heading(result),
        f"{turns(result)}. {rates(result)}{arrays_of(result)}",
        "",
        "Times are of one step of one seed. A step is held by the larger of its two floors where that is at least half of its "
        "time; where neither is, its operations run below both rates, for being small or of another kind than large products "
        "and copies: `python -m benchmarks.bounds` shows which.",
    ]
    for work, arms in by_work(result).items():
        axis = work.rsplit(", ", 1)[-1]
        rows = [_cells(value, metrics) for value, metrics in arms.items()]
        lines += ["", f"## {work}", "", *table((axis, *TITLES), rows)]
        for row in (row for row in result["not_run"] if row["work"] == work):
            lines += ["", f"Not run: {axis} {row['value']:,}: {row['reason']}."]
    notes = ["The memory floor counts every byte that instructions read and write as coming from main memory."]
    return finish(lines, [*notes, *busy_note(result, "a point")])
