"""A long training with a save every few seconds: memory, file handles, threads and speed over its whole time."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.stats

from saegan_jax.runs.reliability.kills import FailedError, said, scratch
from saegan_jax.runs.reliability.processes import Process, tiny, train
from saegan_jax.training.writers import read_metrics

SAVE_SECONDS, LOGS_A_SAVE = 3.0, 4
PROBE_STEPS, PROBE_EVERY = 200_000, 2_000
SAMPLE_SECONDS = 2.0
WARM_UP = 0.2  # share of the time that is left out: buffers and pools fill at first
MOST_STEPS = 134_000_000  # what an int32 counts of batches of 16, about


class Sample(NamedTuple):
    """A process at one moment.

    Attributes:
      seconds: since its start.
      memory: resident, MiB.
      handles: open files.
      threads: of the process.
    """

    seconds: float
    memory: float
    handles: int
    threads: int


class Slope(NamedTuple):
    """A Theil-Sen slope an hour, with its 95 % interval, and the median of the values.

    Source: Sen, Estimates of the regression coefficient based on Kendall's tau, 1968.
    """

    slope: float
    low: float
    high: float
    median: float


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What was seen of one long training.

    Attributes:
      samples: in order.
      saves: checkpoints that were written.
      steps: that were taken.
      rates: steps a second of every logging interval.
      fault: what was wrong with its end; empty where nothing was.
    """

    samples: tuple[Sample, ...]
    saves: int
    steps: int
    rates: tuple[float, ...]
    fault: str


def sample(pid: int, began: float) -> Sample | None:
    """A running process, by ``/proc``; None where it has ended."""
    place = Path("/proc") / str(pid)
    try:
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
        memory = int(status["VmRSS"].split()[0]) / 1024
        handles = len(list((place / "fd").iterdir()))
    except (OSError, KeyError):  # of one that nobody has waited for yet there is a status, without memory
        return None
    return Sample(time.monotonic() - began, memory, handles, int(status["Threads"]))


def slope(seconds: np.ndarray, values: np.ndarray) -> Slope:
    """The slope of ``values`` ``(n,)`` at ``seconds`` ``(n,)``, without the first fifth of the time."""
    late = seconds >= seconds[0] + WARM_UP * (seconds[-1] - seconds[0])
    found = scipy.stats.theilslopes(values[late], seconds[late] / 3600)
    return Slope(float(found.slope), float(found.low_slope), float(found.high_slope), float(np.median(values[late])))


def intervals(folder: Path, system: str) -> tuple[int, int]:
    """``(log_every, save_every)`` of a training of ``system`` that saves every few seconds here.

    Raises:
      FailedError: a training to measure the speed by did not end well.
    """
    steps = (f"--{system}.steps", PROBE_STEPS, "--save-every", PROBE_STEPS, "--picture-every", PROBE_STEPS)
    arguments = tiny(system, *steps, "--log-every", PROBE_EVERY, "--out", folder / "probe")
    ended = train(system, arguments, folder / "probe.txt")
    if ended.code != 0:
        raise FailedError(f"{system} ended with {ended.code}: {ended.text[-2000:]}")
    rate = float(np.median([row["steps_per_second"] for row in read_metrics(folder / "probe")]))
    log_every = max(1, round(rate * SAVE_SECONDS / LOGS_A_SAVE))
    return log_every, LOGS_A_SAVE * log_every


def soak(
    *, minutes: float, system: str = "gan", nice: int = 19, say: Callable[[str], None] = lambda text: None
) -> Soak:
    """Train for ``minutes``, then stop by SIGTERM.

    Args:
      minutes: of training.
      system: what to train; a name with steps and a network of its own, such as gan.
      nice: how much other processes come first.
      say: takes one line about progress.
    """
    with scratch() as folder:
        log_every, save_every = intervals(folder, system)
        steps = MOST_STEPS // save_every * save_every
        run, samples, saves, newest = folder / "run", [], 0, ""
        words = [f"--{system}.steps", steps, "--log-every", log_every, "--save-every", save_every]
        arguments = tiny(system, *words, "--picture-every", steps, "--out", run)
        process = Process(system, arguments, folder / "run.txt", nice=nice)
        began = time.monotonic()
        while process.running and time.monotonic() < began + 60 * minutes:
            time.sleep(SAMPLE_SECONDS)
            if (one := sample(process.pid, began)) is not None:
                samples.append(one)
            kept = sorted((int(p.name) for p in run.glob("checkpoints/*/*") if p.name.isdigit()), reverse=True)
            if kept and str(kept[0]) != newest:
                saves, newest = kept[0] // save_every, str(kept[0])
            say(f"{time.monotonic() - began:.0f} s, {saves} saves, {samples[-1].memory if samples else 0:.0f} MiB")
        ended = process.end_by(signal.SIGTERM)
        _, fault = said(ended, signal.SIGTERM)
        rows = read_metrics(run)
        fault = fault or ("it ended before it was stopped" if ended.code == 0 else "")
    rates = tuple(float(row["steps_per_second"]) for row in rows)
    return Soak(samples=tuple(samples), saves=saves, steps=rows[-1]["step"], rates=rates, fault=fault)
