"""Prove by counts that nothing is lost and nothing is silent: trainings killed, stopped, damaged, poisoned, fuzzed, soaked."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax import signals
from saegan_jax.errors import require, require_choice, require_positive
from saegan_jax.report.results import require_json
from saegan_jax.report.table import Result, Row
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import experiment_command, main
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.runs.reliability import rows

Part = Literal["kills", "damage", "non-finite", "fuzz", "soak"]
Say = Callable[[str], None]
Found = tuple[list[Row], Sequence[Any], str]


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Disturb tiny trainings of every system in one way, many times, and count what is lost or silent."""

    part: tyro.conf.Positional[Part]
    """kills: SIGKILL, SIGTERM and SIGINT at random moments. damage: files, disks, folders, two processes. non-finite: NaN and
    infinities in data, gradients, parameters. fuzz: settings and files drawn at random. soak: a long training."""
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
    results: Path | None = None
    """JSON to write, its Markdown beside it; by default runs/reliability_<part>.json."""

    def __post_init__(self) -> None:
        check_options(self)
        for system in self.systems:
            require_choice("systems", system, tuple(TRAININGS))
        require(len(self.systems) > 0, "systems", self.systems, f"name some of {', '.join(TRAININGS)}.")
        counts = {"kills": self.kills, "stops": self.stops, "settings": self.settings, "files": self.files}
        require_positive(**counts, pairs=self.pairs, executed=self.executed, minutes=self.minutes)
        require_positive(most_minutes=self.most_minutes)
        require_json(self.results)


def taken(things: Iterator[Any], options: Reliability, say: Say) -> list[Any]:
    """All of ``things``, or those that came within the time."""
    found, end = [], time.monotonic() + 60 * options.most_minutes
    for thing in things:
        found.append(thing)
        say(f"{len(found)} done, faults {sum(bool(one.fault) for one in found)}")
        if time.monotonic() > end:
            break
    return found


def kills(options: Reliability, say: Say) -> Found:
    """Killed and stopped trainings, resumed."""
    from saegan_jax.runs.reliability.kills import CHAIN, disturb_all

    asked = {"kills": options.kills, "stops": options.stops, "seed": options.seed}
    found = taken(disturb_all(options.systems, **asked), options, say)
    note = (
        "Cells: signals after which arrays, metrics, alarms and closing table of the resumed training are equal to those of an "
        "undisturbed one, of all sent. Half of the moments are uniform over the run time from the start of the process on, the "
        f"others over that from the first row of metrics on. A training gets up to {CHAIN} signals, one after the other. One "
        "asked to stop must also end with the right code within 10 s and say how to go on; every other pair compiles anew."
    )
    return rows.kill_rows(found), found, note


def damage(options: Reliability, say: Say) -> Found:
    """Damaged files, full disks, read-only folders, two processes."""
    from saegan_jax.runs.reliability.damage import damage_all

    world = "gan" if "gan" in options.systems else options.systems[0]
    cases = taken(damage_all(options.systems, world=world, pairs=options.pairs, seed=options.seed), options, say)
    note = "Cells: cases without fault, of those tried. Every file of the newest checkpoint is damaged in four ways."
    return rows.damage_rows(cases), cases, note


def non_finite(options: Reliability, say: Say) -> Found:
    """NaN and infinities in trainings."""
    from saegan_jax.runs.reliability.non_finite import inject_all

    found = taken(inject_all(options.systems, seed=options.seed), options, say)
    note = (
        "Cells: noticed within one logging interval, step and leaf named, the last good state kept; of all injections."
    )
    return rows.injection_rows(found), found, note


def fuzz(options: Reliability, say: Say) -> Found:
    """Settings and files drawn at random."""
    from saegan_jax.runs.reliability.fuzz_files import draw_files
    from saegan_jax.runs.reliability.fuzz_settings import draw_settings

    files = taken(draw_files(each=options.files, seed=options.seed), options, say)
    drawn = draw_settings(options.systems, each=options.settings, executed=options.executed, seed=options.seed)
    settings = taken(drawn, options, say)
    note = "Cells: without fault, of those drawn; then how many were refused by one clear error, traced, run, or taken."
    return rows.fuzz_rows(settings, files), [*settings, *files], note


def soak(options: Reliability, say: Say) -> Found:
    """One long training."""
    from saegan_jax.runs.reliability.soak import soak as one

    found = one(minutes=options.minutes, say=say)
    note = "Slopes are Theil-Sen's, with a 95 % interval, without the first fifth of the time."
    return rows.soak_rows(found), [found], note


PARTS: dict[str, Callable[[Reliability, Say], Found]] = {
    "kills": kills, "damage": damage, "non-finite": non_finite, "fuzz": fuzz, "soak": soak
}  # fmt: skip


def run(options: Reliability) -> None:
    """Disturb, count, write and show."""
    console = Console()
    signals.continue_with()  # the same command, from its beginning
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # processes that are killed share no accelerator
    with console.status("the first training") as status:
        found, things, note = PARTS[options.part](options, status.update)
    extra = {"part": options.part, "note": note, "faults": rows.faults_of(things)}
    result = Result.here(f"reliability, {options.part}", experiment_command("reliability"), found, **extra)
    path = options.results or Path("runs") / f"reliability_{options.part.replace('-', '_')}.json"
    result.write(path, rows.tables(result))
    console.print(Markdown(rows.tables(result)))
    console.print(Text(f"{path} and its table are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Reliability:
    """The command line as options."""
    return tyro.cli(Reliability, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
