"""Divergences of variational autoencoders, per latent unit, and their bound, per example. All in nats."""

import jax
from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike

from saegan_jax.losses._arrays import floating, floatings, hyper, per_example


def gaussian_kl(mean: ArrayLike, log_variance: ArrayLike) -> Array:
    """KL(N(mu, s^2) || N(0, 1)) = 1/2 (mu^2 + s^2 - 1 - log s^2), per latent unit.

    Args: mean, log_variance (log s^2) of one shape, usually (batch, d_latent). Returns: that shape, nats, not reduced.
    Raises: ValueError for integer or empty arrays and for shapes that differ.
    Source: Kingma and Welling, Auto-encoding variational Bayes, 2014, appendix B.
    """
    mean, log_variance = floatings(mean=mean, log_variance=log_variance)
    # expm1 keeps the digits that s^2 - 1 - log s^2 would cancel near s = 1.
    return 0.5 * (jnp.square(mean) + jnp.expm1(log_variance) - log_variance)


def spike_and_slab_kl(mean: ArrayLike, log_variance: ArrayLike, gate_logits: ArrayLike, *, alpha: ArrayLike) -> Array:
    """KL of q = gamma N(mu, s^2) + (1 - gamma) delta_0 from p = alpha N(0, 1) + (1 - alpha) delta_0, per latent unit.

    gamma/2 (mu^2 + s^2 - 1 - log s^2) + gamma log(gamma / alpha) + (1 - gamma) log((1 - gamma) / (1 - alpha)), from
    gamma = sigmoid(gate_logits), so that a gate that has rounded to 0 or 1 keeps finite value and gradient.

    Args: mean, log_variance (log s^2), gate_logits of one shape, usually (batch, d_latent); alpha in (0, 1), the
    prior's probability of an active unit: a number, a scalar array, or one per unit. Returns: that shape, nats, not
    reduced. Raises: ValueError for integer or empty arrays, shapes that differ, a number alpha outside (0, 1).
    Source: Tonolini, Jensen and Murray-Smith, Variational sparse coding, 2020.
    """
    slab = gaussian_kl(mean, log_variance)
    (mean, gate_logits) = floatings(mean=mean, gate_logits=gate_logits)
    alpha = hyper("alpha", alpha, "(0, 1)", slab, "it is the prior probability of an active unit, for instance 0.05.")
    on, off = jax.nn.sigmoid(gate_logits), jax.nn.sigmoid(-gate_logits)
    log_on, log_off = jax.nn.log_sigmoid(gate_logits), jax.nn.log_sigmoid(-gate_logits)
    return on * slab + on * (log_on - jnp.log(alpha)) + off * (log_off - jnp.log1p(-alpha))


def elbo(log_likelihood: ArrayLike, kl: ArrayLike, *, beta: ArrayLike = 1.0) -> Array:
    """Evidence lower bound, log p(x | z) - beta KL, per example: to be maximised, so its negative is the loss.

    Args: log_likelihood (batch, ...), one term per pixel or already summed; kl (batch, ...), one term per latent unit
    or already summed; both are summed over all axes but the first. beta >= 0, a number or a scalar array: 1 gives the
    bound, others a warm-up or a beta-VAE. Returns: (batch,), nats. Raises: ValueError for integer or empty arrays,
    different batch sizes, a negative beta.
    Source: Kingma and Welling, Auto-encoding variational Bayes, 2014, eq. 3; beta from Higgins et al., beta-VAE, 2017,
    eq. 4.
    """
    log_likelihood = per_example(floating("log_likelihood", log_likelihood, min_ndim=1))
    kl = per_example(floating("kl", kl, min_ndim=1))
    if log_likelihood.shape != kl.shape:
        raise ValueError(
            f"log_likelihood has {log_likelihood.shape[0]} examples and kl {kl.shape[0]}: give both for one batch, "
            "examples on the first axis."
        )
    return log_likelihood - hyper("beta", beta, "[0, inf)", log_likelihood, "it weighs the KL; 1 is the bound.") * kl
