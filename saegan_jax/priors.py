"""Distributions over sparse codes, fitted to the codes of training data."""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class FactorisedPrior:
    """Independent units: unit j is on with probability ``density[j]``; its magnitude then follows ``quantiles[:, j]``.

    Attributes:
      density: ``(d_sae,)``, P(h_j active).
      quantiles: ``(n_quantiles, d_sae)``, equally spaced quantiles of the active magnitudes, from minimum to maximum.
      scale: ``(d_sae,)``, root mean square of h_j, at least ``MIN_SCALE``; what a network divides codes by.
    """

    density: jax.Array
    quantiles: jax.Array
    scale: jax.Array


MIN_SCALE = 1e-2  # a unit that never fires must not turn into a huge input


def fit_factorised(codes: jax.Array, *, threshold: float, n_quantiles: int = 33) -> FactorisedPrior:
    """Fit independent units to codes.

    The magnitudes are kept as a table of quantiles and not as a Beta or Gamma law: sampling then is one interpolation, where
    rejection samplers inside a training step cost more than a small generator's whole step.

    Args:
      codes: ``(n, d_sae)`` codes of training data, non-negative.
      threshold: a code above it counts as active.
      n_quantiles: resolution of the magnitude table.

    Returns:
      A :class:`FactorisedPrior`. Units that are never active get density 0 and magnitude 0.

    Raises:
      ValueError: codes that are no matrix.
    """
    if codes.ndim != 2:
        raise ValueError(f"fit_factorised: codes must have shape (n, d_sae), got {codes.shape}; flatten them first.")
    active = codes > threshold
    count = active.sum(axis=0)
    # Sorted, each unit's active magnitudes are the last `count` of its column.
    ordered = jnp.sort(codes, axis=0)
    n = codes.shape[0]
    level = jnp.linspace(0.0, 1.0, n_quantiles).reshape(-1, 1)
    rank = level * jnp.maximum(count - 1, 0).astype(codes.dtype).reshape(1, -1)
    weight = rank - jnp.floor(rank)
    below = jnp.minimum((n - count).reshape(1, -1) + jnp.floor(rank).astype(jnp.int32), n - 1)
    above = jnp.minimum(below + 1, n - 1)
    low, high = (jnp.take_along_axis(ordered, index, axis=0) for index in (below, above))
    return FactorisedPrior(
        density=active.mean(axis=0, dtype=codes.dtype),
        quantiles=jnp.where((count > 0).reshape(1, -1), low + weight * (high - low), 0.0),
        scale=jnp.maximum(jnp.sqrt(jnp.mean(codes**2, axis=0)), MIN_SCALE),
    )


def sample_factorised(prior: FactorisedPrior, key: jax.Array, n: int) -> jax.Array:
    """Draw codes from independent units.

    Args:
      prior: see :class:`FactorisedPrior`.
      key: random key.
      n: number of codes, static.

    Returns:
      ``(n, d_sae)``; exactly zero where a unit is off.
    """
    n_quantiles, d_sae = prior.quantiles.shape
    # One uniform number serves both: given u < p, u / p is uniform again.
    u = jax.random.uniform(key, (n, d_sae), prior.density.dtype)
    density = prior.density.reshape(1, -1)
    active = u < density
    position = jnp.where(active, u / jnp.where(active, density, 1.0), 0.0) * (n_quantiles - 1)
    below = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, n_quantiles - 2)
    low = jnp.take_along_axis(prior.quantiles, below, axis=0)
    high = jnp.take_along_axis(prior.quantiles, below + 1, axis=0)
    magnitude = low + (position - below.astype(position.dtype)) * (high - low)
    return jnp.where(active, magnitude, 0.0)
