"""Result files: what a run says of its origin, where it is written, and reading one again.

The only module here that uses the package's reports and its writing of files.
"""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.harness.errors import OptionError
from benchmarks.harness.program.cost import Machine
from benchmarks.harness.reports import markdown, report_of
from benchmarks.harness.reports.parts import BUSY, load
from benchmarks.harness.session import Outcome, Stopped, say_line
from saegan_jax.files import write_bytes
from saegan_jax.report.results import commit, cores, device, versions, write_result

HERE = Path(__file__).parents[1]
RESULTS = HERE / "results"
UNFINISHED = Path("runs") / "benchmarks"
"""Where the finished part of a stopped run goes that has no file of its own."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
KEYS = ("name", "command", "commit", "device", "versions", "settings", "rows")
ROW_KEYS = ("work", "arm", "metric", "unit", "median", "low", "high", "values")


def heading(
    name: str,
    module: str,
    *,
    settings: dict[str, Any],
    machine: Machine | None = None,
    report: str | None = None,
    packages: Sequence[str] = PACKAGES,
) -> dict[str, Any]:
    """The head of a result: what was measured, by which command, where, and with which settings."""
    head = {
        "name": name,
        "report": report,
        "command": f"python -m {module} {shlex.join(sys.argv[1:])}".strip(),
        "commit": commit(HERE),
        "device": device(),
        "versions": versions(*packages),
        "settings": {"threads": cores(), "dtype": "float32", **settings},
        "machine": None if machine is None else machine._asdict(),
    }
    return {key: value for key, value in head.items() if value is not None}


def assemble(head: dict[str, Any], outcome: Outcome, keys: Sequence[str] = ()) -> dict[str, Any]:
    """The whole result, of what was finished; one that was ended early is marked ``"incomplete"``.

    Args:
      head: see :func:`heading`.
      outcome: of :func:`benchmarks.harness.session.work_through`.
      keys: the lists of the result besides ``rows``.
    """
    result = {**head, **{key: outcome.parts.get(key, []) for key in (*keys, "rows")}}
    if outcome.error is not None:
        error = outcome.error
        reason = f"stopped by {error}" if isinstance(error, Stopped) else f"ended by {type(error).__name__}: {error}"
        result["incomplete"] = {"reason": reason, "not_finished": outcome.left}
    return result


def read_result(option: str, path: Path) -> dict[str, Any]:
    """A result that an option names.

    Raises:
      OptionError: there is none; the message says what is there instead.
    """
    if path.is_dir():
        raise OptionError(option, path, "it is a folder; name the .json file of a result in it.")
    try:
        result = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise OptionError(option, path, "there is no such file; name the .json file that a benchmark wrote.") from error
    except OSError as error:
        raise OptionError(option, path, f"it cannot be read ({error.strerror}); choose another file.") from error
    except ValueError as error:
        raise OptionError(option, path, "it is no JSON; name the .json file that a benchmark wrote.") from error
    wrong = _defect(result)
    if wrong:
        raise OptionError(option, path, f"it is no result of a benchmark ({wrong}); name a .json file that one wrote.")
    checked: dict[str, Any] = result
    return checked


def _defect(result: Any) -> str | None:
    """What keeps a value from being a result, or None."""
    if not isinstance(result, dict):
        return "it holds no object"
    missing = [key for key in KEYS if key not in result]
    if missing:
        return f"it lacks {', '.join(missing)}"
    try:
        lacking = [key for row in result["rows"] for key in ROW_KEYS if key not in row]
        if lacking:
            return f"a row lacks {lacking[0]}"
        markdown(result)
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
        return f"its table cannot be made: {type(error).__name__} {error}"
    return None


def is_busy(result: dict[str, Any]) -> bool:
    """Whether other processes used cores that the benchmark needed."""
    return load(result) > BUSY


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON and, beside it, its tables and the picture of kinds that have one."""
    write_result(path, result, markdown(result))
    write_beside(path, result)


def write_beside(path: Path, result: dict[str, Any]) -> None:
    """Write the picture and the short table of a result beside its JSON file at ``path``."""
    report = report_of(result)
    if report.picture is not None:
        write_bytes(path.with_suffix(".png"), report.picture(result))
    if (short := report.summary(result)) is not None:
        write_bytes(path.with_name(f"{path.stem}-summary.md"), short.encode())


def rewrite(option: str, path: Path, console: Console) -> None:
    """Write the tables and the picture of an old result again, from its JSON alone."""
    result = read_result(option, path)
    write_bytes(path.with_suffix(".md"), markdown(result).encode())
    write_beside(path, result)
    show(console, markdown(result))


def show(console: Console, text: str) -> None:
    """Print Markdown: drawn on a terminal, as it is elsewhere."""
    console.print(Markdown(text) if console.is_terminal else text, markup=False, highlight=False, soft_wrap=True)


def _unfinished_path(out: Path | None, name: str) -> Path:
    """Where an incomplete result goes: never over a complete one."""
    path = UNFINISHED / f"{name}.json" if out is None else out
    try:
        replaceable = not path.exists() or "incomplete" in json.loads(path.read_text())
    except (OSError, ValueError):
        replaceable = False
    return path if replaceable else path.with_name(f"{path.stem}-incomplete.json")


def deliver(
    result: dict[str, Any],
    outcome: Outcome,
    console: Console,
    *,
    out: Path | None,
    name: str,
    whole: bool,
    changes: str | None = None,
) -> None:
    """Write a result and print it; of a run that was ended early, write what is finished and raise what ended it.

    Args:
      result: see :func:`assemble`.
      outcome: what became of the works.
      console: for the tables, and for where they were written.
      out: the file that the command names.
      name: of the file in benchmarks/results that a complete run has without.
      whole: whether the run measured everything, and in earnest.
      changes: Markdown to print after the tables.
    """
    if outcome.error is not None:
        _deliver_part(result, outcome, console, out, name)
        raise outcome.error
    busy = is_busy(result)
    path = out
    if path is None and whole and not busy:
        path = RESULTS / f"{name}.json"
    if path is not None:
        write(path, result)
    show(console, markdown(result))
    if changes is not None:
        show(console, changes)
    if busy:
        say_line(
            console, "Other processes kept the machine busy; run again when it is quiet before using these numbers."
        )
    if path is not None:
        say_line(
            console,
            f"Wrote {path}, and beside it its tables{' and picture' * (report_of(result).picture is not None)}.",
        )
    elif whole:
        kept = RESULTS / f"{name}.json"
        say_line(console, f"{kept} was left as it is; name another file with --out to keep these numbers.")


def _deliver_part(result: dict[str, Any], outcome: Outcome, console: Console, out: Path | None, name: str) -> None:
    if not result["rows"]:
        say_line(console, f"No work was finished, so nothing was written. Not finished: {', '.join(outcome.left)}.")
        return
    path = _unfinished_path(out, name)
    write(path, result)
    say_line(
        console,
        f"The finished works ({', '.join(outcome.finished)}) are in {path}, marked incomplete, and their tables beside it. "
        f"Not finished: {', '.join(outcome.left)}.",
    )


def default_name(kind: str) -> str:
    """The name of a complete result of this device, without its suffix."""
    return f"{kind}_{jax.default_backend()}"
