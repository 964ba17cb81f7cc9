"""Timing several programs by turns in one run, and saying how busy the machine was meanwhile."""

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


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
      turn: its turns last so many times as long as the others', where starting one has a cost of its own.
    """

    name: str
    run: Callable[[int], None]
    steps_per_call: int
    flops: float | None = None
    compile_s: float | None = None
    bytes: float | None = None
    peak_bytes: int | None = None
    turn: float = 1.0


class Timing(NamedTuple):
    """Steps a second and the CPU cores that other processes used meanwhile (NaN where unknown), one value per repeat."""

    rates: list[float]
    others: list[float]


def stopwatch(function: Callable[[], Any]) -> tuple[Any, float]:
    """``(function(), seconds)``, waiting for jax arrays among the results."""
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    return result, time.perf_counter() - start


def family_seconds(process: int | None = None) -> float:
    """CPU seconds of a process, by default this one, and of all that it started, those that ended included (Linux)."""
    process = os.getpid() if process is None else process
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()  # a program's name may hold blanks and brackets
        except OSError:
            continue  # it ended meanwhile
        pid = int(stat.parent.name)
        parents[pid], used[pid] = int(fields[1]), sum(map(int, fields[11:15]))

    def within(pid: int) -> bool:
        while pid in parents and pid != process:
            pid = parents[pid]
        return pid == process

    return sum(ticks for pid, ticks in used.items() if within(pid)) / os.sysconf("SC_CLK_TCK")


def _busy_seconds() -> tuple[float, float]:
    """CPU seconds since boot that all processes used, and this one with those it started; NaN outside Linux."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    except (OSError, ValueError):
        return math.nan, math.nan
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), family_seconds()


def _memory(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), None)


def resident_bytes() -> int | None:
    """Memory of this process that is in use now; None outside Linux."""
    return _memory("VmRSS")


def growth(before: int | None, run: Callable[[], object]) -> int | None:
    """Most memory of this process in use during ``run()``, less ``before``; None where Linux does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    except OSError:
        return None
    run()
    peak = _memory("VmHWM")
    return None if peak is None or before is None else max(0, peak - before)


def alternate(
    arms: Sequence[Arm], *, repeats: int, seconds: float, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Timing]:
    """Time ``arms`` by turns, A B C A B C ..., so that a slow minute of the machine hits them all.

    Args:
      arms: programs, compiled already.
      repeats: turns.
      seconds: least duration of one arm's turn; whole calls only, as many for every turn of an arm.
      progress: told what is being done.

    Returns:
      One :class:`Timing` per arm name.
    """
    calls = {}
    for arm in arms:
        progress(f"{arm.name}: warming up")
        arm.run(1)
        n = 1
        least = seconds * arm.turn
        while (took := stopwatch(lambda arm=arm, n=n: arm.run(n))[1]) < least / 4:  # type: ignore[misc]
            n = min(8 * n, math.ceil(n * least / 2 / max(took, 1e-6)))
        calls[arm.name] = math.ceil(n * least / took)
    timings = {arm.name: Timing([], []) for arm in arms}
    for repeat in range(repeats):
        for arm in arms:
            progress(f"{arm.name}: repeat {repeat + 1} of {repeats}")
            (all_before, own_before), n = _busy_seconds(), calls[arm.name]
            took = stopwatch(lambda arm=arm, n=n: arm.run(n))[1]  # type: ignore[misc]
            all_after, own_after = _busy_seconds()
            timings[arm.name].rates.append(n * arm.steps_per_call / took)
            timings[arm.name].others.append(max(0.0, (all_after - all_before) - (own_after - own_before)) / took)
    return timings


MATRIX_PRODUCTS = ((2048, 2048, 2048), (256, 784, 128))


def xla_product(shape: tuple[int, int, int], dtype: str = "float32") -> Arm:
    """The product ``(m, k) x (k, n)`` of ``dtype`` in XLA, at JAX's default precision: 2 m k n operations a call."""
    m, k, n = shape
    a, b = (jax.random.normal(jax.random.key(i), s, dtype) for i, s in enumerate(((m, k), (k, n))))
    product, compile_s = stopwatch(lambda: jax.jit(jnp.matmul).lower(a, b).compile())

    def run(calls: int) -> None:
        for _ in range(calls):
            out = product(a, b)
        out.block_until_ready()

    name = "xla" if dtype == "float32" else f"xla {dtype}"
    return Arm(f"{name} {m}x{k}x{n}", run, 1, 2.0 * m * k * n, compile_s)


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, median and quartiles (``low``, ``high``) beside the values themselves."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {
        "mean": float(np.mean(values)),
        "median": median,
        "low": low,
        "high": high,
        "values": list(map(float, values)),
    }
