"""Trainings killed at random moments, or asked to stop, and resumed: how many end as undisturbed ones to the bit."""

import random
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saegan_jax.runs.reliability.fingerprint import differences, fingerprint
from saegan_jax.runs.reliability.processes import Ended, Process, tiny, train

SECOND = 0.25  # share of the killed runs that are killed once more while they are resumed
ATTEMPTS = 8  # moments drawn until one comes before the end
EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143}
SLOW = 10.0  # seconds from a signal to the end of the process that count as too many


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training that was disturbed and resumed.

    Attributes:
      system: what was trained.
      signal: that disturbed it, by name.
      moments: what it was doing at each disturbance.
      seconds: from the last signal to its end.
      fault: what was wrong afterwards; empty where nothing was.
    """

    system: str
    signal: str
    moments: tuple[str, ...]
    seconds: float
    fault: str


@dataclass(frozen=True)
class Whole:
    """An undisturbed training: how long it takes, and what it leaves."""

    seconds: float
    result: dict[str, Any]


class FailedError(RuntimeError):
    """A training that nothing disturbed did not end well."""


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="saegan-jax-reliability-") as folder:
        yield Path(folder)


def undisturbed(system: str, folder: Path, *more: object) -> Whole:
    """Train twice, so that the second one finds its programs compiled, and is timed.

    Raises:
      FailedError: one did not end well, or they differ.
    """
    results = []
    for name in ("first", "whole"):
        ended = train(system, tiny(system, *more, "--out", folder / name), folder / f"{name}.txt")
        if ended.code != 0:
            raise FailedError(f"{system} ended with {ended.code}: {ended.text[-2000:]}")
        results.append(fingerprint(folder / name))
    if differing := differences(results[0], results[1]):
        raise FailedError(f"two undisturbed trainings of {system} differ in {', '.join(differing)}.")
    return Whole(ended.seconds, results[1])


def moment(folder: Path) -> str:
    """What a training that has just been killed was doing, by what is in its folder."""
    if not (folder / "config.json").exists():
        return "loading"
    if (folder / "summary.json").exists():
        return "ending"
    phases = list((folder / "checkpoints").glob("*"))
    if any(path.is_dir() and not path.name.isdigit() for phase in phases for path in phase.iterdir()):
        return "saving"
    if not any(path.name.isdigit() for phase in phases for path in phase.iterdir()):
        return "compiling"
    return "training"


def resumption(folder: Path) -> list[str]:
    """How the run in ``folder`` is given again: nothing of it is there before its configuration is."""
    return ["--resume"] if (folder / "config.json").exists() else []


def finish(system: str, arguments: Sequence[str], folder: Path, whole: Whole) -> str:
    """Resume to the end; what is wrong then, or nothing."""
    if (folder / "summary.json").exists() and not differences(fingerprint(folder), whole.result):
        return ""
    ended = train(system, [*arguments, *resumption(folder)], folder.with_suffix(".resumed.txt"))
    if ended.code != 0:
        return f"resuming ended with {ended.code}: {' '.join(ended.text.split())[-400:]}"
    differing = differences(fingerprint(folder), whole.result)
    return f"differs in {', '.join(differing)}" if differing else ""


def killed(system: str, folder: Path, whole: Whole, rng: random.Random, *more: object) -> Trial:
    """One training that gets SIGKILL at a random moment of its run time, some of them twice."""
    arguments = tiny(system, *more, "--out", folder)
    moments: list[str] = []
    wanted = 2 if rng.random() < SECOND else 1
    for _ in range(ATTEMPTS):
        process = Process(system, [*arguments, *resumption(folder)], folder.with_suffix(".txt"))
        process.wait_until(rng.uniform(0.0, whole.seconds))
        ended = process.end_by(signal.SIGKILL)
        if ended.code == -signal.SIGKILL:
            moments.append(moment(folder))
        elif ended.code != 0:
            return Trial(system=system, signal="SIGKILL", moments=tuple(moments), seconds=0.0, fault=ended.text[-400:])
        elif not moments:  # it ended before the moment came
            shutil.rmtree(folder)
        if len(moments) == wanted:
            break
    fault = finish(system, arguments, folder, whole) if moments else "no moment came before the end"
    return Trial(system=system, signal="SIGKILL", moments=tuple(moments), seconds=0.0, fault=fault)


SAID = (
    ("loading", r"while loading; nothing was written"),
    ("starting", r"while starting phase"),
    ("compiling", r"while compiling phase"),
    ("training", r"Stopped at step \d+ of \d+ of phase .*; everything is saved"),
    ("training", r"Stopped; everything is saved"),
    ("ended", r"after the end; everything is written"),
    ("loading, scoring", r"Stopped by SIG\w+\."),
)
"""What a command says when it has stopped, and what it was doing."""


def said(ended: Ended, number: signal.Signals) -> tuple[str, str]:
    """What a training was doing when it was asked to stop, by its own words; and what is wrong with its answer."""
    doing = next((name for name, pattern in SAID if re.search(pattern, ended.text)), "")
    if ended.code == 0:
        return "ended", ""
    problems = {
        f"exit code {ended.code}": ended.code != EXIT[number],
        f"{ended.seconds:.1f} s": ended.seconds > SLOW,
        "a traceback": "Traceback" in ended.text,
        "it does not say what was stopped": not doing,
        "it does not say how to go on": "To continue: saegan train" not in ended.text,
    }
    wrong = [problem for problem, there in problems.items() if there]
    tail = f": {' '.join(ended.text.split())[-300:]}" if wrong else ""
    return doing, "; ".join(wrong) + tail


def stopped(
    system: str, folder: Path, whole: Whole, rng: random.Random, number: signal.Signals, *more: object, cached: bool
) -> Trial:
    """One training that is asked to stop at a random moment, and resumed; without the cache most of the time it compiles."""
    arguments = tiny(system, *more, "--out", folder)
    for _ in range(ATTEMPTS):
        process = Process(system, arguments, folder.with_suffix(".txt"), cached=cached)
        running = process.wait_until(rng.uniform(0.0, whole.seconds))
        ended = process.end_by(number)
        if running:
            break
        shutil.rmtree(folder)
    doing, fault = said(ended, number)
    fault = fault or finish(system, arguments, folder, whole)
    return Trial(system=system, signal=number.name, moments=(doing,), seconds=ended.seconds, fault=fault)


def kill_all(
    systems: Sequence[str], *, kills: int, stops: int, seed: int, say: Callable[[str], None] = lambda text: None
) -> list[Trial]:
    """``kills`` trainings of each system killed, and ``stops`` stopped by each of SIGTERM and SIGINT.

    Args:
      systems: of :data:`saegan_jax.runs.registry.TRAININGS`.
      kills: of each.
      stops: of each, by each signal; every other one compiles anew.
      seed: of the moments.
      say: takes one line about progress.
    """
    trials = []
    for system in systems:
        rng = random.Random(f"{seed} {system}")
        with scratch() as folder:
            whole = undisturbed(system, folder)
            for i in range(kills):
                trials.append(killed(system, folder / f"kill{i}", whole, rng))
                say(f"{system}: killed {i + 1} of {kills}; faults {sum(bool(t.fault) for t in trials)}")
            for i in range(2 * stops):
                number, cached = (signal.SIGTERM, signal.SIGINT)[i % 2], i % 4 < 2
                trials.append(stopped(system, folder / f"stop{i}", whole, rng, number, cached=cached))
                say(f"{system}: stopped {i + 1} of {2 * stops}; faults {sum(bool(t.fault) for t in trials)}")
    return trials
