"""The table of ``python -m benchmarks.aot``."""

from benchmarks.harness.reports.parts import Result, by_work, finish, heading, number, percent, table

COLUMNS = {
    "estimate": "ms a step, estimated",
    "share": "of the bf16 peak",
    "flops": "GFLOP a chip",
    "arguments": "state and batch, MiB a chip",
    "temporaries": "temporaries, MiB a chip",
    "collectives": "collectives",
    "sent": "sent, MiB a chip",
}


def markdown(result: Result) -> str:
    """One line for each program."""
    rows = []
    for work, arms in by_work(result).items():
        for arm, metrics in arms.items():
            cells = [
                (percent if metric == "share" else number)(metrics[metric]["median"]) if metric in metrics else ""
                for metric in COLUMNS
            ]
            notes = [n["note"] for n in result.get("notes", ()) if (n["work"], n["arm"]) == (work, arm)]
            rows.append([work, arm, *cells, "; ".join(notes)])
    lines = [
        *heading(result),
        "",
        "**Estimates of the compiler's cost model, not timings**: nothing was run. Sending between chips is not in the time.",
        "",
        *table(["work", "chips", *COLUMNS.values(), "left out of the time"], rows),
    ]
    notes = [
        "A loop of known length counts as often as it runs, in the time but not in the operations.",
        "Milliseconds are the compiler's cycles over the clock at which the chip's matrix units reach its published peak.",
        *(f"Left out: {row['work']}: {row['reason']}" for row in result.get("skipped", ())),
    ]
    return finish(lines, notes)
