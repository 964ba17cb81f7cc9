"""What the machine can do at best: matrix products, and copies between its memory and itself."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import timing
from benchmarks.harness.program.cost import Machine
from benchmarks.harness.system import available_bytes
from benchmarks.harness.timing import Arm, Say, silent, stopwatch

MATRIX_PRODUCTS = ((2048, 2048, 2048), (256, 784, 128))
CPU_SHAPES = ((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048))
ACCELERATOR_SHAPES = ((4096, 4096, 4096), (8192, 8192, 8192))
ARRAY_BYTES = {"cpu": 384 * 2**20}
"""Of each of the two arrays that the bandwidth is measured with; 2 GiB on accelerators. Larger than the caches: the
processor that this was written on states 480 MiB."""


def array_bytes() -> int:
    """Size of each of the two arrays that the memory bandwidth is measured with."""
    wanted = ARRAY_BYTES.get(jax.default_backend(), 2 * 2**30)
    return max(2**20, min(wanted, available_bytes() // 8))


def xla_product(shape: tuple[int, int, int], dtype: str = "float32", *, precision: str | None = None) -> Arm:
    """The product ``(m, k) x (k, n)`` of ``dtype`` in XLA, at JAX's default precision or another: 2 m k n operations a call."""
    m, k, n = shape
    a, b = (jax.random.normal(jax.random.key(i), s, dtype) for i, s in enumerate(((m, k), (k, n))))
    product, compile_s = stopwatch(lambda: jax.jit(partial(jnp.matmul, precision=precision)).lower(a, b).compile())

    def run(calls: int) -> None:
        for _ in range(calls):
            out = product(a, b)
        out.block_until_ready()

    name = " ".join(filter(None, ("xla", dtype if dtype != "float32" else "", precision)))
    return Arm(f"{name} {m}x{k}x{n}", run, 1, 2.0 * m * k * n, compile_s, dtype=dtype)


def bandwidth(size: int) -> Arm:
    """``a <- a/2 + b`` in place on float32 arrays of ``size`` bytes: three times ``size`` bytes a call, read or written."""
    n = max(1, size // 4)
    a, b = (jax.block_until_ready(jnp.full(n, value, jnp.float32)) for value in (0.0, 1.0))
    step = jax.jit(lambda a, b: a * 0.5 + b, donate_argnums=0)
    program, compile_s = stopwatch(lambda: step.lower(a, b).compile())

    def run(calls: int) -> None:
        nonlocal a
        for _ in range(calls):
            a = program(a, b)
        a.block_until_ready()

    return Arm(f"2 x {size / 2**20:,.0f} MiB", run, 1, None, compile_s)


def measure_machine(seconds: float, *, dtype: str = "float32", say: Say = silent) -> Machine:
    """Measure the device: the highest product rate over a few shapes, and the bandwidth of main memory.

    Args:
      seconds: how long to take, about; each program is timed three times by turns and its median counts.
      dtype: of the products. On GPUs whose default for float32 is TF32 that is what is measured, as it is what steps use.
      say: gets a line on what is being done.
    """
    shapes = CPU_SHAPES if jax.default_backend() == "cpu" else ACCELERATOR_SHAPES
    size = array_bytes()
    arms = [*(xla_product(shape, dtype) for shape in shapes), bandwidth(size)]
    timings = timing.alternate(arms, repeats=3, seconds=seconds / (4 * len(arms)), say=say)
    rates = {arm.name: float(np.median(timings[arm.name].rates)) for arm in arms}
    *products, memory = arms
    return Machine(max(rates[arm.name] * (arm.flops or 0.0) for arm in products), rates[memory.name] * 3 * size)
