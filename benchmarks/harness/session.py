"""Doing one work after another: a line for each that is finished, and nothing that is finished gets lost."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

from rich.console import Console
from rich.status import Status

from benchmarks.harness.errors import DisagreementError, OptionError, UnavailableError
from benchmarks.harness.machine import measure_machine
from benchmarks.harness.program.cost import Machine
from benchmarks.harness.timing import Say

Part = Mapping[str, Sequence[Any]]
"""What one work adds to a result: by key, what is appended to that list of the result."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The process was asked to end.

    Attributes:
      signal: that asked.
      code: that the process is to end with.
    """

    def __init__(self, number: int) -> None:
        self.signal, self.code = signal.Signals(number), 128 + number
        super().__init__(self.signal.name)


class _Request:
    """The signal that came, if one did."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)  # a second one ends the process at once
        raise Stopped(number)

    def check(self) -> None:
        """Raise again: an exception that a signal raises inside a finaliser is lost."""
        if self.number is not None:
            raise Stopped(self.number)


@contextmanager
def stopping() -> Iterator[Callable[[], None]]:
    """SIGINT and SIGTERM raise :class:`Stopped` inside; gives what raises it again.

    Outside the main thread, where Python allows no handlers, signals keep their meaning.
    """
    request = _Request()
    if threading.current_thread() is not threading.main_thread():
        yield request.check
        return
    before = {number: signal.signal(number, request) for number in SIGNALS}
    try:
        yield request.check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Outcome(NamedTuple):
    """What became of the works.

    Attributes:
      parts: what the finished ones gave, by key.
      finished, left: their names.
      error: what ended the run early.
    """

    parts: dict[str, list[Any]]
    finished: list[str]
    left: list[str]
    error: BaseException | None


def describe(rows: Sequence[Mapping[str, Any]]) -> str:
    """The median of each arm's first metric, in one line."""
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        first.setdefault(row["arm"], row)
    return "; ".join(f"{arm} {row['median']:,.4g} {row['unit']}" for arm, row in first.items())


def _line(name: str, part: Part) -> str:
    left_out = [f"{row['arm']} left out: {row['reason']}" for row in part.get("skipped", ()) if row["arm"] == "all"]
    return f"{name}: {'; '.join(filter(None, [describe(part.get('rows', ())), *left_out]))}"


def work_through(jobs: Mapping[str, Callable[[Say], Part]], console: Console) -> Outcome:
    """Do the jobs in their order, and print one line as each is finished.

    Args:
      jobs: by name; each gets what reports its progress, and gives its part of the result.
      console: for the lines, flushed at once into whatever it writes to.

    Returns:
      What was finished, also when a signal or an error ended the run before the last one.
    """
    outcome = Outcome({}, [], list(jobs), None)
    with console.status("starting") as status, stopping() as check:
        try:
            _do_all(jobs, outcome, console, check, status)
        except (Stopped, KeyboardInterrupt, Exception) as error:
            return outcome._replace(error=error)
    return outcome


def _do_all(
    jobs: Mapping[str, Callable[[Say], Part]],
    outcome: Outcome,
    console: Console,
    check: Callable[[], None],
    status: Status,
) -> None:
    for name, job in jobs.items():
        began = time.perf_counter()
        part = _part(name, job, partial(_progress, name, check, status))
        _keep(outcome, part)
        place = f"{len(outcome.finished)} of {len(jobs)}, {time.perf_counter() - began:.1f} s"
        say_line(console, f"{_line(name, part)} ({place})")
        check()


def say_line(console: Console, text: str) -> None:
    """Print a paragraph as one line, as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _progress(name: str, check: Callable[[], None], status: Status, text: str) -> None:
    check()
    status.update(f"{name}, {text}")


def _part(name: str, job: Callable[[Say], Part], say: Say) -> Part:
    try:
        return job(say)
    except UnavailableError as error:
        return {"skipped": [{"work": name, "arm": "all", "reason": str(error)}]}


def _keep(outcome: Outcome, part: Part) -> None:
    for key, values in part.items():
        outcome.parts.setdefault(key, []).extend(values)
    outcome.finished.append(outcome.left.pop(0))


def survey(seconds: float, console: Console, measure: Callable[..., Machine] = measure_machine) -> Machine:
    """Measure the machine in about so many seconds, and print what it can do in one line."""
    with console.status("measuring the machine") as status, stopping() as check:
        machine = measure(seconds, say=partial(_progress, "the machine", check, status))
    rates = f"{machine.flops_per_s / 1e9:,.4g} GFLOP/s, {machine.bytes_per_s / 1e9:.3g} GB/s"
    say_line(console, f"machine: {rates}")
    return machine


def command(script: Callable[[], None]) -> None:
    """Run a script, and end the process as a command does.

    Code 2 and one paragraph on stderr for an option that cannot be used, 1 for a peer that computes something else, 130 or
    143 after SIGINT or SIGTERM.
    """
    try:
        script()
    except OptionError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except DisagreementError as error:
        sys.exit(str(error))
    except Stopped as stop:
        print(f"Stopped by {stop}.", file=sys.stderr)
        sys.exit(stop.code)
