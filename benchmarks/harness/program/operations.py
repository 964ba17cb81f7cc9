"""The operations that a program runs, with their kinds, operations and bytes."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from benchmarks.harness.program import flops as counts
from saegan_jax.hlo import Computation, Instruction, elements, parse, size

UNKNOWN_LOOP = "loop of unknown length, its body counted once"
CONTAINERS = frozenset({"while", "conditional", "call", "async-start", "async-update", "async-done"})
"""Instructions that only surround others."""
_SLICES = ("slice", "dynamic-slice", "gather")


class Operation(NamedTuple):
    """One instruction that the program runs by itself; what is fused into it is part of it.

    Attributes:
      name: as in a profile.
      kind: dot, convolution, reduce, elementwise, ...; of a fusion, the first of
        :data:`benchmarks.harness.program.flops.KINDS` in it.
      runs: how often it is run.
      flops, bytes: of one run.
      source: where in the Python program it comes from.
      shape: of its result.
    """

    name: str
    kind: str
    runs: float
    flops: float
    bytes: float
    source: str
    shape: str


class _Program:
    def __init__(self, text: str) -> None:
        self.computations, self.entry = parse(text)
        self._flops: dict[str, float] = {}

    def flops(self, computation: str) -> float:
        """Operations of one run of a fused or applied computation."""
        if computation not in self._flops:
            within = self.computations[computation]
            self._flops[computation] = sum(self.instruction_flops(one, within) for one in within.values())
        return self._flops[computation]

    def instruction_flops(self, one: Instruction, within: Computation) -> float:
        called = one.called()
        if one.opcode == "fusion":
            return self.flops(called["calls"])
        applied = self.flops(called["to_apply"]) if called.get("to_apply") in self.computations else 1.0
        if one.opcode in ("call", "map"):
            return applied * (elements(one.shape) if one.opcode == "map" else 1.0)
        return counts.flops(one, {name: within[name].shape for name in one.operands}, applied)

    def kind(self, one: Instruction) -> str | None:
        if one.opcode != "fusion":
            return counts.kind(one)
        kinds = {self.kind(inner) for inner in self.computations[one.called()["calls"]].values()}
        return next((kind for kind in counts.KINDS if kind in kinds), "movement")

    def bytes(self, one: Instruction, within: Computation) -> float:
        """Bytes read and written; of what is only sliced, the slices, and of what is updated in place, the updates."""
        if one.opcode == "fusion":
            inner = self.computations[one.called()["calls"]]
            read = sum(self._read(p.name, inner) for p in inner.values() if p.opcode == "parameter")
            return read + self._written(next(p for p in inner.values() if p.root), inner)
        operands = [size(within[name].shape) for name in one.operands]
        if one.opcode in _SLICES:
            return 2 * size(one.shape) + sum(operands[1:])
        if one.opcode == "dynamic-update-slice":
            return 2 * operands[1]
        if one.opcode == "scatter":
            return 3 * operands[-1] + sum(operands[1:-1])
        return sum(operands) + size(one.shape)

    def _read(self, name: str, inner: Computation) -> float:
        """Bytes of the parameter ``name`` that a fusion reads."""
        whole, read = size(inner[name].shape), 0.0
        for user in (one for one in inner.values() if name in one.operands):
            first = user.operands.index(name) == 0
            if user.opcode == "bitcast":
                read += self._read(user.name, inner)
            elif user.opcode in _SLICES and first:
                read += size(user.shape)
            elif not (user.opcode == "dynamic-update-slice" and first):
                return whole
        return min(whole, read)

    def _written(self, root: Instruction, inner: Computation) -> float:
        if root.opcode == "tuple":
            return sum(self._written(inner[name], inner) for name in root.operands)
        if root.opcode == "bitcast" and root.operands:
            return self._written(inner[root.operands[0]], inner)
        if root.opcode == "dynamic-update-slice":
            return size(inner[root.operands[1]].shape)
        return size(root.shape)

    def operations(self, computation: str, times: float) -> Iterable[Operation]:
        """What one computation runs, ``times`` over; of a conditional's branches the costliest."""
        within = self.computations[computation]
        for one in within.values():
            if one.opcode == "while":
                yield from self._loop(one, times)
            elif one.opcode == "conditional":
                branches = [list(self.operations(name, times)) for name in one.branches()]
                yield from max(branches, key=lambda ops: sum(op.runs * (op.flops + op.bytes) for op in ops))
            elif one.opcode in ("call", "async-start"):
                called = one.called()
                name = called.get("to_apply") or called.get("calls")
                yield from self.operations(name, times) if name else ()
            elif one.opcode in CONTAINERS or (
                one.opcode.endswith(("-done", "-update")) and one.opcode != "dynamic-update"
            ):
                continue
            elif (kind := self.kind(one)) is not None:
                flops, moved = self.instruction_flops(one, within), self.bytes(one, within)
                yield Operation(one.name, kind, times, flops, moved, one.source(), one.shape)

    def _loop(self, one: Instruction, times: float) -> Iterable[Operation]:
        trips, called = one.trips(), one.called()
        if trips is None:
            yield Operation(one.name, UNKNOWN_LOOP, times, 0.0, 0.0, one.source(), one.shape)
        n = 1.0 if trips is None else trips
        yield from self.operations(called["body"], times * n)
        yield from self.operations(called["condition"], times * (n + 1))


def operations(text: str) -> list[Operation]:
    """Every operation of an optimised HLO module, with the number of times that it is run.

    Args:
      text: ``compiled.as_text()``.

    Returns:
      Those of the entry computation and of the loops, calls and branches that it reaches; of a conditional's branches the
      costliest. A loop whose length XLA does not know is counted once, and an operation of kind :data:`UNKNOWN_LOOP`
      says so.

    Raises:
      ValueError: the text of something else.
    """
    program = _Program(text)
    return list(program.operations(program.entry, 1.0))


def containers(text: str) -> set[str]:
    """Names of the loops, calls and conditionals of a program, which only surround operations."""
    computations, _ = parse(text)
    return {one.name for within in computations.values() for one in within.values() if one.opcode in CONTAINERS}


def by_kind(ops: Sequence[Operation]) -> list[dict[str, Any]]:
    """Operations and bytes by kind of instruction, most operations first.

    Returns:
      One row per kind: ``kind``, ``count`` (instructions run), ``flops``, ``bytes``, ``flops_share``, ``bytes_share``.
    """
    all_flops = max(sum(op.runs * op.flops for op in ops), 1e-30)
    all_bytes = max(sum(op.runs * op.bytes for op in ops), 1e-30)
    rows: list[dict[str, Any]] = []
    for kind in dict.fromkeys(op.kind for op in ops):
        those = [op for op in ops if op.kind == kind]
        flops, moved = sum(op.runs * op.flops for op in those), sum(op.runs * op.bytes for op in those)
        count = sum(op.runs for op in those)
        shares = {"flops_share": flops / all_flops, "bytes_share": moved / all_bytes}
        rows.append({"kind": kind, "count": count, "flops": flops, "bytes": moved, **shares})
    return sorted(rows, key=lambda row: (-row["flops"], -row["bytes"]))
