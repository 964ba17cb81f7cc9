"""Many steps of ours as one compiled program."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness.program.cost import Cost, cost
from benchmarks.harness.timing import stopwatch
from benchmarks.workloads.package import Algorithm, Examples, compile_chunk, ensemble, many_steps


def examples(pixels: np.ndarray | jax.Array) -> Examples:
    """uint8 images on the device, all of class 0."""
    return Examples(jnp.asarray(pixels), jnp.zeros(len(pixels), jnp.int32))


class Scanned:
    """A compiled scan over training steps, and the state that it continues from.

    Attributes:
      compiled: the program.
      steps: training steps in a call, of one member.
      members: of the ensemble.
      compile_s: seconds that tracing and compiling took.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        pixels: np.ndarray | jax.Array,
        *,
        batch_size: int,
        steps: int,
        members: int | None = None,
        members_per_vmap: int | None = None,
    ) -> None:
        """Compile; nothing but the program takes memory before :meth:`run`.

        Args:
          algorithm, batch_size: what to train.
          pixels: uint8 images.
          steps: in one call.
          members: seeds under vmap, ``members_per_vmap`` of them together; by default one alone.
        """
        chunk = many_steps(algorithm.step, length=steps, batch_size=batch_size)
        self._init, self._keys = algorithm.init, jax.random.key(0)
        if members is not None:
            chunk = ensemble(chunk, members_per_vmap=members_per_vmap)
            self._init, self._keys = jax.vmap(algorithm.init), jax.random.split(self._keys, members)
        shapes: Any = jax.ShapeDtypeStruct(pixels.shape, jnp.uint8), jax.ShapeDtypeStruct((len(pixels),), jnp.int32)
        jitted: Any = compile_chunk(chunk)
        lowered = partial(jitted.lower, jax.eval_shape(self._init, self._keys), Examples(*shapes))
        self.compiled, self.compile_s = stopwatch(lambda: lowered().compile())
        self.steps, self.members = steps, members or 1
        self._pixels = pixels
        self._held: Any = None

    def run(self, calls: int) -> None:
        """That many calls, from where the last one ended; returns when their results are there."""
        state, data = self._held or (jax.jit(self._init)(self._keys), examples(self._pixels))
        self._held = None  # a call that fails has used the state up
        for _ in range(calls):
            state, infos = self.compiled(state, data)
        jax.block_until_ready((state, infos))
        self._held = state, data

    def release(self) -> None:
        """Free state and data; the next run starts afresh."""
        self._held = None

    def cost(self) -> Cost | None:
        """Of one step of one member, but for the memory, which is the whole program's."""
        whole, each = cost(self.compiled), self.steps * self.members
        return None if whole is None else Cost(whole.flops / each, whole.bytes / each, whole.peak_bytes)
