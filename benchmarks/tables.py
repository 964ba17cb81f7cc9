"""The Markdown table of a results file."""

from collections.abc import Mapping
from typing import Any


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if len(row["values"]) == 1:
        return _number(row["median"])
    return f"{_number(row['median'])} ({_number(row['low'])} to {_number(row['high'])})"


def markdown(result: Mapping[str, Any]) -> str:
    """The result as Markdown: one table for each work, medians over repeats with quartiles in brackets."""
    settings = result["settings"]
    packages = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        f"# {result['name']}",
        "",
        f"`{result['command']}` on {result['device']}; {packages}; commit {result['commit']}.",
        f"{settings['repeats']} repeats by turns of at least {settings['seconds']} s; medians, quartiles in brackets. "
        f"{settings['n_images']:,} uint8 images in memory, float32.",
    ]
    works: dict[str, dict[str, dict[str, Mapping[str, Any]]]] = {}
    for row in result["rows"]:
        works.setdefault(row["work"], {}).setdefault(row["arm"], {})[row["metric"]] = row
    baseline = next((row["against"] for row in result["rows"] if row["metric"] == "speedup"), None)
    for work, arms in works.items():
        against = next((m["speedup"]["against"] for m in arms.values() if "speedup" in m), None)
        unit = next(iter(arms.values()))["rate"]["unit"]
        columns = {"rate": unit}
        if against:
            columns["speedup"] = f"times {against}"
        columns |= {"aggregate": "times one seed"}
        columns |= {"throughput": "GFLOP/s", "flops": "MFLOP a step", "compile": "compile, s"}
        columns = {metric: title for metric, title in columns.items() if any(metric in m for m in arms.values())}
        lines += ["", f"## {work}", "", "| | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
        lines += [f"| {arm} | " + " | ".join(_cell(m.get(c)) for c in columns) + " |" for arm, m in arms.items()]
    notes = []
    if any(row["metric"] == "flops" for row in result["rows"]):
        notes.append(
            "Operations of ours are the compiled single step's (`cost_analysis`); PyTorch's those of its matrix products and "
            "convolutions (`FlopCounterMode`)."
        )
    if baseline:
        notes.append("Ratios pair the turns of one repeat, against the PyTorch variant with the highest median.")
    if result["agreement"]:
        worst = max(result["agreement"], key=lambda row: row["relative_error"] / row["tolerance"])
        notes.append(
            f"Before timing, both sides took the same steps on the same weights, batches and noise: {len(result['agreement'])} "
            f"quantities agreed, the one nearest its tolerance being {worst['quantity']} of {worst['work']} "
            f"({worst['arm']}: {worst['relative_error']:.1g}, tolerance {worst['tolerance']:.0e})."
        )
    busy = max((row["median"] for row in result["rows"] if row["metric"] == "other load"), default=0.0)
    if busy > BUSY:
        notes.append(f"**The machine was busy**: other processes used up to {busy:.2g} cores (median of an arm).")
    notes += [f"Not timed: {row['work']}, {row['arm']}: {row['reason']}" for row in result["skipped"]]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


BUSY = 0.1  # cores; above it threads that wait for each other lose far more than their share
