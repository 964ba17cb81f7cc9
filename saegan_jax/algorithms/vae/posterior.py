"""The approximate posterior of a batch: its draws, its divergence from the prior, and their densities."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax import losses


class Posterior(NamedTuple):
    """q(z | x) of a batch, independent over units.

    Attributes:
      mean, log_variance: of the Gaussian, or of the slab, ``(batch, d_latent)``.
      gate_logits: ``(batch, d_latent)``, ``gamma = sigmoid(gate_logits)`` the probability that a unit is active; None where
        every unit is.
    """

    mean: jax.Array
    log_variance: jax.Array
    gate_logits: jax.Array | None = None


class Draw(NamedTuple):
    """Latents ``z (batch, d_latent)``, exactly 0 where a unit is off, and which are ``on``, bool of the same shape."""

    z: jax.Array
    on: jax.Array


def divergence(posterior: Posterior, alpha: jax.Array) -> jax.Array:
    """KL of the posterior from the prior, ``(batch, d_latent)``, nats; ``alpha`` is that of a spike and slab, else unused."""
    mean, log_variance, gate = posterior
    if gate is None:
        return losses.gaussian_kl(mean, log_variance)
    return losses.spike_and_slab_kl(mean, log_variance, gate, alpha=alpha)


def slab(posterior: Posterior, key: jax.Array) -> jax.Array:
    """``mu + s eps``, ``(batch, d_latent)``."""
    noise = jax.random.normal(key, posterior.mean.shape, jnp.float32)
    return posterior.mean + jnp.exp(0.5 * posterior.log_variance) * noise


def draw_posterior(posterior: Posterior, key: jax.Array) -> Draw:
    """One draw for each example, with hard gates: a unit is on with probability gamma, and off it is exactly 0."""
    slab_key, gate_key = jax.random.split(key)
    z = slab(posterior, slab_key)
    if posterior.gate_logits is None:
        return Draw(z, jnp.ones(z.shape, bool))
    on = jax.random.bernoulli(gate_key, jax.nn.sigmoid(posterior.gate_logits))
    return Draw(jnp.where(on, z, 0.0), on)


def draw_relaxed(posterior: Posterior, key: jax.Array, temperature: jax.Array) -> jax.Array:
    """One differentiable draw, ``g (mu + s eps)`` with ``g = sigmoid((logit gamma + logistic noise) / temperature)``.

    P(g > 1/2) = gamma at any temperature, and g tends to a hard gate as it falls. Without gates it is the exact draw.

    Args: posterior of a batch; key; temperature, a scalar above 0. Returns: ``(batch, d_latent)``.

    Source: Maddison, Mnih and Teh, The concrete distribution, 2017, appendix B; Jang, Gu and Poole, Categorical
    reparameterization with Gumbel-softmax, 2017.
    """
    slab_key, gate_key = jax.random.split(key)
    z = slab(posterior, slab_key)
    if posterior.gate_logits is None:
        return z
    noise = jax.random.logistic(gate_key, z.shape, jnp.float32)
    return z * jax.nn.sigmoid((posterior.gate_logits + noise) / temperature)


def log_ratio(posterior: Posterior, draw: Draw, alpha: jax.Array) -> jax.Array:
    """``log p(z) - log q(z | x)`` of each unit of a hard draw, ``(batch, d_latent)``, nats.

    Both laws of a spike and slab are densities about the same measure, Lebesgue's plus an atom at 0: a unit that is on
    has ``log alpha N(z; 0, 1) - log gamma N(z; mu, s^2)``, one that is off ``log (1 - alpha) - log (1 - gamma)``. Whether it is
    on is read from ``draw.on``, since a slab draws exactly 0 with probability 0.
    """
    z, on = draw
    mean, log_variance, gate = posterior
    continuous = 0.5 * (jnp.square(z - mean) * jnp.exp(-log_variance) + log_variance - jnp.square(z))
    if gate is None:
        return continuous
    active = jnp.log(alpha) - jax.nn.log_sigmoid(gate) + continuous
    return jnp.where(on, active, jnp.log1p(-alpha) - jax.nn.log_sigmoid(-gate))


def posterior_mean(posterior: Posterior) -> jax.Array:
    """``E_q[z] = gamma mu``, ``(batch, d_latent)``."""
    if posterior.gate_logits is None:
        return posterior.mean
    return jax.nn.sigmoid(posterior.gate_logits) * posterior.mean


def most_probable(posterior: Posterior) -> jax.Array:
    """``(batch, d_latent)``: mu where a unit is more likely on than off, else 0."""
    if posterior.gate_logits is None:
        return posterior.mean
    gate = posterior.gate_logits
    return jnp.where(gate > 0, posterior.mean, jnp.where(gate <= 0, 0.0, jnp.nan))  # NaN where the gate is NaN


def ramp(step: jax.Array, length: int) -> jax.Array:
    """``min((step + 1) / length, 1)``, float32; 1 for a ``length`` of 0."""
    return jnp.minimum((step + 1).astype(jnp.float32) / max(length, 1), 1.0)
