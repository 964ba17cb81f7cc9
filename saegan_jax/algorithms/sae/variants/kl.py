"""Sigmoid codes held to a mean activation: ``sigmoid(a)``, ``sum_j KL(rho || rho_hat_j)`` in nats.

Source: Ng, CS294A lecture notes "Sparse autoencoder", 2011.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logit
from jax.typing import ArrayLike

from saegan_jax import losses
from saegan_jax.algorithms.sae.groups import SAESettings
from saegan_jax.algorithms.sae.variants.base import (
    SAELens,
    Variant,
    Weights,
    bounded_decoder_norm,
    mean_for_target,
)
from saegan_jax.networks.autoencoders import symmetric_uniform


def activate(config: SAESettings, weights: Weights, a: jax.Array, *, k: ArrayLike) -> jax.Array:
    """``sigmoid(a)``."""
    return jax.nn.sigmoid(a)


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
    """``sum_j KL(rho || rho_hat_j)``, Bernoulli; from the logits where the batch's mean is compared."""
    if config.rho_hat == "batch":
        examples = tuple(range(a.ndim - 1))
        return jnp.sum(losses.kl_sparsity_from_logits(a, rho, axis=examples, axis_name=axis_name))
    rho_hat = mean_for_target(config, codes, running=running, axis_name=axis_name)
    return jnp.sum(losses.kl_sparsity(rho_hat, rho))


def encoder_bias(rho: Any) -> Any:
    """``logit(rho)``: codes start at the target, not at 1/2, from where the KL would drive every unit down at once."""
    return math.log(rho / (1 - rho)) if isinstance(rho, float) else logit(rho)


VARIANT = Variant(
    activate=activate,
    saelens=SAELens("sigmoid"),  # a word of this project: SAELens has no such architecture, and refuses it
    sparsity=sparsity,
    encoder_init=symmetric_uniform,
    decoder_init=symmetric_uniform,
    encoder_bias=encoder_bias,
    has_target=True,
    active_above=0.1,
    study_defaults=lambda image_shape: {"decoder_norm": bounded_decoder_norm(image_shape), "learning_rate": 5e-3},
    sweep_axes={"rho": (0.005, 0.01, 0.02, 0.05, 0.1)},
    dense_control={"beta": 0.0},
)
