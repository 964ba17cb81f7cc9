"""The five parts of the study of reliability: what each counts, and what its numbers are of."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from saegan_jax.report.table import Row
from saegan_jax.runs.reliability import rows

Say = Callable[[str], None]


class Asked(Protocol):
    """How much is asked for; see the options of ``experiments.reliability``."""

    @property
    def systems(self) -> tuple[str, ...]: ...
    @property
    def kills(self) -> int: ...
    @property
    def stops(self) -> int: ...
    @property
    def pairs(self) -> int: ...
    @property
    def settings(self) -> int: ...
    @property
    def executed(self) -> int: ...
    @property
    def files(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def minutes(self) -> float: ...
    @property
    def most_minutes(self) -> float: ...


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
    note = "Cells: cases without fault, of those tried. Every file of the newest checkpoint is damaged in four ways."
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
