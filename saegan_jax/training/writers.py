"""Where the numbers of a run go: metrics.jsonl, TensorBoard events, and the live display."""

import contextlib
import datetime
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text
from tensorboardX import SummaryWriter

from saegan_jax.errors import ConfigError
from saegan_jax.files import from_text, to_text, write_bytes
from saegan_jax.training.busy import LINE_EVERY, Ticker
from saegan_jax.training.trackers import Tracked

METRICS, ALARMS = "metrics.jsonl", "alarms.jsonl"
Scalars = dict[str, float | list[float]]


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All rows of a run's metrics.jsonl, as they were written; a last line cut short by a kill is left out.

    Raises:
      ConfigError: any other line that is no row, which is named; the file is left as it is.
    """
    return _rows(folder / METRICS)


def read_alarms(folder: Path) -> list[dict[str, Any]]:
    """All alarms of a run, see :class:`saegan_jax.training.alarms.Alarms`, with their ``phase``; read as the metrics are."""
    return _rows(folder / ALARMS)


def _rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    parsed = [(number, line, _parsed(line)) for number, line in enumerate(lines, 1) if line.strip()]
    if parsed and parsed[-1][2] is None:
        parsed.pop()  # a kill cut it short
    for number, line, row in parsed:
        if not isinstance(row, dict) or not {"phase", "step"} <= row.keys():
            fix = (
                f"line {number} is no row with a phase and a step ({line[:40].decode(errors='replace')!r}). The file is left "
                f"as it is; remove that line to go on without it."
            )
            raise ConfigError(path.name, str(path), fix)
    return [row for _, _, row in parsed]


def _parsed(line: bytes) -> Any:
    """The line's value, or None for one that is no JSON, or no text at all."""
    try:
        return from_text(line)
    except ValueError:
        return None


def warn(message: str) -> None:
    """Tell a person something, on stderr: stdout is for the result."""
    Console(stderr=True).print(Text(message, style="yellow"), soft_wrap=True)


class MetricsWriter:
    """Appends to metrics.jsonl, to TensorBoard events and to a tracker, if any; values are numbers, or one number per seed.

    Numbers that are not finite are null in the files, and named in the row's field ``non_finite``.
    """

    def __init__(self, folder: Path, tracked: Tracked | None = None) -> None:
        self.folder, self.tracked = folder, tracked
        self._events: SummaryWriter | None = None

    def forget_after(self, phase: str, step: int) -> None:
        """Drop rows and alarms of ``phase`` past ``step``, which a resumed run is about to write again.

        Raises:
          ConfigError: a file with a line that is no row; nothing is changed then.
        """
        kept = {
            name: [r for r in _rows(self.folder / name) if r["phase"] != phase or r["step"] <= step]
            for name in (METRICS, ALARMS)
        }
        for name, rows in kept.items():
            write_bytes(self.folder / name, "".join(to_text(row) + "\n" for row in rows).encode())
        self._close_events()

    def write(self, phase: str, step: int, scalars: Scalars) -> None:
        """One row for ``phase`` at ``step``."""
        self._append(METRICS, {"phase": phase, "step": step, **scalars})
        if self._events is None:
            self._events = SummaryWriter(str(self.folder / "tensorboard"))
        for name, value in scalars.items():
            seeds = {f"/seed_{seed}": v for seed, v in enumerate(value)} if isinstance(value, list) else {"": value}
            for suffix, v in seeds.items():
                self._events.add_scalar(f"{phase}/{name}{suffix}", v, step)
        if self.tracked is not None:
            self.tracked.scalars(phase, step, scalars)

    def picture(self, phase: str, step: int, path: Path) -> None:
        """A picture of samples has been written."""
        if self.tracked is not None:
            self.tracked.picture(phase, step, path)

    def table(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """The rows of the closing table have been computed."""
        if self.tracked is not None:
            self.tracked.table(rows)

    def alarm(self, phase: str, event: dict[str, Any]) -> None:
        """One beginning or end of an alarm of ``phase``."""
        self._append(ALARMS, {"phase": phase, **event})
        if self.tracked is not None:
            self.tracked.alarm(phase, event)

    def _append(self, name: str, row: dict[str, Any]) -> None:
        with (self.folder / name).open("a") as file:
            file.write(to_text(row) + "\n")

    def _close_events(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def close(self) -> None:
        """Flush the TensorBoard events."""
        self._close_events()


class Screen(Console):
    """Goes on in silence when whoever read the output has had enough, for instance `head`: a training is not lost by it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self.file.fileno())  # or Python complains at its end of what it cannot flush


class View(Protocol):
    """A way to show how far a training is."""

    def start(self, phase: str, step: int, steps: int) -> None: ...
    def update(self, step: int, rate: float, numbers: str) -> None: ...
    def end(self) -> None: ...
    def stop(self) -> None: ...


class Bar:
    """A live progress bar on a terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=10),
            # On a narrow terminal the numbers at the end give way, not the steps or the time left.
            MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=11)),
            TextColumn("{task.fields[rate]}", table_column=Column(no_wrap=True, min_width=12)),
            TimeRemainingColumn(elapsed_when_finished=True, table_column=Column(no_wrap=True, min_width=7)),
            TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=console,
        )
        self._task: Any = None

    def start(self, phase: str, step: int, steps: int) -> None:
        self._progress.start()
        self._task = self._progress.add_task(phase, total=steps, completed=step, rate="compiling", numbers="")

    def update(self, step: int, rate: float, numbers: str) -> None:
        self._progress.update(self._task, completed=step, rate=f"{rate:.1f} steps/s", numbers=numbers)

    def end(self) -> None:
        pass  # the bar stays beside that of the next phase

    def stop(self) -> None:
        self._progress.stop()


class Position(NamedTuple):
    """How far a training is, as a line of text; see :meth:`line`."""

    phase: str
    step: int
    steps: int
    rate: float = 0.0
    numbers: str = ""

    def line(self) -> str:
        """Step, total, numbers, steps a second and time left."""
        begin = f"{self.phase}: step {self.step:,} of {self.steps:,}"
        if not self.rate:
            return f"{begin}, compiling"
        left = datetime.timedelta(seconds=round((self.steps - self.step) / self.rate))
        return ", ".join(filter(None, (begin, self.numbers, f"{self.rate:.3g} steps/s", f"{left} left")))


class Lines:
    """A plain line at every ``every`` seconds, also while a step is slow or a program is compiled."""

    def __init__(self, console: Console, *, every: float) -> None:
        self._console, self._every = console, every
        self._position = Position("", 0, 0)
        self._ticker: Ticker | None = None

    def start(self, phase: str, step: int, steps: int) -> None:
        self.end()
        self._position = Position(phase, step, steps)
        self._ticker = Ticker(self._console, lambda: self._position.line(), every=self._every)

    def update(self, step: int, rate: float, numbers: str) -> None:
        self._position = self._position._replace(step=step, rate=rate, numbers=numbers)

    def end(self) -> None:
        if self._ticker is not None:
            self._ticker.end()
            self._ticker = None

    def stop(self) -> None:
        self.end()


class Display:
    """Losses, steps a second and time left: a progress bar on a terminal, anywhere else a plain line every 30 seconds."""

    def __init__(self, console: Console | None = None, *, every: float = LINE_EVERY) -> None:
        self.console = console or Screen()
        self._shown: View = Bar(self.console) if self.console.is_terminal else Lines(self.console, every=every)
        self._scores = ""

    def start(self, phase: str, step: int, steps: int) -> None:
        """Begin a phase at ``step`` of ``steps``."""
        self._scores = ""
        self._shown.start(phase, step, steps)

    def scores(self, step: int, values: Mapping[str, Sequence[float]], shown: tuple[str, ...]) -> None:
        """Show the scores named in ``shown`` behind the numbers, as means over seeds, until the next ones."""
        found = "  ".join(f"{name} {float(np.mean(values[name])):.3g}" for name in shown if name in values)
        self._scores = f"  {found} at {step:,}" if found else ""

    def update(
        self, step: int, rate: float, scalars: Scalars, shown: tuple[str, ...], *, alarms: Sequence[str] = ()
    ) -> None:
        """Show the numbers named in ``shown``, as means over seeds, and before them the alarms that have not ended."""
        short = {name: name.replace("discriminator", "d").replace("generator", "g") for name in shown}
        warnings = "".join(f"{alarm.upper()}  " for alarm in alarms)
        numbers = warnings + "  ".join(f"{short[name]} {float(np.mean(scalars[name])):.3g}" for name in shown)
        self._shown.update(step, rate, numbers + self._scores)

    def end(self) -> None:
        """The phase is over: no more is printed of it."""
        self._shown.end()

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self._shown.stop()


class Rate:
    """Steps a second since the last call."""

    def __init__(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def __call__(self, step: int) -> float:
        now = time.perf_counter()
        rate = (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        return rate
