"""Codes above a threshold learned for each unit: ``a`` where ``a > threshold``, ``mean_n ||h_n||_0``.

The gradients in the thresholds are estimated, see :func:`saegan_jax.activations.heaviside`.

Source: Rajamanoharan et al., Jumping ahead: improving reconstruction fidelity with JumpReLU sparse autoencoders, 2024.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from saegan_jax.activations import heaviside, jumprelu
from saegan_jax.algorithms.sae.groups import SAESettings
from saegan_jax.algorithms.sae.variants.base import CENTRED, SAELens, Variant, Weights
from saegan_jax.networks.autoencoders import per_unit


def _thresholds(weights: Weights, a: jax.Array) -> jax.Array:
    return jnp.broadcast_to(per_unit(weights["threshold"], a), a.shape)


def activate(config: SAESettings, weights: Weights, a: jax.Array, *, k: ArrayLike) -> jax.Array:
    """``a`` where ``a > threshold``."""
    return jumprelu(a, _thresholds(weights, a), config.bandwidth)


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
    """``mean_n ||h_n||_0``, summed over positions."""
    return heaviside(a, _thresholds(weights, a), config.bandwidth).sum() / a.shape[0]


def project(weights: Weights) -> Weights:
    """Thresholds of at least 0: a lower one would let negative codes pass."""
    return {"threshold": jnp.maximum(weights["threshold"], 0.0)}


VARIANT = Variant(
    activate=activate,
    saelens=SAELens("jumprelu"),
    sparsity=sparsity,
    extra_params=lambda config: {"threshold": config.initial_threshold},
    project=project,
    in_units_of_codes=("threshold",),
    defaults={**CENTRED, "beta": 0.1},
    sweep_axes={"beta": (0.03, 0.1, 0.3, 1.0, 3.0)},
)
