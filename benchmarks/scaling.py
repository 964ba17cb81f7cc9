"""How a step's cost grows with batch, width, dictionary and seeds, to the memory: ``python -m benchmarks.scaling --help``.

One axis at a time around the works that ``benchmarks.run`` times, ours only. Beside every measured time are the two floors of
:mod:`benchmarks.bounds`: while neither is near, a step pays for operations that run below the machine's rates, mostly small
ones; then its operations or its bytes hold it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from benchmarks.harness import results, timing
from benchmarks.harness.errors import OptionError
from benchmarks.harness.machine import array_bytes, measure_machine
from benchmarks.harness.options import parse
from benchmarks.harness.program.cost import Cost, Machine
from benchmarks.harness.rows import Row, Rows
from benchmarks.harness.session import Part, command, survey, work_through
from benchmarks.harness.system import available_bytes
from benchmarks.harness.timing import Arm, Say, Timing, silent
from benchmarks.workloads.growth import AXES, SERIES, Axis, Point, Series
from benchmarks.workloads.images import images
from benchmarks.workloads.scan import Scanned

FREE_SHARE = 0.8  # of the free memory; what a program is predicted to take is without what the allocator itself takes
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure how the cost of a step grows with batch, width, dictionary and number of seeds."""

    axes: tuple[Axis, ...] = AXES
    """What to grow, one at a time."""
    repeats: int = 3
    """Turns of each point."""
    seconds: float = 0.3
    """Least duration of one turn."""
    budget: float = 60.0
    """Seconds for each series, compiling included; then it stops growing."""
    memory: float | None = None
    """GiB that a program may take; by default 0.8 of what is free."""
    quick: bool = False
    """A smoke run: two points of each series, one turn of 0.02 s."""
    out: Path | None = None
    """JSON to write, table and picture beside it; a complete run has benchmarks/results/scaling_<device>.json."""


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """The command line as options.

    Raises:
      OptionError: a value that cannot be used.
    """
    numbers, quick = ("seconds", "budget", "memory"), {"repeats": 1, "seconds": 0.02}
    options = parse(Options, arguments, counts=("repeats",), numbers=numbers, quick=quick)
    if not options.axes:
        raise OptionError("--axes", "without a value", f"name one or more of {', '.join(AXES)}.")
    return options


class Limits(NamedTuple):
    """When a series ends.

    Attributes:
      memory: bytes that a program may take; what it takes is predicted by XLA before it is run.
      budget: seconds for the series, compiling and timing together.
      turn: seconds of one turn.
      repeats: turns of each point.
      most: points, at most.
    """

    memory: float
    budget: float
    turn: float
    repeats: int
    most: int | None = None


class Measured(NamedTuple):
    """A point that ran: its program, what that costs a step, and the seconds that a call took."""

    value: int
    point: Point
    scan: Scanned
    cost: Cost | None
    seconds: float


class End(NamedTuple):
    """Why a series ended before a value: the limit (memory or time), and what its program was predicted to take."""

    limit: str
    reason: str
    predicted_bytes: int | None = None


def _too_large(cost: Cost | None, limits: Limits) -> End | None:
    if cost is None or cost.peak_bytes <= limits.memory:
        return None
    reason = f"{cost.peak_bytes / GIB:.3g} GiB predicted, {limits.memory / GIB:.3g} GiB allowed"
    return End("memory", reason, cost.peak_bytes)


def _too_slow(scan: Scanned, cost: Cost | None, last: Measured | None, limits: Limits, left: float) -> End | None:
    """By the operations of this point and of the last one, and the time that the last one took."""
    if cost is None or last is None or last.cost is None or last.cost.flops <= 0:
        return None
    here = cost.flops * scan.steps * scan.members
    there = last.cost.flops * last.scan.steps * last.scan.members
    needed = 2 * last.seconds * here / there * (limits.repeats + 1)
    if needed <= left:
        return None
    reason = f"{needed:.3g} s predicted, {max(left, 0):.3g} s of the series' {limits.budget:g} s left"
    return End("time", reason, cost.peak_bytes)


def _try(
    series: Series, value: int, last: Measured | None, limits: Limits, left: Callable[[], float]
) -> Measured | End:
    """Compile one point, and run it if it fits."""
    if left() <= 0:
        return End("time", f"the {limits.budget:g} s for this series were used up")
    point = series.point(value)
    pixels = images(max(10_000, point.batch_size), series.shape)
    scan = Scanned(point.algorithm, pixels, batch_size=point.batch_size, steps=point.steps, members=point.members)
    cost = scan.cost()
    if end := _too_large(cost, limits) or _too_slow(scan, cost, last, limits, left()):
        return end
    try:
        scan.run(1)
        took = timing.stopwatch(partial(scan.run, 1))[1]
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return End("memory", "out of memory in spite of the prediction", None if cost is None else cost.peak_bytes)
    finally:
        scan.release()
    return Measured(value, point, scan, cost, took)


def climb(series: Series, limits: Limits, *, say: Say = silent) -> tuple[list[Measured], list[dict[str, Any]]]:
    """Compile and try one value after another until the next would not fit into the memory or the time.

    Args:
      series: what to grow.
      limits: of memory, time and number of points.
      say: gets a line on what is being done.

    Returns:
      The points that ran once, and the one that did not: ``work``, ``value``, ``predicted_bytes`` (or None), ``limit``
      (memory or time), ``reason``.
    """
    began = time.perf_counter()
    ran: list[Measured] = []
    reserved = 0.0  # of the budget, for the turns

    def left() -> float:
        return limits.budget - (time.perf_counter() - began) - reserved

    for value in series.values():
        if limits.most is not None and len(ran) == limits.most:
            break
        say(f"{value:,}")
        found = _try(series, value, ran[-1] if ran else None, limits, left)
        if isinstance(found, End):
            return ran, [{"work": series.name, "value": value, **found._asdict()}]
        ran.append(found)
        reserved += limits.repeats * (max(limits.turn, found.seconds) + found.seconds)
    return ran, []


def turns(measured: Sequence[Measured], *, repeats: int, seconds: float, say: Say = silent) -> list[Timing]:
    """Time the points by turns, each with the memory to itself; one timing per point."""
    timings = [Timing([], []) for _ in measured]
    for repeat in range(repeats):
        for one, found in zip(measured, timings, strict=True):
            say(f"{one.value:,}: turn {repeat + 1} of {repeats}")
            arm = Arm(str(one.value), one.scan.run, one.scan.steps * one.scan.members)
            got = timing.alternate([arm], repeats=1, seconds=seconds)[arm.name]
            one.scan.release()
            found.rates.extend(got.rates)
            found.others.extend(got.others)
    return timings


def rows_of(series: Series, one: Measured, found: Timing, machine: Machine) -> list[Row]:
    """One row per metric of a point; its arm is the value of the axis."""
    rows = Rows(series.name, str(one.value))
    rows.add("rate", "steps/s", found.rates)
    rows.add("images", "images/s", [rate * one.point.batch_size for rate in found.rates])
    rows.add("step", "ms a step", [1e3 / rate for rate in found.rates])
    if one.cost is not None:
        rows.add_cost(one.cost, found.rates, machine)
    rows.add("compile", "s", [one.scan.compile_s])
    rows.add_load(found.others)
    return rows.rows


def grow(series: Series, limits: Limits, options: Options, machine: Machine, say: Say) -> Part:
    """One series: its points, timed by turns, and where it ended."""
    found, beyond = climb(series, limits, say=say)
    timings = turns(found, repeats=options.repeats, seconds=options.seconds, say=say)
    rows = [row for one, t in zip(found, timings, strict=True) for row in rows_of(series, one, t, machine)]
    return {"rows": rows, "not_run": beyond}


def run(
    options: Options, *, series: Sequence[Series] = SERIES, measure: Callable[..., Machine] = measure_machine
) -> None:
    """Measure what the options ask for, and write it."""
    console = Console()
    allowed = FREE_SHARE * available_bytes() if options.memory is None else options.memory * GIB
    limits = Limits(allowed, options.budget, 1.5 * options.seconds, options.repeats, 2 if options.quick else None)
    settings = {
        "repeats": options.repeats,
        "seconds": options.seconds,
        "budget": options.budget,
        "memory_bytes": allowed,
        "quick": options.quick,
        "array_bytes": array_bytes(),
    }
    machine = survey(20 * options.seconds, console, measure)
    chosen = [one for one in series if one.axis in options.axes]
    jobs = {one.name: partial(grow, one, limits, options, machine) for one in chosen}
    outcome = work_through(jobs, console)
    head = results.heading(
        "Cost of a step as work grows", "benchmarks.scaling", report="scaling", settings=settings, machine=machine
    )
    whole = set(options.axes) == set(AXES) and not options.quick
    result = results.assemble(head, outcome, ("not_run",))
    name = results.default_name("scaling")
    results.deliver(result, outcome, console, out=options.out, name=name, whole=whole)


if __name__ == "__main__":
    command(lambda: run(parse_options()))
