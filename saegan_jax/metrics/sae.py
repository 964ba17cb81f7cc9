"""Reconstruction and sparsity of a sparse autoencoder, streamed over a set of any size and any batch split.

Ratios are taken once, at the end, from sums over the whole set: an explained variance averaged over batches or examples
depends on how the set was cut, and one measured about zero instead of the mean flatters every model.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class SAEStats:
    """Sufficient statistics of `SAEMetrics`: a pytree to scan, to vmap over seeds, to merge over devices.

    Attributes:
      count: examples seen, int32 scalar.
      rows: code vectors seen, int32 scalar: examples times positions.
      mean: mean of ``x``, ``(d_in,)`` float32.
      total: ``sum ||x - mean||^2`` over the examples, float32 scalar.
      residual: ``sum ||x - x_hat||^2`` over the examples, float32 scalar.
      active: per unit, the code vectors in which it exceeded the threshold, ``(d_sae,)`` int32.
      hoyer: mean over the code vectors of their Hoyer sparsity, float32 scalar.
    """

    count: jax.Array
    rows: jax.Array
    mean: jax.Array
    total: jax.Array
    residual: jax.Array
    active: jax.Array
    hoyer: jax.Array


class SAEMetrics(NamedTuple):
    """What `summarise` returns; scalars are float32.

    Attributes:
      fvu: fraction of variance unexplained, ``sum ||x - x_hat||^2 / sum ||x - mean(x)||^2``. Where all examples are
        equal it is infinite, or NaN for a perfect reconstruction: there is no variance to explain.
      explained_variance: ``1 - fvu``: 0 for predicting the mean of the set, 1 for perfect reconstruction.
      l0: mean number per example of codes strictly above the threshold, over all positions.
      dead_fraction: fraction of the units that no example brought above the threshold.
      feature_density: ``(d_sae,)``, per unit the fraction of the examples (and positions) above the threshold.
      hoyer: mean over the examples (and positions) of ``(sqrt(d) - ||h||_1 / ||h||_2) / (sqrt(d) - 1)``, ``d = d_sae``: 0
        for equal magnitudes, 1 for a single active unit; an example whose codes are all 0 counts as 1, as the limit of one
        vanishing unit. (Hoyer, Non-negative Matrix Factorization with Sparseness Constraints, 2004, section 3.1.)
      mse: squared error, mean over examples and over the ``d_in`` input features.
    """

    fvu: jax.Array
    explained_variance: jax.Array
    l0: jax.Array
    dead_fraction: jax.Array
    feature_density: jax.Array
    hoyer: jax.Array
    mse: jax.Array


def init_sae_stats(d_in: int, d_sae: int) -> SAEStats:
    """Statistics of the empty set.

    Args:
      d_in: number of input features, >= 1.
      d_sae: number of units, >= 2 (Hoyer sparsity is undefined for one).

    Raises:
      ValueError: on a size below these.
    """
    if d_in < 1 or d_sae < 2:
        raise ValueError(f"need d_in >= 1 and d_sae >= 2, got d_in = {d_in} and d_sae = {d_sae}.")
    zero = jnp.zeros((), jnp.float32)
    return SAEStats(
        count=jnp.zeros((), jnp.int32),
        rows=jnp.zeros((), jnp.int32),
        mean=jnp.zeros((d_in,), jnp.float32),
        total=zero,
        residual=zero,
        active=jnp.zeros((d_sae,), jnp.int32),
        hoyer=zero,
    )


def merge_sae_stats(a: SAEStats, b: SAEStats) -> SAEStats:
    """Statistics of the union of two disjoint sets.

    ``total = total_a + total_b + ||mean_b - mean_a||^2 n_a n_b / (n_a + n_b)``: no difference of large sums, so a mean
    far from 0 costs no digits.

    Source: Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance, 1983, the pairwise formula.
    """
    count = a.count + b.count
    weight = b.count.astype(jnp.float32) / jnp.maximum(count, 1).astype(jnp.float32)
    delta = b.mean - a.mean
    rows = a.rows + b.rows
    row_weight = b.rows.astype(jnp.float32) / jnp.maximum(rows, 1).astype(jnp.float32)
    return SAEStats(
        count=count,
        rows=rows,
        mean=a.mean + weight * delta,
        total=a.total + b.total + a.count.astype(jnp.float32) * weight * jnp.sum(delta**2),
        residual=a.residual + b.residual,
        active=a.active + b.active,
        hoyer=a.hoyer + row_weight * (b.hoyer - a.hoyer),
    )


def update_sae_stats(
    stats: SAEStats, x: jax.Array, x_hat: jax.Array, codes: jax.Array, *, threshold: float | jax.Array
) -> SAEStats:
    """Adds one batch.

    Args:
      stats: statistics so far.
      x: inputs, ``(batch, d_in)``; flatten images first.
      x_hat: reconstructions, ``(batch, d_in)``.
      codes: activations, ``(batch, d_sae)``, or of a convolutional autoencoder ``(batch, rows, columns, d_sae)``.
      threshold: a unit is active where its code is strictly greater. 0 suits ReLU and TopK codes; sigmoid codes are
        never 0 and need one above their resting value.

    Returns:
      The statistics with the batch included; computed in float32.

    Raises:
      ValueError: if the shapes disagree with each other or with ``stats``.
    """
    expected_x, d_sae = (x.shape[:1] + stats.mean.shape), stats.active.shape[0]
    fits = codes.ndim >= 2 and codes.shape[0] == x.shape[0] and codes.shape[-1] == d_sae
    if x.ndim != 2 or x.shape != expected_x or x_hat.shape != expected_x or not fits:
        raise ValueError(
            f"x and x_hat must be (batch, {stats.mean.shape[0]}) and codes (batch, ..., {d_sae}), got "
            f"x {x.shape}, x_hat {x_hat.shape}, codes {codes.shape}: flatten images to two axes first."
        )
    if x.shape[0] == 0:
        return stats
    codes = codes.reshape(-1, d_sae)
    x, x_hat, codes = (array.astype(jnp.float32) for array in (x, x_hat, codes))
    # Of a feature that does not vary the mean is exact: a rounded one would make a variance of rounding errors.
    mean = jnp.where(jnp.all(x == x[:1], axis=0), x[0], jnp.mean(x, axis=0))
    root = jnp.sqrt(jnp.float32(codes.shape[1]))
    magnitude = jnp.abs(codes)
    largest = jnp.max(magnitude, axis=1, keepdims=True)
    # Scaled by the largest code, so that the squares of small codes do not underflow.
    scaled = magnitude / jnp.where(largest == 0, 1.0, largest)
    l1, l2 = jnp.sum(scaled, axis=1), jnp.sqrt(jnp.sum(scaled**2, axis=1))
    ratio = jnp.where(l2 == 0, 1.0, l1 / jnp.where(l2 == 0, 1.0, l2))
    batch = SAEStats(
        count=jnp.asarray(x.shape[0], jnp.int32),
        rows=jnp.asarray(codes.shape[0], jnp.int32),
        mean=mean,
        total=jnp.sum((x - mean[None]) ** 2),
        residual=jnp.sum((x - x_hat) ** 2),
        active=jnp.sum(codes > threshold, axis=0, dtype=jnp.int32),
        hoyer=jnp.mean((root - ratio) / (root - 1.0)),
    )
    return merge_sae_stats(stats, batch)


def summarise(stats: SAEStats) -> SAEMetrics:
    """The metrics of everything seen so far; NaN for the empty set."""
    count = stats.count.astype(jnp.float32)
    active = stats.active.astype(jnp.float32)
    fvu = stats.residual / stats.total
    return SAEMetrics(
        fvu=fvu,
        explained_variance=1.0 - fvu,
        l0=jnp.sum(active / count),
        dead_fraction=jnp.where(stats.count > 0, jnp.mean((stats.active == 0).astype(jnp.float32)), jnp.nan),
        feature_density=active / stats.rows.astype(jnp.float32),
        hoyer=jnp.where(stats.count > 0, stats.hoyer, jnp.nan),
        mse=stats.residual / (count * stats.mean.shape[-1]),
    )


def sae_metrics(x: jax.Array, x_hat: jax.Array, codes: jax.Array, *, threshold: float | jax.Array) -> SAEMetrics:
    """The metrics of one set given whole: ``x``, ``x_hat`` ``(n, d_in)``, ``codes`` ``(n, d_sae)``. See `SAEMetrics`.

    Raises:
      ValueError: if the shapes disagree.
    """
    if x.ndim != 2 or codes.ndim != 2:
        raise ValueError(f"x and codes must have two axes, got x {x.shape}, codes {codes.shape}: flatten images first.")
    stats = init_sae_stats(x.shape[1], codes.shape[1])
    return summarise(update_sae_stats(stats, x, x_hat, codes, threshold=threshold))
