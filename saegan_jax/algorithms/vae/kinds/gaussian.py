"""The Gaussian kind: posterior ``N(mu, s^2)`` and prior ``N(0, 1)`` of every unit, decoded as they are."""

from typing import Any

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.vae.kinds.base import Kind
from saegan_jax.algorithms.vae.posterior import Draw, Posterior, slab
from saegan_jax.algorithms.vae.state import VAEHyper


def sample_prior(hyper: VAEHyper, key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """``N(0, 1)``."""
    # Split as for a spike and slab, so that both kinds draw the same slabs from a key.
    return jax.random.normal(jax.random.split(key)[0], shape, jnp.float32)


def warm_up(config: Any, posterior: Posterior, alpha: jax.Array, step: jax.Array) -> tuple[Posterior, jax.Array]:
    """None: only the weight of the divergence grows."""
    return posterior, alpha


def draw(config: Any, posterior: Posterior, key: jax.Array, progress: jax.Array) -> jax.Array:
    """``mu + s eps``."""
    return slab(posterior, jax.random.split(key)[0])


def decoder_input(config: Any, z: jax.Array, hyper: VAEHyper) -> jax.Array:
    """``z`` itself."""
    return z


def sparsity(config: Any, z: jax.Array, hyper: VAEHyper) -> jax.Array:
    """0: there is no penalty."""
    return jnp.zeros((), jnp.float32)


def mean_l0(config: Any, posterior: Posterior, z: jax.Array, hyper: VAEHyper) -> jax.Array:
    """``d_latent``."""
    return jnp.full((), float(z.shape[1]), dtype=jnp.float32)


def active(config: Any, draw: Draw, hyper: VAEHyper) -> jax.Array:
    """Units that are on, here all."""
    return draw.on


def prior_activity(config: Any) -> None:
    """None: every unit is active."""


GAUSSIAN = Kind(
    heads=2,
    sample_prior=sample_prior,
    warm_up=warm_up,
    draw=draw,
    decoder_input=decoder_input,
    sparsity=sparsity,
    mean_l0=mean_l0,
    active=active,
    active_means="all are",
    prior_activity=prior_activity,
)
