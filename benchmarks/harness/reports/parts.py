"""What all tables are made of."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

BUSY = 0.1  # cores; above it threads that wait for each other lose far more than their share
Result = Mapping[str, Any]


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


def by_work(result: Result) -> dict[str, dict[str, dict[str, Mapping[str, Any]]]]:
    """The rows of a result as ``{work: {arm: {metric: row}}}``, in order of appearance."""
    works: dict[str, dict[str, dict[str, Mapping[str, Any]]]] = {}
    for row in result["rows"]:
        works.setdefault(row["work"], {}).setdefault(row["arm"], {})[row["metric"]] = row
    return works


def heading(result: Result) -> list[str]:
    """Title, command, device and versions; of a run that was stopped, what is missing."""
    packages = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    origin = f"`{result['command']}` on {result['device']}; {packages}; commit {result['commit']}."
    lines = [f"# {result['name']}", ""]
    if "incomplete" in result:
        left = result["incomplete"]
        lines += [f"**Incomplete**: {left['reason']}; not finished: {', '.join(left['not_finished'])}.", ""]
    return [*lines, origin]


def turns(result: Result) -> str:
    """How often and how long each program was timed."""
    settings = result["settings"]
    return f"{settings['repeats']} repeats by turns of at least {settings['seconds']} s; medians"


def rates(result: Result) -> str:
    """The measured rates of the machine."""
    machine = result["machine"]
    return (
        f"Measured here: {machine['flops_per_s'] / 1e9:,.4g} GFLOP/s in the best float32 matrix product, "
        f"{machine['bytes_per_s'] / 1e9:.3g} GB/s from and to memory"
    )


def arrays_of(result: Result) -> str:
    """The arrays that the memory's rate was measured with."""
    return f" (two arrays of {result['settings']['array_bytes'] / 2**20:,.0f} MiB)."


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    head = "| " + " | ".join(columns) + " |" if columns[0] else "| | " + " | ".join(columns[1:]) + " |"
    lines = [head, "|---" * len(columns) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def load(result: Result) -> float:
    """The most cores that other processes used, as the median of an arm."""
    return max((row["median"] for row in result["rows"] if row["metric"] == "other load"), default=0.0)


def busy_note(result: Result, of: str = "an arm") -> list[str]:
    """A note on other processes, where they used cores that the benchmark needed."""
    cores = load(result)
    if cores <= BUSY:
        return []
    return [f"**The machine was busy**: other processes used up to {cores:.2g} cores (median of {of})."]


def finish(lines: Sequence[str], notes: Iterable[str]) -> str:
    """Lines and, below them, notes as one text."""
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])
