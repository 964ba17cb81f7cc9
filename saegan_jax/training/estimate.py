"""What a program compiled for a TPU says of its cost: the compiler's estimate of its time, and what it sends to other chips.

Estimates of a cost model, not timings. The compiler notes ``estimated_cycles`` beside the operations that it schedules itself.
Sorts, calls of its libraries and the sending between chips have none and are missing from the sum.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from saegan_jax.hlo import Computation, Instruction, parse, sizes


class Chip(NamedTuple):
    """A kind of TPU.

    Attributes:
      flops_per_s: published peak, bfloat16 products.
      flops_per_cycle: of all its matrix units, two for each multiplication: the power of two above what the cost model reaches.
      memory: bytes of its high bandwidth memory, as published.
    """

    flops_per_s: float
    flops_per_cycle: int
    memory: int

    @property
    def clock(self) -> float:
        """Cycles a second at which the matrix units reach the published peak."""
        return self.flops_per_s / self.flops_per_cycle


CHIPS: Mapping[str, Chip] = {
    "v5e": Chip(197e12, 2 * 4 * 128**2, 16 * 2**30),
    "v5p": Chip(459e12, 2 * 8 * 128**2, 95 * 2**30),
    "v6e": Chip(918e12, 2 * 4 * 256**2, 32 * 2**30),
}
"""By the first word of a topology. Source: Google Cloud TPU's pages on v5e, v5p and v6e. The cost model's cycles agree: by
them a bfloat16 product of 4,096 x 4,096 x 65,536 runs at 98, 98 and 90 % of the peak."""

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
FREE_CALLS = ("ConcatBitcast", "GatherScatterIndicesBitpacked", "AllocateBuffer", "Sharding", "SPMDFullToShardShape")
"""Targets of custom calls that only name memory."""
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_GROUPS = re.compile(r"replica_groups=(?:\{\{([0-9,]*)\}|\[\d+,(\d+)\])")


class Estimate(NamedTuple):
    """Of one run of a program on each of its chips.

    Attributes:
      cycles: the sum of the estimates, loops of known length counted as often as they run.
      collectives: how many of each kind are run.
      sent: bytes that a chip sends to others, each collective as a ring.
      open_loops: of each loop of unknown length, the cycles of its body, which are counted once.
      missing: what takes time and has no estimate, by its name: sorts and custom calls.
    """

    cycles: float = 0.0
    collectives: Mapping[str, float] = {}
    sent: float = 0.0
    open_loops: tuple[float, ...] = ()
    missing: Mapping[str, float] = {}

    def plus(self, other: "Estimate", times: float = 1.0) -> "Estimate":
        """This and ``times`` the other."""
        return Estimate(
            self.cycles + times * other.cycles,
            _added(self.collectives, other.collectives, times),
            self.sent + times * other.sent,
            self.open_loops + other.open_loops,
            _added(self.missing, other.missing, times),
        )


def _added(one: Mapping[str, float], other: Mapping[str, float], times: float) -> dict[str, float]:
    both = Counter(dict(one))
    for name, count in other.items():
        both[name] += times * count  # type: ignore[assignment]
    return dict(both)


def estimate(text: str, *, n_chips: int) -> Estimate:
    """The estimate of a program.

    Args:
      text: ``compiled.as_text()``, of a TPU.
      n_chips: that run it together.

    Raises:
      ValueError: the text of something else.
    """
    computations, entry = parse(text)
    return _computation(computations, entry, n_chips)


def _computation(computations: Mapping[str, Computation], name: str, n_chips: int) -> Estimate:
    total = Estimate()
    for one in computations[name].values():
        total = total.plus(_instruction(computations, one, n_chips))
    return total


def _instruction(computations: Mapping[str, Computation], one: Instruction, n_chips: int) -> Estimate:
    cycles = sum(map(float, _CYCLES.findall(one.attributes)))
    called = one.called()
    kind = one.opcode.removesuffix("-start")
    if one.opcode == "while":
        trips = one.trips() or _trips(computations[called["condition"]])
        inside = _computation(computations, called["body"], n_chips)
        return Estimate(open_loops=() if trips else (inside.cycles,)).plus(inside, trips or 1.0)
    if one.opcode == "conditional":
        branches = [_computation(computations, name, n_chips) for name in one.branches()]
        return max(branches, key=lambda branch: branch.cycles)
    if one.opcode in ("call", "async-start"):
        name = called.get("to_apply") or called.get("calls")
        return Estimate(cycles).plus(_computation(computations, name, n_chips) if name else Estimate())
    if kind in COLLECTIVES:
        return Estimate(cycles, {kind: 1.0}, _sent(kind, one, n_chips=n_chips))
    target = one.target()
    if one.opcode == "sort" or (one.opcode == "custom-call" and target not in FREE_CALLS and not cycles):
        return Estimate(cycles, missing={target or one.opcode: 1.0})
    return Estimate(cycles)


def _trips(condition: Computation) -> int | None:
    """How often a loop that counts up from 0 to a constant runs; None for another one."""
    counts_up = any(one.root and "direction=LT" in one.attributes for one in condition.values())
    limits = [int(one.inside) for one in condition.values() if one.opcode == "constant" and one.inside.isdecimal()]
    return limits[0] if counts_up and len(limits) == 1 else None


def _sent(kind: str, one: Instruction, *, n_chips: int) -> float:
    """Bytes that a chip sends in a ring of its group."""
    found = _GROUPS.search(one.attributes)
    n = n_chips if found is None else (len(found[1].split(",")) if found[1] else int(found[2] or n_chips))
    made = sizes(one.shape)
    # The result of these, started early, has the operand beside the array that is made.
    both = one.opcode != kind and kind in ("all-gather", "collective-permute")
    size = max(made, default=0.0) if both else sum(made)
    share = (n - 1) / n
    return {"all-reduce": 2 * share, "reduce-scatter": n - 1, "collective-permute": 1.0}.get(kind, share) * size
