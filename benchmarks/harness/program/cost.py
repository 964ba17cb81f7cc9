"""What a compiled program costs, and the least time that this takes on a machine."""

from typing import Any, NamedTuple

import jax

from benchmarks.harness.program.operations import operations


class Cost(NamedTuple):
    """What a program costs when it is run once.

    Attributes:
      flops: operations, loops counted as often as they are run.
      bytes: bytes that its instructions read and write; from main memory, unless a cache holds them.
      peak_bytes: arguments, results and temporary buffers together.
    """

    flops: float
    bytes: float
    peak_bytes: int


class Machine(NamedTuple):
    """What the device does at best: operations a second in matrix products, bytes a second from and to main memory."""

    flops_per_s: float
    bytes_per_s: float


def cost(compiled: Any) -> Cost | None:
    """Operations, bytes and memory of a compiled program, or None where XLA gives no text or no memory analysis.

    A loop counts as often as it is run (``cost_analysis`` counts its body once), unless XLA does not know how often.
    """
    try:
        ops = operations(compiled.as_text())
        memory = compiled.memory_analysis()
        together = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        peak = int(together - memory.alias_size_in_bytes)
    except (AttributeError, NotImplementedError, TypeError, ValueError, jax.errors.JaxRuntimeError):
        return None
    return Cost(sum(op.runs * op.flops for op in ops), sum(op.runs * op.bytes for op in ops), peak)


def floors(flops: float, moved: float, machine: Machine) -> tuple[float, float]:
    """``(seconds for the operations, seconds for the bytes)`` at the machine's rates.

    The first is a floor: nothing computes faster than the best matrix product. The second is one only for what no cache
    holds between two instructions; a step whose weights and activations stay in a cache can be faster.
    """
    return flops / machine.flops_per_s, moved / machine.bytes_per_s
