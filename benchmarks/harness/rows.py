"""Rows of a result: what was timed and what it cost, one row per work, arm and metric."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.harness.program.cost import Cost, Machine, floors
from benchmarks.harness.timing import Arm, Timing

Row = dict[str, Any]


def summary(values: Sequence[float]) -> Row:
    """Mean, median and quartiles (``low``, ``high``) beside the values themselves."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {
        "mean": float(np.mean(values)),
        "median": median,
        "low": low,
        "high": high,
        "values": list(map(float, values)),
    }


def row(work: str, arm: str, metric: str, unit: str, values: Sequence[float], **extra: Any) -> Row:
    """One metric of one arm of one work."""
    return {"work": work, "arm": arm, "metric": metric, "unit": unit, **summary(values), **extra}


class Rows:
    """The rows of one arm of one work, as they are added."""

    def __init__(self, work: str, arm: str, dtype: str = "float32") -> None:
        self.work, self.arm = work, arm
        self.extra = {} if dtype == "float32" else {"dtype": dtype}
        self.rows: list[Row] = []

    def add(self, metric: str, unit: str, values: Sequence[float]) -> None:
        """Add one metric."""
        self.rows.append(row(self.work, self.arm, metric, unit, values, **self.extra))

    def add_cost(self, cost: Cost, rates: Sequence[float], machine: Machine) -> None:
        """What a step costs, the floors of its time, and the share of the machine's product rate that it reaches."""
        compute_s, memory_s = floors(cost.flops, cost.bytes, machine)
        self.add("flops", "MFLOP a step", [cost.flops / 1e6])
        self.add("bytes", "MB a step", [cost.bytes / 1e6])
        self.add("throughput", "GFLOP/s", [rate * cost.flops / 1e9 for rate in rates])
        self.add("share", "of the product rate", [rate * compute_s for rate in rates])
        self.add("floor_compute", "ms a step", [1e3 * compute_s])
        self.add("floor_memory", "ms a step", [1e3 * memory_s])
        self.add("peak_memory", "MiB", [cost.peak_bytes / 2**20])

    def add_load(self, others: Sequence[float]) -> None:
        """The cores that other processes used, where the system reports it."""
        if not any(map(math.isnan, others)):
            self.add("other load", "cores", others)


def _arm_rows(
    work: str, arm: Arm, timing: Timing, *, unit: str, batch_size: int | None, machine: Machine | None
) -> list[Row]:
    """What one arm did and cost by itself."""
    rates, rows = timing.rates, Rows(work, arm.name, arm.dtype)
    rows.add("rate", unit, rates)
    if batch_size is not None:
        rows.add("images", "images/s", [rate * batch_size for rate in rates])
    if arm.flops is not None:
        rows.add("flops", "MFLOP a step", [arm.flops / 1e6])
        rows.add("throughput", "GFLOP/s", [rate * arm.flops / 1e9 for rate in rates])
    if arm.flops is not None and machine is not None:
        compute_s, memory_s = floors(arm.flops, arm.bytes or 0.0, machine)
        rows.add("share", "of the product rate", [rate * compute_s for rate in rates])
        if arm.role == "ours" and arm.bytes is not None:
            rows.add("floor_compute", "ms a step", [1e3 * compute_s])
            rows.add("floor_memory", "ms a step", [1e3 * memory_s])
    if arm.compile_s is not None:
        rows.add("compile", "s", [arm.compile_s])
    if arm.peak_bytes is not None:
        rows.add("peak_memory", "MiB", [arm.peak_bytes / 2**20])
    rows.add_load(timing.others)
    return rows.rows


def ratios(timings: Mapping[str, Timing], arm: str, against: str) -> list[float]:
    """The rates of one arm over those of another, turn by turn."""
    return [a / b for a, b in zip(timings[arm].rates, timings[against].rates, strict=True)]


def _ratio_rows(work: str, arms: Sequence[Arm], timings: Mapping[str, Timing]) -> list[Row]:
    """Every arm over the fastest float32 peer, ours over the bfloat16 peer, and ensembles over one member."""
    peers = [arm.name for arm in arms if arm.role == "peer" and arm.dtype == "float32"]
    fastest = max(peers, key=lambda name: float(np.median(timings[name].rates)), default=None)
    halves = [arm.name for arm in arms if arm.role == "peer" and arm.dtype == "bfloat16"]
    rows = []
    for arm in arms:
        half = {"dtype": "bfloat16"} if arm.dtype == "bfloat16" else {}
        if arm.members > 1 and "ours, scan" in timings:
            values = ratios(timings, arm.name, "ours, scan")
            rows.append(row(work, arm.name, "aggregate", "times", values, against="ours, scan"))
        if fastest and arm.name != fastest:
            values = ratios(timings, arm.name, fastest)
            rows.append(row(work, arm.name, "speedup", "times", values, against=fastest, **half))
        for other in halves if arm.role == "ours" else ():
            values = ratios(timings, arm.name, other)
            rows.append(row(work, arm.name, "speedup_bf16", "times", values, against=other, dtype="bfloat16"))
    return rows


def step_rows(
    work: str,
    arms: Sequence[Arm],
    timings: Mapping[str, Timing],
    *,
    unit: str,
    batch_size: int | None = None,
    machine: Machine | None = None,
) -> list[Row]:
    """One row per arm and metric; the ratios are against the fastest float32 peer, repeat by repeat.

    Args:
      work: their work.
      arms, timings: what was timed.
      unit: of the rates.
      batch_size: images a step, for images a second.
      machine: for the share of its rate of products that is reached, and for the floors of ours.
    """
    alone = [_arm_rows(work, arm, timings[arm.name], unit=unit, batch_size=batch_size, machine=machine) for arm in arms]
    together = _ratio_rows(work, arms, timings)
    return [one for rows in alone for one in rows] + together
