"""Sparsity penalties on codes. The codes' last axis holds the units unless stated."""

import math

from jax import Array, lax
from jax import numpy as jnp
from jax.typing import ArrayLike

from saegan_jax.losses._arrays import floating, hyper, safe_sqrt, unit_max

Axis = int | tuple[int, ...]
AxisName = str | tuple[str, ...]

_RHO_FIX = "it is a target mean activation, for instance 0.05."


def mean_activation(codes: ArrayLike, *, axis: Axis = 0, axis_name: AxisName | None = None) -> Array:
    """Mean activation of each unit, rho_hat_j = mean_i h_ij.

    Args:
      codes: (batch, d_sae) or any shape; the codes' own unit.
      axis: axes to average over, the examples' (never the units').
      axis_name: mapped axes (vmap or shard_map) that hold equal shares of one batch; the mean is averaged over them,
        since the KL of the mean is not the mean of the KLs.

    Returns:
      rho_hat, of `codes`' shape without `axis`.

    Raises:
      ValueError: integer or empty codes, `axis` out of range.

    Source: Ng, Sparse autoencoder, CS294A lecture notes, 2011, section 3.
    """
    rho_hat = jnp.mean(floating("codes", codes, min_ndim=1), axis=axis)
    return rho_hat if axis_name is None else lax.pmean(rho_hat, axis_name)


def kl_sparsity(rho_hat: ArrayLike, rho: ArrayLike) -> Array:
    """Bernoulli divergence of the mean activations from their target, per unit, in nats.

    KL_j = rho log(rho / rho_hat_j) + (1 - rho) log((1 - rho) / (1 - rho_hat_j)).

    It is infinite at rho_hat = 0 or 1 and NaN outside [0, 1]. Nothing is clipped, because a clip stops the gradient of
    just those units that need one: for sigmoid codes that saturate use `kl_sparsity_from_logits`, for unbounded codes
    `kl_sparsity_rate`. The constant code h = rho has divergence 0 although it is fully dense, so report L0 beside it.

    Args:
      rho_hat: (d_sae,) or any shape, mean activations in (0, 1), see `mean_activation`.
      rho: target in (0, 1); a number, a scalar array, or one per unit.

    Returns:
      Divergences, shape of `rho_hat`, not reduced.

    Raises:
      ValueError: integer `rho_hat`, a number `rho` outside (0, 1), an array `rho` of another shape.

    Source: Ng, Sparse autoencoder, CS294A lecture notes, 2011, section 3.
    """
    rho_hat = floating("rho_hat", rho_hat)
    rho = hyper("rho", rho, "(0, 1)", rho_hat, _RHO_FIX)
    return _bernoulli_kl(rho, jnp.log(rho_hat), jnp.log1p(-rho_hat))


def kl_sparsity_from_logits(
    logits: ArrayLike, rho: ArrayLike, *, axis: Axis = 0, axis_name: AxisName | None = None
) -> Array:
    """`kl_sparsity(mean(sigmoid(logits)), rho)` computed in log space, per unit, in nats.

    ``rho_hat = mean_i sigmoid(z_i) = e^c mean_i (e^(min(z_i, 0) - c) / (1 + e^-|z_i|))`` with c = min(max_i z_i, 0), and
    1 - rho_hat likewise from -z, so value and gradient stay finite and useful where the sigmoid has rounded to 0 or 1: at
    z = -200 throughout, dKL/dz_i = -rho / N.

    Args:
      logits: (batch, d_sae) or any shape; codes before the sigmoid.
      rho: target in (0, 1); a number, a scalar array, or one per unit.
      axis: axes of the examples, averaged over.
      axis_name: mapped axes that hold equal shares of one batch: both means are taken over all of them before the
        divergence. Under `vmap` average the gradients of parameters with `pmean`; under `shard_map` those of
        parameters that do not vary over the axes are those of the whole batch.

    Returns:
      Divergences, `logits`' shape without `axis`.

    Raises:
      ValueError: integer or empty logits, a number `rho` outside (0, 1), an array `rho` of another shape.

    Source: Ng, Sparse autoencoder, CS294A lecture notes, 2011, section 3; in log space here.
    """
    logits = floating("logits", logits, min_ndim=1)
    # The same for z and -z; a log-sigmoid would take a logarithm of each element.
    inverse = 1 / (1 + jnp.exp(-jnp.abs(logits)))

    def log_mean_sigmoid(z: Array) -> Array:
        top = jnp.minimum(lax.stop_gradient(z).max(axis=axis, keepdims=True), 0)
        if axis_name is not None:
            top = lax.pmax(top, axis_name)
        mean = jnp.mean(jnp.exp(jnp.minimum(z, 0) - top) * inverse, axis=axis)
        return top.reshape(mean.shape) + jnp.log(mean if axis_name is None else lax.pmean(mean, axis_name))

    log_rho_hat = log_mean_sigmoid(logits)
    rho = hyper("rho", rho, "(0, 1)", log_rho_hat, _RHO_FIX)
    return _bernoulli_kl(rho, log_rho_hat, log_mean_sigmoid(-logits))


def _bernoulli_kl(rho: Array, log_rho_hat: Array, log_one_minus_rho_hat: Array) -> Array:
    return rho * (jnp.log(rho) - log_rho_hat) + (1 - rho) * (jnp.log1p(-rho) - log_one_minus_rho_hat)


def kl_sparsity_rate(rho_hat: ArrayLike, rho: ArrayLike) -> Array:
    """Poisson divergence of mean rates from a target, per unit, in nats: rho log(rho / rho_hat_j) - rho + rho_hat_j.

    For ReLU codes, whose mean may exceed 1. A unit that is off on the whole batch (rho_hat = 0) counts as the smallest
    normal number, so its value is finite and its gradient 0: no gradient passes its ReLU anyway, and infinity times 0
    would be NaN.

    Args:
      rho_hat: (d_sae,) or any shape, mean activations >= 0 (below 0 the result is NaN).
      rho: target > 0, in the codes' unit; a number, a scalar array, or one per unit.

    Returns:
      Divergences, shape of `rho_hat`, not reduced.

    Raises:
      ValueError: integer `rho_hat`, a number `rho` <= 0, an array `rho` of another shape.

    Source: Banerjee, Merugu, Dhillon and Ghosh, Clustering with Bregman divergences, 2005, table 1 (generalised
    I-divergence).
    """
    rho_hat = floating("rho_hat", rho_hat)
    rho = hyper("rho", rho, "(0, inf)", rho_hat, "it is a target mean activation, for instance 0.05.")
    tiny = jnp.finfo(rho_hat.dtype).tiny
    rate = jnp.where((rho_hat >= 0) & (rho_hat < tiny), jnp.full_like(rho_hat, tiny), rho_hat)
    return rho * (jnp.log(rho) - jnp.log(rate)) - rho + rate


def l1_sparsity(codes: ArrayLike, *, axis: Axis = -1) -> Array:
    """Sum of magnitudes, ``sum_j |h_ij|``: one value per example, so that averaging it does not scale with the batch.

    Args:
      codes: (batch, d_sae) or any shape; the codes' own unit.
      axis: axes of the units, summed over.

    Returns:
      `codes`' shape without `axis`.

    Raises:
      ValueError: integer or empty codes, `axis` out of range.

    Source: Bricken et al., Towards monosemanticity, 2023.
    """
    return jnp.sum(jnp.abs(floating("codes", codes, min_ndim=1)), axis=axis)


def hoyer_sparsity(codes: ArrayLike, *, axis: int = -1) -> Array:
    """Hoyer's score (sqrt(n) - ||h||_1 / ||h||_2) / (sqrt(n) - 1): 1 for one active unit, 0 for n equal ones.

    Larger is sparser: to sparsify, subtract it from a loss. It ignores the codes' scale. A code of zeros scores 1, with
    gradient 0.

    Args:
      codes: (batch, d_sae) or any shape.
      axis: the axis of the n >= 2 units.

    Returns:
      Scores, `codes`' shape without `axis`.

    Raises:
      ValueError: integer or empty codes, fewer than two units.

    Source: Hoyer, Non-negative matrix factorization with sparseness constraints, 2004, section 3.1.
    """
    codes = floating("codes", codes, min_ndim=1)
    n = codes.shape[axis]
    if n < 2:
        raise ValueError(f"codes has {n} unit along axis {axis}, but Hoyer's score compares at least two: check axis.")
    codes = unit_max(codes, axis)
    l1, l2 = jnp.sum(jnp.abs(codes), axis=axis), safe_sqrt(jnp.sum(jnp.square(codes), axis=axis))
    ratio = jnp.where(l2 == 0, jnp.ones_like(l2), l1 / jnp.where(l2 == 0, jnp.ones_like(l2), l2))
    return (math.sqrt(n) - ratio) / (math.sqrt(n) - 1)
