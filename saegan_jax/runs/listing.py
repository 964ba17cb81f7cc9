"""Runs as text: one row each, or two side by side."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from saegan_jax.errors import ConfigError
from saegan_jax.runs.records import HEADLINES, Record, age, find_runs, read_record, read_scores, run_config, size_text
from saegan_jax.training.run_folder import flat
from saegan_jax.training.writers import warn

NO_TERMINAL = 1000  # columns: a file or a pipe gets one line for every run
UNSET = "unset"


def listing_console() -> Console:
    """As wide as the terminal, and wide where there is none."""
    console = Console(highlight=False)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(highlight=False, width=NO_TERMINAL)


def list_runs(root: Path, console: Console) -> None:
    """One row for every run below ``root``; one that cannot be read is named with the reason on stderr.

    Raises:
      ConfigError: no run there, or none that can be read.
    """
    records: list[Record] = []
    problems: list[ConfigError | OSError] = []
    for folder in find_runs(root):
        try:
            records.append(read_record(folder))
        except (ConfigError, OSError) as error:  # a file that may not be read, or a run deleted meanwhile
            problems.append(error)
    if not records:
        raise problems[0]
    console.print(as_rows(records, root, width=console.width, console=console))
    for problem in problems:
        warn(str(problem))


def as_rows(records: Sequence[Record], root: Path, *, width: int, console: Console) -> RenderableType:
    """A table, or where that is wider than ``width`` a paragraph for every run."""
    table = Table(box=None, pad_edge=False)
    for column in ("run", "training", "data", "state", "step", *HEADLINES, "written", "size"):
        table.add_column(column, no_wrap=True)
    for record in records:
        scores = [str(record.scores.get(name, "")) for name in HEADLINES]
        table.add_row(*map(Text, (_name(record, root), *_facts(record)[:2], record.state, _at(record), *scores)),
                      f"{age(record.written)} ago", size_text(record.size))  # fmt: skip
    if console.measure(table, options=console.options.update(max_width=NO_TERMINAL)).maximum <= width:
        return table
    return Group(*(_paragraph(record, root) for record in records))


def _name(record: Record, root: Path) -> str:
    return str(record.folder.relative_to(root)) if record.folder != root else str(root)


def _at(record: Record) -> str:
    steps = "" if record.steps is None else f" of {record.steps}"
    return f"{record.phase} {record.step}{steps}".strip()


def _facts(record: Record) -> tuple[str, ...]:
    return (record.training, record.dataset, f"{record.state}, {_at(record)}", f"{age(record.written)} ago",
            size_text(record.size))  # fmt: skip


def _paragraph(record: Record, root: Path) -> RenderableType:
    scores = [f"{name} {record.scores[name]}" for name in HEADLINES if name in record.scores]
    lines = [Text(", ".join(_facts(record)), overflow="fold")]
    lines += [Text(", ".join(scores), overflow="fold")] if scores else []
    return Group(Text(_name(record, root), style="bold", overflow="fold"), Padding(Group(*lines), (0, 0, 0, 2)))


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Settings in which two configurations differ: name, and the value of each; those of only one are ``"unset"``."""
    left, right = flat(a), flat(b)
    rows = [(name, left.get(name, UNSET), right.get(name, UNSET)) for name in sorted(left.keys() | right.keys())]
    return [(name.removeprefix("options."), x, y) for name, x, y in rows if x != y]


def compare_runs(a: Path, b: Path, console: Console) -> None:
    """The settings in which two runs differ, and their scores side by side.

    Raises:
      ConfigError: no run, or one with a file that cannot be read.
    """
    configs, scores = [run_config(a), run_config(b)], [read_scores(a), read_scores(b)]
    rows = differences(*configs)
    console.print(Text(f"A: {a}\nB: {b}\n"), soft_wrap=True)
    if rows:
        console.print(_side_by_side("setting", rows))
    else:
        console.print("The configurations are equal.")
    console.print()
    missing = [str(run) for run, found in zip((a, b), scores, strict=True) if not found]
    if missing:
        console.print(Text(f"No scores yet: {', '.join(missing)}"), soft_wrap=True)
    names = [*scores[0], *(name for name in scores[1] if name not in scores[0])]
    if names:
        console.print(_side_by_side("score", [(n, scores[0].get(n, ""), scores[1].get(n, "")) for n in names]))


def _side_by_side(what: str, rows: Sequence[tuple[str, Any, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in (what, "A", "B"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table
