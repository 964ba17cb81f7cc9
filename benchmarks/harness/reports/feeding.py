"""The table of ``python -m benchmarks.feeding``."""

from benchmarks.harness.reports.parts import Result, busy_note, by_work, cell, finish, heading, table, turns

COLUMNS = {
    "rate": "steps/s",
    "images": "images/s",
    "ratio": "times on the device",
    "data_wait": "waiting for data",
    "cpu": "CPU ms a step",
}


def markdown(result: Result) -> str:
    """One table for each step, medians over repeats with quartiles in brackets."""
    settings = result["settings"]
    lines = [
        *heading(result),
        f"{turns(result)}, quartiles in brackets. "
        f"{settings['threads']} reading threads. Images are synthetic: {settings['stored']}.",
    ]
    for work, arms in by_work(result).items():
        rows = [[arm, *(cell(metrics.get(c)) for c in COLUMNS)] for arm, metrics in arms.items()]
        lines += ["", f"## {work}", "", *table(["", *COLUMNS.values()], rows)]
    notes = [
        "On a CPU the reading takes the cores that the step computes on: it slows the step before it makes it wait.",
        "A turn begins with nothing read; its first block counts as waiting.",
    ]
    return finish(lines, [*notes, *busy_note(result)])
