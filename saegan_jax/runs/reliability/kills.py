"""Trainings killed at random moments, or asked to stop, and resumed: how many end as undisturbed ones to the bit."""

import random
import re
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saegan_jax.runs.reliability.fingerprint import differences, fingerprint
from saegan_jax.runs.reliability.processes import Ended, Process, tiny, train

CHAIN = 6  # disturbances of one training, one after the other, before it is resumed to its end
ATTEMPTS = 8  # trainings in a row that may end before their moment comes
EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143}
SLOW = 10.0  # seconds from a signal to the end of the process that count as too many


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """One signal that a training got, which was resumed afterwards.

    Attributes:
      system: what was trained.
      signal: by name.
      training: which one, counted within its system; of several disturbances of one the last was resumed to the end.
      moment: what it was doing.
      seconds: from the signal to its end.
      fault: what was wrong with the answer, or with what the training left in the end; empty where nothing was.
    """

    system: str
    signal: str
    training: int
    moment: str
    seconds: float
    fault: str


@dataclass(frozen=True)
class Whole:
    """An undisturbed training: how long it takes in all and from its first row of metrics on, and what it leaves."""

    seconds: float
    from_first_row: float
    result: dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """A signal to send; whether the training may take compiled programs from the cache."""

    number: signal.Signals
    cached: bool = True


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
        process = Process(system, tiny(system, *more, "--out", folder / name), folder / f"{name}.txt")
        process.wait_for(folder / name / "metrics.jsonl")
        begun = process.seconds
        ended = process.wait()
        if ended.code != 0:
            raise FailedError(f"{system} ended with {ended.code}: {ended.text[-2000:]}")
        results.append(fingerprint(folder / name))
    if differing := differences(results[0], results[1]):
        raise FailedError(f"two undisturbed trainings of {system} differ in {', '.join(differing)}.")
    return Whole(ended.seconds, ended.seconds - begun, results[1])


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


def wait_for_moment(process: Process, folder: Path, whole: Whole, rng: random.Random) -> bool:
    """Wait for a random moment: of the whole time, or as often of that from the first row on; whether it still runs."""
    if rng.random() < 0.5:
        return process.wait_until(rng.uniform(0.0, whole.seconds))
    later = rng.uniform(0.0, whole.from_first_row)
    process.wait_for(folder / "metrics.jsonl")
    return process.wait_until(process.seconds + later)


def disturb(
    system: str, folder: Path, whole: Whole, rng: random.Random, wishes: Sequence[Wish], training: int
) -> list[Disturbance]:
    """One training that gets one signal after the other, resumed each time, and in the end to its last step.

    Args:
      system: what to train.
      folder: the run folder.
      whole: the undisturbed training.
      rng: of the moments.
      wishes: the signals.
      training: a number for it.

    Returns:
      What happened, until the training ended before a moment came, or a fault.
    """
    arguments = tiny(system, "--out", folder)
    found: list[Disturbance] = []
    for wish in wishes:
        words = [*arguments, *resumption(folder)]
        process = Process(system, words, folder.with_suffix(".txt"), cached=wish.cached)
        running = wait_for_moment(process, folder, whole, rng)
        ended = process.end_by(wish.number)
        if not running or ended.code == 0:
            break
        doing, fault = said(ended, wish.number) if wish.number in EXIT else (moment(folder), "")
        if wish.number not in EXIT and ended.code != -wish.number:
            fault = f"exit code {ended.code}: {ended.text[-400:]}"
        common: dict[str, Any] = {"system": system, "signal": wish.number.name, "training": training}
        found.append(Disturbance(**common, moment=doing, seconds=ended.seconds, fault=fault))
        if fault:
            break
    fault = finish(system, arguments, folder, whole) if found else ""
    return [replace(one, fault=one.fault or fault) for one in found]


class _Queue:
    """The signals that trainings of one system are still to get."""

    def __init__(self, system: str, folder: Path, *, kills: int, stops: int, seed: int) -> None:
        self.system, self.folder = system, folder
        self.rng = random.Random(f"{seed} {system}")
        asked = [Wish((signal.SIGTERM, signal.SIGINT)[i % 2], cached=i % 4 < 2) for i in range(2 * stops)]
        self.wishes = [Wish(signal.SIGKILL)] * kills + asked
        self.rng.shuffle(self.wishes)
        self.whole: Whole | None = None
        self.trainings = self.vain = 0

    def one_training(self) -> list[Disturbance]:
        """Disturb one training by the next few of them."""
        if self.whole is None:
            self.folder.mkdir()
            self.whole = undisturbed(self.system, self.folder)
        run = self.folder / str(self.trainings)
        found = disturb(self.system, run, self.whole, self.rng, self.wishes[:CHAIN], self.trainings)
        self.wishes, self.trainings = self.wishes[len(found) :], self.trainings + 1
        self.vain = 0 if found else self.vain + 1
        if self.vain == ATTEMPTS:
            raise FailedError(f"{ATTEMPTS} trainings of {self.system} ended before their moment came.")
        return found


def disturb_all(systems: Sequence[str], *, kills: int, stops: int, seed: int) -> Iterator[Disturbance]:
    """``kills`` signals SIGKILL to trainings of each system, and ``stops`` each of SIGTERM and SIGINT; systems take turns.

    Args:
      systems: of :data:`saegan_jax.runs.registry.TRAININGS`.
      kills: for each.
      stops: for each, of each signal; every other pair compiles anew.
      seed: of the moments.

    Raises:
      FailedError: undisturbed trainings do not end well, or always before their moment comes.
    """
    with scratch() as folder:
        queues = [_Queue(system, folder / system, kills=kills, stops=stops, seed=seed) for system in systems]
        while queues:
            for queue in queues:
                yield from queue.one_training()
            queues = [queue for queue in queues if queue.wishes]
