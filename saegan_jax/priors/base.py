"""The record that every prior of sparse codes is, and the parts that several of them share."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax.errors import require

MIN_SCALE = 1e-2  # a unit that is never active must not turn into a huge input
N_QUANTILES = 33


def no_operations(n: int, d_sae: int) -> float:
    """Of a fit that costs little beside a training: 0."""
    return 0.0


class Prior(NamedTuple):
    """A kind of distribution over sparse codes, as pure functions.

    Attributes:
      fit: ``fit(codes, key, *, threshold, **settings) -> fitted``, a pytree with ``scale (d_sae,)``, see :func:`code_scale`.
        ``codes (n, d_sae)`` are those of training data; one above ``threshold`` is active, and all others are drawn as 0.
        Shapes in ``fitted`` must not depend on ``n``. Settings of one kind are keyword-only and have defaults.
      operations: ``operations(n, d_sae, **settings)``, floating-point operations of a fit that are worth counting.
      sample: ``sample(fitted, key, n) -> (n, d_sae)``, exactly 0 where a unit is off; ``n`` is static.
    """

    fit: Callable[..., Any]
    sample: Callable[[Any, jax.Array, int], jax.Array]
    operations: Callable[..., float] = no_operations


def settings_of(prior: Prior) -> tuple[str, ...]:
    """Names of the settings that ``prior.fit`` takes beside ``threshold``."""
    parameters = inspect.signature(prior.fit).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "threshold")


def check_codes(codes: jax.Array) -> None:
    """Raise ``ValueError`` unless ``codes`` are a matrix of at least one code."""
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(f"codes must have shape (n, d_sae) with n >= 1, got {codes.shape}; flatten them first.")


def check_n_quantiles(n_quantiles: int) -> None:
    """Raise :class:`saegan_jax.errors.ConfigError` for a table too small to interpolate in."""
    require(n_quantiles >= 2, "n_quantiles", n_quantiles, "a table needs at least a smallest and a largest magnitude.")


def check_fitted(fitted: Any, kind: type) -> None:
    """Raise ``ValueError`` unless ``fitted`` is what this prior's ``fit`` returned."""
    if not isinstance(fitted, kind):
        raise ValueError(f"{type(fitted).__name__} is no {kind.__name__}; draw with the sampler that was fitted.")


def code_scale(codes: jax.Array) -> jax.Array:
    """``max(sqrt(mean_n codes_nj^2), MIN_SCALE)``: ``(n, d_sae) -> (d_sae,)``, what a network divides codes by."""
    return jnp.maximum(jnp.sqrt(jnp.mean(codes**2, axis=0)), MIN_SCALE)


def quantile_table(ordered: jax.Array, end: int | jax.Array, count: jax.Array, *, n_quantiles: int) -> jax.Array:
    """Equally spaced quantiles, from minimum to maximum, of a block of rows of each sorted column.

    Args:
      ordered: ``(n, d_sae)``, each column sorted within the block.
      end: the row after the block's last, a scalar.
      count: ``(d_sae,)`` int32, rows of the block in each column, its last ones.
      n_quantiles: rows of the table.

    Returns:
      ``(n_quantiles, d_sae)``, 0 where the block is empty.
    """
    n = ordered.shape[0]
    level = jnp.linspace(0.0, 1.0, n_quantiles, dtype=jnp.float32).reshape(-1, 1)
    rank = level * jnp.maximum(count - 1, 0).astype(ordered.dtype).reshape(1, -1)
    weight = rank - jnp.floor(rank)
    below = jnp.minimum((end - count).reshape(1, -1) + jnp.floor(rank).astype(jnp.int32), n - 1)
    # Above the last row the weight is 0, and whatever lies there must only be finite.
    above = jnp.minimum(below + 1, n - 1)
    low, high = (jnp.take_along_axis(ordered, index, axis=0) for index in (below, above))
    return jnp.where((count > 0).reshape(1, -1), low + weight * (high - low), 0.0)


def magnitudes_at(quantiles: jax.Array, rank: jax.Array, *, first: int | jax.Array = 0, n_quantiles: int) -> jax.Array:
    """Magnitudes at ranks in [0, 1], interpolated in tables of :func:`quantile_table`.

    Args:
      quantiles: ``(rows, d_sae)``, one table or several below each other.
      rank: ``(n, d_sae)``.
      first: the row at which the table of each code begins, a scalar or ``(n, 1)`` int32.
      n_quantiles: rows of one table.

    Returns:
      ``(n, d_sae)``.
    """
    position = rank * (n_quantiles - 1)
    below = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, n_quantiles - 2)
    low, high = (jnp.take_along_axis(quantiles, first + below + i, axis=0) for i in (0, 1))
    return low + (position - below.astype(position.dtype)) * (high - low)
