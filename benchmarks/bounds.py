"""What a step costs, the least time that takes here, and where the rest goes: ``python -m benchmarks.bounds --help``.

How operations and bytes are counted is in :mod:`benchmarks.harness.program`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harness import results, timing
from benchmarks.harness.machine import array_bytes, measure_machine
from benchmarks.harness.options import matching, parse
from benchmarks.harness.program.cost import Machine
from benchmarks.harness.program.operations import by_kind, operations
from benchmarks.harness.program.profile import profile
from benchmarks.harness.rows import Rows
from benchmarks.harness.session import Part, command, survey, work_through
from benchmarks.harness.timing import Arm, Say
from benchmarks.workloads.images import images_for
from benchmarks.workloads.registry import WORKS
from benchmarks.workloads.scan import Scanned
from benchmarks.workloads.work import Work

LARGEST_DATA = 256 * 2**20
"""Bytes of images, at most, whatever number of them is asked for."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Count what a step costs, measure what the machine can do, and profile where the rest goes."""

    work: str = "*"
    """Shell pattern of the works to examine, for instance 'sae*'."""
    steps: int | None = None
    """Steps in the scan that is timed and traced; by default those of the work."""
    seeds: int = 1
    """Members under vmap; times are then of one member's step."""
    seconds: float = 1.0
    """Least duration of a turn; also what measuring the machine takes, times 10."""
    repeats: int = 3
    """Turns of each program."""
    images: int = 55_000
    """uint8 images in memory."""
    top: int = 10
    """Operations listed of each work."""
    quick: bool = False
    """A smoke run: one turn of 0.05 s, few images, short scans."""
    out: Path | None = None
    """JSON to write, its tables beside it; a complete run has benchmarks/results/bounds_<device>.json."""


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """The command line as options.

    Raises:
      OptionError: a value that cannot be used.
    """
    counts = ("steps", "seeds", "repeats", "images", "top")
    quick = {"seconds": 0.05, "repeats": 1, "images": 2_000}
    return parse(Options, arguments, counts=counts, numbers=("seconds",), quick=quick)


def examine(
    work: Work, pixels: np.ndarray, machine: Machine, *, steps: int, seeds: int, repeats: int, seconds: float
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of a result and the profile of one work; everything a step of one member."""
    members = work.members or (seeds if seeds > 1 else None)
    one = Scanned(
        work.algorithm,
        pixels,
        batch_size=work.batch_size,
        steps=steps,
        members=members,
        members_per_vmap=work.members_per_vmap,
    )
    arm = "ours, scan" if members is None else f"ours, {members} seeds"
    each = one.steps * one.members
    timed = timing.alternate([Arm(arm, one.run, each)], repeats=repeats, seconds=seconds)[arm]
    rows = Rows(work.name, arm)
    rows.add("step", "ms a step", [1e3 / rate for rate in timed.rates])
    if (a_step := one.cost()) is not None:
        rows.add_cost(a_step, timed.rates, machine)
    rows.add("compile", "s", [one.compile_s])
    rows.add_load(timed.others)
    text = one.compiled.as_text()
    traced = profile(partial(one.run, 1), text, steps=each)
    counted = [_per_step(row, each) for row in by_kind(operations(text))]
    return rows.rows, {"work": work.name, "arm": arm, "steps": one.steps, "breakdown": counted, **traced}


def _per_step(row: Mapping[str, Any], steps: int) -> dict[str, Any]:
    return {key: value / steps if key in ("count", "flops", "bytes") else value for key, value in row.items()}


def examined(build: Callable[[], Work], options: Options, machine: Machine, say: Say) -> Part:
    """One work's part of the result."""
    work = build()
    say("compiling and timing")
    length = options.steps or (max(1, work.chunk // 50) if options.quick else work.chunk)
    pixels = images_for(work.image_shape, batch_size=work.batch_size, wanted=options.images, most_bytes=LARGEST_DATA)
    rows, traced = examine(
        work,
        pixels,
        machine,
        steps=length,
        seeds=options.seeds,
        repeats=options.repeats,
        seconds=options.seconds,
    )
    return {"rows": rows, "profiles": [{**traced, "ops": traced["ops"][: options.top]}]}


def run(
    options: Options,
    *,
    works: Mapping[str, Callable[[], Work]] = WORKS,
    measure: Callable[..., Machine] = measure_machine,
) -> None:
    """Examine the works that the options ask for, and write what was found."""
    console = Console()
    chosen = matching("--work", options.work, works)
    settings = {
        "repeats": options.repeats,
        "seconds": options.seconds,
        "n_images": options.images,
        "seeds": options.seeds,
        "quick": options.quick,
        "array_bytes": array_bytes(),
    }
    machine = survey(10 * options.seconds, console, measure)
    jobs = {name: partial(examined, build, options, machine) for name, build in chosen.items()}
    outcome = work_through(jobs, console)
    head = results.heading(
        "Bounds of a training step", "benchmarks.bounds", report="bounds", settings=settings, machine=machine
    )
    whole = options.work == "*" and options.seeds == 1 and options.steps is None and not options.quick
    result = results.assemble(head, outcome, ("skipped", "profiles"))
    name = results.default_name("bounds")
    results.deliver(result, outcome, console, out=options.out, name=name, whole=whole)


if __name__ == "__main__":
    command(lambda: run(parse_options()))
