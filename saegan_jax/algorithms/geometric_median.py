"""The centre of a set of points, mean or geometric median: where a decoder's bias may start."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from saegan_jax.errors import require, require_choice

Center = Literal["mean", "median"]


@partial(jax.jit, static_argnames=("iterations",))
def geometric_median(x: jax.Array, *, iterations: int = 64, tolerance: float = 1e-6) -> jax.Array:
    """The point whose summed Euclidean distance to all points is least: a centre that outliers cannot drag away.

    ``argmin_y sum_i ||x_i - y||`` by ``y <- y + max(0, 1 - eta / r) (T(y) - y)`` from the mean, where
    ``T(y) = sum_i w_i x_i / sum_i w_i``, ``w_i = 1 / ||x_i - y||`` over the points that differ from ``y``, ``eta`` counts the
    points equal to ``y`` and ``r = ||sum_i w_i (x_i - y)||``. With ``eta = 0`` this is Weiszfeld's iteration, which would
    divide by zero on reaching a point; the factor leaves a point that is not the optimum and stays at one that is.

    Args:
      x: points, ``(n, d)``, ``n >= 1``; computed in float32, with memory in the order of ``x``.
      iterations: most iterations taken, >= 1.
      tolerance: stops when a step is shorter than this times the mean distance to the points; 0 takes all iterations.

    Returns:
      ``(d,)`` float32. One of many optima where the points lie on a line and are even in number. May be differentiated in
      forward mode only.

    Raises:
      ValueError: if ``x`` is not a matrix of at least one row, or ``iterations`` is below 1.

    Source: Vardi and Zhang, The multivariate L1-median and associated data depth, 2000, the modified Weiszfeld algorithm;
    Weiszfeld, Sur le point pour lequel la somme des distances de n points donnes est minimum, 1937.
    """
    require(iterations >= 1, "iterations", iterations, "the median starts from the mean and needs at least one.")
    x = _points(x)

    def step(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        i, y, _ = carry
        distance = jnp.sqrt(jnp.sum((x - y.reshape(1, -1)) ** 2, axis=1))
        apart = distance > 0
        weight = jnp.where(apart, 1.0 / jnp.where(apart, distance, 1.0), 0.0)
        total = jnp.sum(weight)
        pull = jnp.matmul(weight, x, precision="highest") - total * y
        r, eta = jnp.linalg.norm(pull), jnp.sum(~apart, dtype=jnp.float32)
        # r = 0 is the optimum already, as is eta >= r.
        share = jnp.where(r > eta, 1.0 - eta / jnp.where(r > 0, r, 1.0), 0.0)
        move = share * pull / jnp.where(total > 0, total, 1.0)
        going = jnp.linalg.norm(move) > tolerance * jnp.mean(distance)
        return i + 1, y + move, going

    def going(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        i, _, far = carry
        return (i < iterations) & far

    start = (jnp.zeros((), jnp.int32), jnp.mean(x, axis=0), jnp.ones((), bool))
    return jax.lax.while_loop(going, step, start)[1]


def center(x: jax.Array, kind: Center) -> jax.Array:
    """The mean or the geometric median of points: ``(n, d) -> (d,)`` float32.

    Args:
      x: points, ``(n, d)``, ``n >= 1``.
      kind: ``"mean"``, or ``"median"`` for :func:`geometric_median`.

    Raises:
      ValueError: on another kind, or if ``x`` is not a matrix of at least one row.
    """
    require_choice("kind", kind, ("mean", "median"))
    return jnp.mean(_points(x), axis=0) if kind == "mean" else geometric_median(x)


def _points(x: jax.Array) -> jax.Array:
    if x.ndim != 2 or x.shape[0] < 1:
        raise ValueError(f"x must be (n, d) with n >= 1, got shape {x.shape}: flatten images to one row each first.")
    return x.astype(jnp.float32)
