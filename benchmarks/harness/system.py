"""CPU time and memory, of this process and of the machine, as Linux reports them."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


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


def busy_seconds() -> tuple[float, float]:
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
    """Most memory of this process in use during ``run()``, less ``before``; None where the system does not report it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    except OSError:
        return None
    run()
    peak = _memory("VmHWM")
    return None if peak is None or before is None else max(0, peak - before)


def available_bytes() -> int:
    """Memory that a new array can take: the device's, or of the machine's main memory what is free."""
    first = jax.devices()[0]
    stats = first.memory_stats() if first.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    limits = [8 * 2**30]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")] or limits
        most, used = (int(Path(f"/sys/fs/cgroup/memory.{f}").read_text()) for f in ("max", "current"))
        limits.append(most - used)
    except (OSError, ValueError):  # not Linux, or no limit there ("max")
        pass
    return max(0, min(limits))


def reduced_products() -> bool:
    """Whether JAX computes float32 products with fewer bits: on GPUs in TensorFloat-32, unless all bits are asked for."""
    config: Any = jax.config
    return jax.default_backend() == "gpu" and config.jax_default_matmul_precision not in ("highest", "float32")
