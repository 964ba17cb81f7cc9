"""The tables of ``python -m benchmarks.bounds``."""

import re
from collections.abc import Mapping
from typing import Any

from benchmarks.harness.program.operations import UNKNOWN_LOOP
from benchmarks.harness.reports.parts import Result, arrays_of, by_work, heading, rates

_FORMATS = {
    "step": ".4g",
    "floor_compute": ".3g",
    "floor_memory": ".3g",
    "share": ".0%",
    "flops": ",.4g",
    "bytes": ",.4g",
    "peak_memory": ",.4g",
}


def _source(op: Mapping[str, Any]) -> str:
    """The end of the path through the Python program, without what every operation of a scan has."""
    parts = [part for part in op["source"].split("/") if part not in ("while", "body", "closed_call", "jit(chunk)")]
    return "/".join(parts[-3:]).replace("|", "\\|")


def profile_markdown(one: Mapping[str, Any]) -> list[str]:
    """The lines of one work's profile: time by kind, and the costliest operations."""
    lines = [
        f"### {one['work']}: where the time of a step goes ({one['arm']})",
        "",
        f"Traced {one['steps']:,} steps, {one['traced_ms']:.4g} ms each; in {one['idle_share']:.1%} of that no thread ran an "
        f"operation ({one['pending_share']:.1%} without what still waited for a part of one).",
        "",
        "| kind | ms a step | share | runs a step | GFLOP/s | GB/s |",
        "|---|---|---|---|---|---|",
    ]
    for row in one["kinds"]:
        speeds = f"{row['gflops']:.3g} | {row['gbytes']:.3g}"
        lines.append(f"| {row['kind']} | {row['ms']:.4g} | {row['share']:.1%} | {row['count']:.3g} | {speeds} |")
    lines += ["", "| operation | kind | ms a step | share | GFLOP/s | GB/s | result | from |", "|---" * 8 + "|"]
    for row in one["ops"]:
        shape = re.sub(r"\{[^}]*\}", "", row["shape"])
        shape = shape if len(shape) < 40 else shape[:37] + "..."
        numbers = f"{row['ms']:.4g} | {row['share']:.1%} | {row['gflops']:.3g} | {row['gbytes']:.3g}"
        lines.append(f"| `{row['name']}` | {row['kind']} | {numbers} | `{shape}` | {_source(row)} |")
    return lines


def markdown(result: Result) -> str:
    """The floors of all works, then each work's profile."""
    lines = [
        *heading(result),
        f"{rates(result)}{arrays_of(result)}",
        "",
        "| | ms a step | floor: operations | floor: memory | of the product rate | MFLOP a step | MB a step | peak, MiB |",
        "|---" * 8 + "|",
    ]
    for work, arms in by_work(result).items():
        for arm, found in arms.items():
            cells = [format(found[m]["median"], f) if m in found else "" for m, f in _FORMATS.items()]
            lines.append(f"| {work}, {arm.removeprefix('ours, ')} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "- Operations and bytes are those of the compiled scan, loops as often as they run, divided by its steps; bytes are "
        "what instructions read and write.",
        "- The memory floor counts every byte as coming from main memory; what stays in a cache is faster.",
        "- Tracing slows small operations down: compare the traced time with the one above.",
    ]
    unknown = [one["work"] for one in result["profiles"] if any(r["kind"] == UNKNOWN_LOOP for r in one["breakdown"])]
    lines += [f"- A loop of unknown length is counted once in {', '.join(unknown)}."] * bool(unknown)
    lines += [f"- Not examined: {row['work']}: {row['reason']}" for row in result["skipped"]]
    for one in result["profiles"]:
        lines += ["", *profile_markdown(one)]
    return "\n".join([*lines, ""])
