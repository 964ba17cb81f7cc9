"""Timing several programs by turns in one run, and saying how busy the machine was meanwhile."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax

from benchmarks.harness.system import busy_seconds

Say = Callable[[str], None]


def silent(_: str) -> None:
    """Report no progress."""


class Arm(NamedTuple):
    """One program to be timed.

    Attributes:
      name: its column in every table.
      run: ``run(calls)`` returns when the results of that many calls are there.
      steps_per_call: training steps (of all seeds together) that one call takes.
      flops: floating-point operations a step, or None where they are not known.
      compile_s: seconds that tracing and compiling took, or None for a program that is not compiled.
      bytes: bytes that a step's instructions read and write, or None where they are not known.
      peak_bytes: memory that the program takes, or None where it is not known.
      turn: its turns last so many times as long as the others', where starting one costs time.
      role: whose training step it is; "other" for a program that is no training step.
      members: seeds that it trains together.
      dtype: that it computes in.
    """

    name: str
    run: Callable[[int], None]
    steps_per_call: int
    flops: float | None = None
    compile_s: float | None = None
    bytes: float | None = None
    peak_bytes: int | None = None
    turn: float = 1.0
    role: Literal["ours", "peer", "other"] = "other"
    members: int = 1
    dtype: str = "float32"


class Timing(NamedTuple):
    """Steps a second and the CPU cores that other processes used meanwhile (NaN where unknown), one value per repeat."""

    rates: list[float]
    others: list[float]


def stopwatch(function: Callable[[], Any]) -> tuple[Any, float]:
    """``(function(), seconds)``, waiting for jax arrays among the results."""
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    return result, time.perf_counter() - start


def watched(function: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that it took, and core-seconds of other processes meanwhile, NaN where unknown."""
    all_before, family_before = busy_seconds()
    took = stopwatch(function)[1]
    all_after, family_after = busy_seconds()
    return took, max((all_after - all_before) - (family_after - family_before), 0.0)  # in this order a NaN stays one


def calls_of(arm: Arm, seconds: float) -> int:
    """Warm ``arm`` up, and count the calls that take at least ``seconds``, times its ``turn``."""
    arm.run(1)
    calls, least = 1, seconds * arm.turn
    while (took := stopwatch(partial(arm.run, calls))[1]) < least / 4:
        calls = min(8 * calls, math.ceil(calls * least / 2 / max(took, 1e-6)))
    return math.ceil(calls * least / took)


def alternate(arms: Sequence[Arm], *, repeats: int, seconds: float, say: Say = silent) -> dict[str, Timing]:
    """Time ``arms`` by turns, A B C A B C ..., so that a slow minute of the machine hits them all.

    Args:
      arms: programs, compiled already.
      repeats: turns.
      seconds: least duration of one arm's turn; whole calls only, as many for every turn of an arm.
      say: gets a line on what is being done.

    Returns:
      One :class:`Timing` per arm name.
    """
    calls = {}
    for arm in arms:
        say(f"{arm.name}: warming up")
        calls[arm.name] = calls_of(arm, seconds)
    timings = {arm.name: Timing([], []) for arm in arms}
    for repeat in range(repeats):
        for arm in arms:
            say(f"{arm.name}: repeat {repeat + 1} of {repeats}")
            took, others = watched(partial(arm.run, calls[arm.name]))
            timings[arm.name].rates.append(calls[arm.name] * arm.steps_per_call / took)
            timings[arm.name].others.append(others / took)
    return timings
