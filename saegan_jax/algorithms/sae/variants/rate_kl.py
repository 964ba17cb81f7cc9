"""ReLU codes held to a mean activation: ``relu(a)``, Poisson divergence ``sum_j rho log(rho / rho_hat_j) - rho + rho_hat_j``.

Source: Ng, CS294A lecture notes "Sparse autoencoder", 2011, with the divergence of rates in place of Bernoulli's.
"""

import jax
import jax.numpy as jnp

from saegan_jax import losses
from saegan_jax.algorithms.sae.groups import SAESettings
from saegan_jax.algorithms.sae.variants.base import (
    CENTRED,
    SAELens,
    Variant,
    Weights,
    mean_for_target,
    relu,
    require_decoder_norm,
)


def sparsity(
    config: SAESettings,
    weights: Weights,
    a: jax.Array,
    codes: jax.Array,
    *,
    rho: jax.Array,
    running: jax.Array | None,
    axis_name: str | None,
) -> jax.Array:
    """``sum_j`` of :func:`saegan_jax.losses.kl_sparsity_rate`."""
    rho_hat = mean_for_target(config, codes, running=running, axis_name=axis_name)
    return jnp.sum(losses.kl_sparsity_rate(rho_hat, rho))


VARIANT = Variant(
    activate=relu,
    saelens=SAELens("standard"),
    sparsity=sparsity,
    has_target=True,
    validate=require_decoder_norm,
    defaults={**CENTRED, "beta": 1.0},
    sweep_axes={"rho": (0.001, 0.003, 0.01, 0.03, 0.1)},
)
