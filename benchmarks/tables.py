"""The Markdown table of a results file."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

BUSY = 0.1  # cores; above it threads that wait for each other lose far more than their share
REPORTS = ("bounds", "scaling", "feeding")
"""Modules here whose own ``markdown(result)`` describes the results that name them under ``"report"``."""

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


def number(value: float) -> str:
    """Three digits, or all of a thousand and more."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def percent(value: float) -> str:
    """A share as whole per cent, below 10 % with one decimal."""
    return f"{value:.0%}" if value >= 0.1 else f"{value:.1%}"


def cell(row: Mapping[str, Any] | None) -> str:
    """The median with its quartiles in brackets, or the only value; nothing where there is no row."""
    if row is None:
        return ""
    text: Callable[[float], str] = percent if row["metric"] == "share" else number
    if len(row["values"]) == 1:
        return text(row["median"])
    return f"{text(row['median'])} ({text(row['low'])} to {text(row['high'])})"


def by_work(result: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Mapping[str, Any]]]]:
    """The rows of a result as ``{work: {arm: {metric: row}}}``, in order of appearance."""
    works: dict[str, dict[str, dict[str, Mapping[str, Any]]]] = {}
    for row in result["rows"]:
        works.setdefault(row["work"], {}).setdefault(row["arm"], {})[row["metric"]] = row
    return works


def markdown(result: Mapping[str, Any]) -> str:
    """The result as Markdown: one table for each work, medians over repeats with quartiles in brackets.

    A result that names one of :data:`REPORTS` is described by that module instead. Older results lack some metrics, and
    their tables the columns.
    """
    if (report := result.get("report")) is not None:
        if report not in REPORTS:
            raise ValueError(
                f"report = {report!r} names no kind of result; use one of {', '.join(REPORTS)}, or leave it out."
            )
        described: str = importlib.import_module(f"benchmarks.{report}").markdown(result)
        return described
    settings, machine = result["settings"], result.get("machine")
    packages = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        f"# {result['name']}",
        "",
        f"`{result['command']}` on {result['device']}; {packages}; commit {result['commit']}.",
        f"{settings['repeats']} repeats by turns of at least {settings['seconds']} s; medians, quartiles in brackets. "
        f"{settings['n_images']:,} uint8 images in memory, float32.",
    ]
    if machine is not None:
        lines.append(
            f"Measured here: {machine['flops_per_s'] / 1e9:,.4g} GFLOP/s in the best float32 matrix product, "
            f"{machine['bytes_per_s'] / 1e9:.3g} GB/s from and to memory."
        )
    for work, arms in by_work(result).items():
        columns = {"rate": next(iter(arms.values()))["rate"]["unit"]}
        for metric, title in COLUMNS.items():
            found = [found[metric] for found in arms.values() if metric in found]
            if found:
                columns[metric] = title.format(found[0].get("against"))
        lines += ["", f"## {work}", "", "| | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
        lines += [f"| {arm} | " + " | ".join(cell(m.get(c)) for c in columns) + " |" for arm, m in arms.items()]
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(result)), ""])


def summary(result: Mapping[str, Any]) -> str:
    """A line for each work with peers: the scan and the ensemble beside the fastest float32 peer, and that beside bfloat16."""
    lines = [
        f"# {result['name']}, in short",
        "",
        f"`{result['command']}` on {result['device']}; medians of {result['settings']['repeats']} turns, "
        "quartiles in brackets.",
        "",
        "| work | ours, steps/s | the fastest in float32 | ours over it | members together, seed-steps/s "
        "| over PyTorch in bfloat16 |",
        "|---|---|---|---|---|---|",
    ]
    for work, arms in by_work(result).items():
        ours = arms.get("ours, scan", {})
        if "speedup" not in ours:
            continue
        fastest = ours["speedup"]["against"]
        together = next((m for arm, m in arms.items() if arm.startswith("ours,") and arm.endswith("seeds")), {})
        peer = f"{fastest}: {cell(arms[fastest]['rate'])}"
        cells = [ours["rate"], peer, ours["speedup"], together.get("rate"), ours.get("speedup_bf16")]
        shown = (entry if isinstance(entry, str) else cell(entry) for entry in cells)
        lines.append(f"| {work} | " + " | ".join(shown) + " |")
    return "\n".join([*lines, ""])


def _notes(result: Mapping[str, Any]) -> list[str]:
    """What to know of the numbers."""
    metrics = {row["metric"] for row in result["rows"]}
    new = result.get("machine") is not None
    notes = []
    if "flops" in metrics:
        counted = "program's, loops as often as they run" if new else "single step's (`cost_analysis`)"
        notes.append(
            f"Operations of ours are the compiled {counted}; PyTorch's those of its matrix products and "
            "convolutions (`FlopCounterMode`)."
        )
    if "speedup" in metrics:
        peer = "float32 peer" if new else "PyTorch variant"
        notes.append(f"Ratios pair the turns of one repeat, against the {peer} with the highest median.")
    if any(row.get("dtype") == "bfloat16" for row in result["rows"]):
        notes.append(
            "Peers in bfloat16 compute with less precision than all else here; the float32 ratios leave them out."
        )
    if "floor_memory" in metrics:
        notes.append(
            "The floors are a step's operations and bytes at the rates measured here; what stays in a cache is faster than "
            "the memory's."
        )
    if "peak_memory" in metrics:
        notes.append(
            "Peak memory of ours and of Flax is the compiled program's (arguments, results, temporary buffers); of the others "
            "what the process grew by while it trained."
        )
    if result["agreement"]:
        worst = max(result["agreement"], key=lambda row: row["relative_error"] / row["tolerance"])
        notes.append(
            f"Before timing, both sides took the same steps on the same weights, batches and noise: {len(result['agreement'])} "
            f"quantities agreed, the one nearest its tolerance being {worst['quantity']} of {worst['work']} "
            f"({worst['arm']}: {worst['relative_error']:.1g}, tolerance {worst['tolerance']:.0e})."
        )
    left = result.get("not_compared", [])
    notes += [f"Not compared: {row['work']}, {row['arm']}: {', '.join(row['quantities'])}." for row in left]
    busy = max((row["median"] for row in result["rows"] if row["metric"] == "other load"), default=0.0)
    if busy > BUSY:
        notes.append(f"**The machine was busy**: other processes used up to {busy:.2g} cores (median of an arm).")
    return notes + [f"Not timed: {row['work']}, {row['arm']}: {row['reason']}" for row in result["skipped"]]
