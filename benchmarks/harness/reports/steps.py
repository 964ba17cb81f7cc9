"""The tables of ``python -m benchmarks.run``."""

from collections.abc import Mapping
from typing import Any

from benchmarks.harness.reports.parts import Result, busy_note, by_work, cell, finish, heading, rates, table, turns

COLUMNS = {
    "images": "images/s",
    "speedup": "times {}",
    "speedup_bf16": "times {}",
    "aggregate": "times one seed",
    "throughput": "GFLOP/s",
    "share": "of the product rate",
    "flops": "MFLOP a step",
    "floor_compute": "floor: operations, ms",
    "floor_memory": "floor: memory, ms",
    "compile": "compile, s",
    "peak_memory": "peak, MiB",
}
"""Metrics after the rate, in order, and their titles; ``{}`` is what a ratio is against."""


def _columns(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The metrics that some arm has, with their titles."""
    columns = {"rate": next(iter(arms.values()))["rate"]["unit"]}
    for metric, title in COLUMNS.items():
        found = [metrics[metric] for metrics in arms.values() if metric in metrics]
        if found:
            columns[metric] = title.format(found[0].get("against"))
    return columns


def markdown(result: Result) -> str:
    """One table for each work, medians over repeats with quartiles in brackets; older results lack some metrics."""
    lines = [
        *heading(result),
        f"{turns(result)}, quartiles in brackets. {result['settings']['n_images']:,} uint8 images in memory, float32.",
    ]
    if result.get("machine") is not None:
        lines.append(f"{rates(result)}.")
    for work, arms in by_work(result).items():
        columns = _columns(arms)
        rows = [[arm, *(cell(metrics.get(c)) for c in columns)] for arm, metrics in arms.items()]
        lines += ["", f"## {work}", "", *table(["", *columns.values()], rows)]
    return finish(lines, _notes(result))


def summary(result: Result) -> str:
    """A line for each work with peers: the scan and the ensemble beside the fastest float32 peer, and that beside bfloat16."""
    lines = [
        f"# {result['name']}, in short",
        "",
        f"`{result['command']}` on {result['device']}; medians of {result['settings']['repeats']} turns, "
        "quartiles in brackets.",
        "",
    ]
    rows = []
    for work, arms in by_work(result).items():
        ours = arms.get("ours, scan", {})
        if "speedup" not in ours:
            continue
        fastest = ours["speedup"]["against"]
        together = next((m for arm, m in arms.items() if arm.startswith("ours,") and arm.endswith("seeds")), {})
        peer = f"{fastest}: {cell(arms[fastest]['rate'])}"
        after = (ours["speedup"], together.get("rate"), ours.get("speedup_bf16"))
        rows.append([work, cell(ours["rate"]), peer, *map(cell, after)])
    columns = (
        *("work", "ours, steps/s", "the fastest in float32", "ours over it", "members together, seed-steps/s"),
        "over PyTorch in bfloat16",
    )
    return "\n".join([*lines, *table(columns, rows), ""])


def _agreement_note(result: Result) -> list[str]:
    if not result["agreement"]:
        return []
    worst = max(result["agreement"], key=lambda row: row["relative_error"] / row["tolerance"])
    return [
        f"Before timing, both sides took the same steps on the same weights, batches and noise: {len(result['agreement'])} "
        f"quantities agreed, the one nearest its tolerance being {worst['quantity']} of {worst['work']} "
        f"({worst['arm']}: {worst['relative_error']:.1g}, tolerance {worst['tolerance']:.0e})."
    ]


def _notes(result: Result) -> list[str]:
    """What to know of the numbers."""
    metrics = {row["metric"] for row in result["rows"]}
    new = result.get("machine") is not None
    counted = "program's, loops as often as they run" if new else "single step's (`cost_analysis`)"
    peer = "float32 peer" if new else "PyTorch variant"
    of_metric = {
        "flops": f"Operations of ours are the compiled {counted}; PyTorch's those of its matrix products and "
        "convolutions (`FlopCounterMode`).",
        "speedup": f"Ratios pair the turns of one repeat, against the {peer} with the highest median.",
        "bfloat16": "Peers in bfloat16 compute with less precision than all else here; the float32 ratios leave them out.",
        "floor_memory": "The floors are a step's operations and bytes at the rates measured here; what stays in a cache is "
        "faster than the memory's.",
        "peak_memory": "Peak memory of ours and of Flax is the compiled program's (arguments, results, temporary buffers); of "
        "the others what the process grew by while it trained.",
    }
    if any(row.get("dtype") == "bfloat16" for row in result["rows"]):
        metrics.add("bfloat16")
    left = result.get("not_compared", [])
    return [
        *(note for metric, note in of_metric.items() if metric in metrics),
        *_agreement_note(result),
        *(f"Not compared: {row['work']}, {row['arm']}: {', '.join(row['quantities'])}." for row in left),
        *busy_note(result),
        *(f"Not timed: {row['work']}, {row['arm']}: {row['reason']}" for row in result["skipped"]),
    ]
