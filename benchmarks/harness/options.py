"""Options of the commands: refused before anything is timed, in one paragraph that names the option and the fix."""

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import tyro

from benchmarks.harness.errors import OptionError
from saegan_jax.files import is_remote

Build = TypeVar("Build")
Options = TypeVar("Options")


def parse(
    kind: type[Options],
    arguments: Sequence[str] | None,
    *,
    counts: Sequence[str],
    numbers: Sequence[str],
    quick: Mapping[str, Any],
) -> Options:
    """The command line as options, with what ``--quick`` changes.

    Args:
      kind: a dataclass with ``quick`` and ``out``.
      arguments: by default those of the process.
      counts: options that are 1 or more.
      numbers: options that are finite and above zero.
      quick: values that ``--quick`` sets.

    Raises:
      OptionError: a value that cannot be used.
    """
    options: Any = tyro.cli(kind, args=arguments)
    require_count(**{name: getattr(options, name) for name in counts})
    require_positive(**{name: getattr(options, name) for name in numbers})
    require_out(options.out)
    parsed: Options = replace(options, **quick) if options.quick else options
    return parsed


def require_positive(**values: float | None) -> None:
    """Refuse the first option that is not a finite number above zero; None is an option that was left out."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise OptionError(f"--{name}", value, "it must be a finite number above zero.")


def require_count(**values: int | None) -> None:
    """Refuse the first option that is not a whole number from 1 on; None is an option that was left out."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise OptionError(f"--{name.replace('_', '-')}", value, "it must be 1 or more.")


def require_out(path: Path | None) -> None:
    """Refuse a result file that cannot be written, or that its table or its picture would replace."""
    if path is None:
        return
    if is_remote(path):
        raise OptionError("--out", path, "results are written on this machine only; name a file here.")
    if path.suffix != ".json":
        raise OptionError(
            "--out", path, "name a file that ends in .json; its table and its picture are written beside it."
        )
    if path.is_dir():
        raise OptionError("--out", path, "it is a folder; name a .json file in it.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise OptionError("--out", path, f"{above} is a file and no folder; choose another place.")


def matching(option: str, pattern: str, works: Mapping[str, Build], also: Iterable[str] = ()) -> dict[str, Build]:
    """The works whose names match a shell pattern.

    Args:
      option: that gave the pattern.
      pattern: for instance ``sae*``.
      works: by name.
      also: further names that the pattern may match.

    Raises:
      OptionError: nothing matches.
    """
    if not any(fnmatch.fnmatch(name, pattern) for name in (*also, *works)):
        raise OptionError(option, repr(pattern), f"it matches nothing; there are {', '.join((*also, *works))}.")
    return {name: build for name, build in works.items() if fnmatch.fnmatch(name, pattern)}
