"""The short help of a training: the options that people meet first, with their defaults."""

import ast
import dataclasses
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

NARROW = 80  # columns, below which a description stands under its option and not beside it
COMMON = ("dataset", "preset", "seed", "seeds", "out", "resume", "evaluate")


def field_docs(kind: type) -> dict[str, str]:
    """The docstring below every field of a dataclass and its bases, by field."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        (body,) = (node.body for node in ast.parse(textwrap.dedent(inspect.getsource(base))).body)  # type: ignore[attr-defined]
        for field, below in pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                found[ast.unparse(field.target)] = " ".join(str(below.value.value).split())
    return found


def flag(name: str, value: Any) -> str:
    """How an option is written: ``evaluate`` is on by default, so that its flag turns it off."""
    words = name.replace("_", "-").split(".")
    return "--" + ".".join([*words[:-1], f"no-{words[-1]}" if value is True else words[-1]])


def owner_of(group: Any, field: str) -> Any:
    """The group that has ``field``: ``group``, or one of its groups whose options have no prefix.

    Raises:
      ValueError: none has it.
    """
    unprefixed = [getattr(group, name) for name in ("model", "energy") if hasattr(group, name)]
    for owner in (group, *unprefixed):
        if any(f.name == field for f in dataclasses.fields(owner)):
            return owner
    raise ValueError(f"{type(group).__name__} has no option {field}.")


def option(options: Any, name: str) -> tuple[str, str, str]:
    """Flag, default and description of an option such as ``seeds`` or ``gan.steps``."""
    *parts, last = name.split(".")
    group = options
    for part in parts:
        group = getattr(owner_of(group, part), part)
    owner = owner_of(group, last)
    value = getattr(owner, last)
    shown = "" if isinstance(value, bool) or value is None else str(value)
    text = field_docs(type(owner))[last]
    return flag(name, value), shown, f"Turns off what is on: {text[0].lower()}{text[1:]}" if value is True else text


def short_help(words: str, options: Any, first: tuple[str, ...], *, width: int | None = None) -> None:
    """Print the options that people meet first.

    Args:
      words: the command, for instance ``saegan train gan``.
      options: with the defaults.
      first: of this training, beside those that all have.
      width: of the text; by default the terminal's.
    """
    console = Console(width=width)
    console.print(f"usage: {words} [options]\n", markup=False, highlight=False)
    console.print((type(options).__doc__ or "").split("\n\n")[0], markup=False, highlight=False)
    shown = [option(options, name) for name in (*COMMON, *first) if hasattr(options, name) or name not in COMMON]
    if console.width < NARROW:
        for name, default, text in shown:
            console.print(f"{name} {default}".rstrip(), markup=False, highlight=False)
            console.print(Padding(Text(text), (0, 0, 0, 4)))
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        for _ in range(3):
            table.add_column(overflow="fold")
        for row in shown:
            table.add_row(*row)
        console.print(table)
    console.print(f"\n{words} --help-all lists every option.", markup=False, highlight=False)
