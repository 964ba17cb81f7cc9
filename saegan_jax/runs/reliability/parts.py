"""The five parts of the study of reliability: what each counts, and what its numbers are of."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from saegan_jax.errors import require, require_choice, require_positive
from saegan_jax.report.table import Row
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.runs.reliability import rows

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How much is asked for."""

    systems: tuple[str, ...] = tuple(TRAININGS)
    """Systems that are trained."""
    kills: int = 17
    """Signals SIGKILL for each system (kills)."""
    stops: int = 4
    """Signals SIGTERM for each system, and as many SIGINT (kills)."""
    pairs: int = 4
    """Runs that two processes begin at once, and as many that they resume at once (damage)."""
    settings: int = 200
    """Settings of each system (fuzz)."""
    executed: int = 20
    """Of them, the most that are compiled and run for two steps; the others are traced (fuzz)."""
    files: int = 300
    """Damaged files of each kind (fuzz)."""
    minutes: float = 10.0
    """Length of the training (soak)."""
    most_minutes: float = 60.0
    """Time after which what has been counted is written, though less was asked for."""
    seed: int = 0
    """Of all moments, places and draws."""

    def __post_init__(self) -> None:
        for system in self.systems:
            require_choice("systems", system, tuple(TRAININGS))
        require(len(self.systems) > 0, "systems", self.systems, f"name some of {', '.join(TRAININGS)}.")
        counts = {"kills": self.kills, "stops": self.stops, "settings": self.settings, "files": self.files}
        require_positive(**counts, pairs=self.pairs, executed=self.executed, minutes=self.minutes)
        require_positive(most_minutes=self.most_minutes)


class Found(NamedTuple):
    """What a part has counted.

    Attributes:
      rows: of the result.
      things: one by one, each with a ``fault``.
      note: what the numbers are of.
    """

    rows: list[Row]
    things: Sequence[Any]
    note: str


def taken(things: Iterator[Any], asked: Asked, say: Say) -> list[Any]:
    """All of ``things``, or those that came within the time."""
    found, end = [], time.monotonic() + 60 * asked.most_minutes
    for thing in things:
        found.append(thing)
        say(f"{len(found)} done, faults {sum(bool(one.fault) for one in found)}")
        if time.monotonic() > end:
            break
    return found


def kills(asked: Asked, say: Say) -> Found:
    """Killed and stopped trainings, resumed."""
    from saegan_jax.runs.reliability.kills import CHAIN, disturb_all

    signals = disturb_all(asked.systems, kills=asked.kills, stops=asked.stops, seed=asked.seed)
    found = taken(signals, asked, say)
    note = (
        "Cells: signals after which arrays, metrics, alarms and closing table of the resumed training are equal to those of an "
        "undisturbed one, of all sent. Half of the moments are uniform over the run time from the start of the process on, the "
        f"others over that from the first row of metrics on. A training gets up to {CHAIN} signals, one after the other. One "
        "asked to stop must also end with the right code within 10 s and say how to go on; every other pair compiles anew."
    )
    return Found(rows.kill_rows(found), found, note)


def damage(asked: Asked, say: Say) -> Found:
    """Damaged files, full disks, read-only folders, two processes."""
    from saegan_jax.runs.reliability.damage import damage_all

    world = "gan" if "gan" in asked.systems else asked.systems[0]
    cases = taken(damage_all(asked.systems, world=world, pairs=asked.pairs, seed=asked.seed), asked, say)
    note = (
        "Cells: cases without fault, of those tried. Every file of the newest checkpoint is damaged in four ways. A run that "
        "goes on with damaged metrics or alarms may have lost rows of that file, which its outcome says, and nothing else."
    )
    return Found(rows.damage_rows(cases), cases, note)


def non_finite(asked: Asked, say: Say) -> Found:
    """NaN and infinities in trainings."""
    from saegan_jax.runs.reliability.non_finite import inject_all

    found = taken(inject_all(asked.systems, seed=asked.seed), asked, say)
    note = (
        "Cells: noticed within one logging interval, step and leaf named, the last good state kept; of all injections."
    )
    return Found(rows.injection_rows(found), found, note)


def fuzz(asked: Asked, say: Say) -> Found:
    """Settings and files drawn at random."""
    from saegan_jax.runs.reliability.fuzz_files import draw_files
    from saegan_jax.runs.reliability.fuzz_settings import draw_settings

    files = taken(draw_files(each=asked.files, seed=asked.seed), asked, say)
    drawn = draw_settings(asked.systems, each=asked.settings, executed=asked.executed, seed=asked.seed)
    settings = taken(drawn, asked, say)
    note = "Cells: without fault, of those drawn; then how many were refused by one clear error, traced, run, or taken."
    return Found(rows.fuzz_rows(settings, files), [*settings, *files], note)


def soak(asked: Asked, say: Say) -> Found:
    """One long training."""
    from saegan_jax.runs.reliability.soak import soak as one

    found = one(minutes=asked.minutes, say=say)
    note = "Slopes are Theil-Sen's, with a 95 % interval, without the first fifth of the time."
    return Found(rows.soak_rows(found), [found], note)


PARTS: dict[str, Callable[[Asked, Say], Found]] = {
    "kills": kills, "damage": damage, "non-finite": non_finite, "fuzz": fuzz, "soak": soak
}  # fmt: skip
