"""The tables of ``python -m benchmarks.forms``."""

from benchmarks.harness.reports.parts import Result, busy_note, by_work, cell, finish, heading, table, turns

COLUMNS = {"ratio": "times {}", "throughput": "GFLOP/s", "compile": "compile, s", "peak_memory": "peak, MiB"}


def markdown(result: Result) -> str:
    """One table for each contrast, medians over repeats with quartiles in brackets."""
    settings = result["settings"]
    rows, width = settings["chosen_among"]
    lines = [
        *heading(result),
        f"{turns(result)}, quartiles in brackets. Precision of float32 products: JAX's {settings['precision']}. Of ensembles "
        "the steps of all seeds count.",
    ]
    for work, arms in by_work(result).items():
        found = {metric: next((m[metric] for m in arms.values() if metric in m), None) for metric in COLUMNS}
        titles = {m: COLUMNS[m].format(one.get("against")) for m, one in found.items() if one is not None}
        unit = next(iter(arms.values()))["rate"]["unit"]
        cells = [[arm, *(cell(metrics.get(m)) for m in ("rate", *titles))] for arm, metrics in arms.items()]
        lines += ["", f"## {work}", "", *table(["", unit, *titles.values()], cells)]
    notes = [
        "Ratios pair the turns of one repeat.",
        *([f"TopK chooses 32 among {width:,} in each of {rows:,} rows."] if "topk" in by_work(result) else []),
        *busy_note(result),
        *(f"Not timed: {row['work']}, {row['arm']}: {row['reason']}" for row in result["skipped"]),
    ]
    return finish(lines, notes)
