"""Where the numbers of a run go: metrics.jsonl, TensorBoard events, and the live display."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text
from tensorboardX import SummaryWriter

from saegan_jax.files import write_bytes

METRICS, ALARMS = "metrics.jsonl", "alarms.jsonl"
Scalars = dict[str, float | list[float]]


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All rows of a run's metrics.jsonl; a last line cut short by a kill is left out."""
    return _rows(folder / METRICS)


def read_alarms(folder: Path) -> list[dict[str, Any]]:
    """All alarms of a run, see :class:`saegan_jax.training.alarms.Alarms`, with their ``phase``; read as the metrics are."""
    return _rows(folder / ALARMS)


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def warn(message: str) -> None:
    """Tell a person something, on stderr: stdout is for the result."""
    Console(stderr=True).print(Text(message, style="yellow"), soft_wrap=True)


class MetricsWriter:
    """Appends to metrics.jsonl and to TensorBoard events; values are numbers, or one number per seed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events: SummaryWriter | None = None

    def forget_after(self, phase: str, step: int) -> None:
        """Drop rows and alarms of ``phase`` past ``step``, which a resumed run is about to write again."""
        for name in (METRICS, ALARMS):
            rows = [r for r in _rows(self.folder / name) if r["phase"] != phase or r["step"] <= step]
            write_bytes(self.folder / name, "".join(json.dumps(r) + "\n" for r in rows).encode())
        self._close_events()

    def write(self, phase: str, step: int, scalars: Scalars) -> None:
        """One row for ``phase`` at ``step``."""
        self._append(METRICS, {"phase": phase, "step": step, **scalars})
        if self._events is None:
            self._events = SummaryWriter(str(self.folder / "tensorboard"))
        for name, value in scalars.items():
            if isinstance(value, list):
                for seed, v in enumerate(value):
                    self._events.add_scalar(f"{phase}/{name}/seed_{seed}", v, step)
            else:
                self._events.add_scalar(f"{phase}/{name}", value, step)

    def alarm(self, phase: str, event: dict[str, Any]) -> None:
        """One beginning or end of an alarm of ``phase``."""
        self._append(ALARMS, {"phase": phase, **event})

    def _append(self, name: str, row: dict[str, Any]) -> None:
        with (self.folder / name).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _close_events(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def close(self) -> None:
        """Flush the TensorBoard events."""
        self._close_events()


class Display:
    """A progress bar with losses, steps a second and time left on a terminal; silent anywhere else."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=10),
            # On a narrow terminal the numbers at the end give way, not the steps or the time left.
            MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=11)),
            TextColumn("{task.fields[rate]}", table_column=Column(no_wrap=True, min_width=12)),
            TimeRemainingColumn(elapsed_when_finished=True, table_column=Column(no_wrap=True, min_width=7)),
            TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task: Any = None

    def start(self, phase: str, step: int, steps: int) -> None:
        """Begin a phase at ``step`` of ``steps``."""
        self._progress.start()
        self._task = self._progress.add_task(phase, total=steps, completed=step, rate="compiling", numbers="")

    def update(
        self, step: int, rate: float, scalars: Scalars, shown: tuple[str, ...], *, alarms: Sequence[str] = ()
    ) -> None:
        """Show the numbers named in ``shown``, as means over seeds, and before them the alarms that have not ended."""
        short = {name: name.replace("discriminator", "d").replace("generator", "g") for name in shown}
        warnings = "".join(f"{alarm.upper()}  " for alarm in alarms)
        numbers = warnings + "  ".join(f"{short[name]} {float(np.mean(scalars[name])):.3g}" for name in shown)
        self._progress.update(self._task, completed=step, rate=f"{rate:.1f} steps/s", numbers=numbers)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()


class Rate:
    """Steps a second since the last call."""

    def __init__(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def __call__(self, step: int) -> float:
        now = time.perf_counter()
        rate = (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        return rate
