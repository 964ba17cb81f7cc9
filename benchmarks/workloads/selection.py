"""Ways to choose the k largest of a row, and that choice alone as a program."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.harness.timing import stopwatch
from benchmarks.workloads.package import topk_mask

WIDTH = 65_536


def rows_here() -> int:
    """Rows to choose in: 4,096, and on a CPU 64, where sorting so many takes a minute."""
    return 64 if jax.default_backend() == "cpu" else 4096


def by_sorting(x: jax.Array, *, k: int) -> jax.Array:
    """The mask by ``lax.top_k``: as it is stable, the last index that it gives ends those that are tied."""
    values, index = jax.lax.top_k(x, k)
    level, place = values[:, -1:], jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
    return (x > level) | ((x == level) & (place <= index[:, -1:]))


def by_approximation(x: jax.Array, *, k: int, recall: float = 0.99) -> jax.Array:
    """The mask by ``lax.approx_max_k``, checked: where it missed one of any row, the choice is made exactly.

    What it misses lies above the smallest that it found, so that a row then has more than k at or above that one, as it has
    where some are tied.

    Source: Chern et al., TPU-KNN: K nearest neighbor search at peak FLOP/s, 2022.
    """
    values, _ = jax.lax.approx_max_k(x, k, recall_target=recall)
    mask = x >= values.min(axis=-1, keepdims=True)
    exact = jnp.all(mask.sum(axis=-1) == k)
    return jax.lax.cond(exact, lambda x: mask, partial(topk_mask, k=k), x)


class Selected:
    """The values of ``(rows, width)`` normal numbers that a search chooses, the others 0.

    Args:
      search: ``x -> mask``.
      steps: choices in a call, one after the other on the same numbers.
      shape: of the numbers; by default :func:`rows_here` and 65,536.
    """

    def __init__(
        self, search: Callable[[jax.Array], jax.Array], *, steps: int, shape: tuple[int, int] | None = None
    ) -> None:
        self._x = jax.random.normal(jax.random.key(0), shape or (rows_here(), WIDTH))
        self._steps = steps
        chosen = jax.jit(lambda x: jnp.where(search(x), x, 0.0))
        self.compiled, self.compile_s = stopwatch(lambda: chosen.lower(self._x).compile())

    def run(self, calls: int) -> None:
        """That many calls; returns when their results are there."""
        for _ in range(calls * self._steps):
            out = self.compiled(self._x)
        out.block_until_ready()
