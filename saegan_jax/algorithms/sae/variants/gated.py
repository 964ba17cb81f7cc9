"""Whether a unit is on and how strongly, apart: ``relu(exp(r_mag) (a - b_enc) + b_mag)`` where ``a > 0``.

The penalty ``mean_n ||relu(a_n)||_1`` is on the gate alone. A second reconstruction, from ``relu(a)`` with the decoder held
constant, keeps the gate informed.

Source: Rajamanoharan et al., Improving dictionary learning with gated sparse autoencoders, 2024.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from saegan_jax import losses
from saegan_jax.algorithms.sae.groups import SAESettings
from saegan_jax.algorithms.sae.variants.base import CENTRED, SAELens, Variant, Weights, require_decoder_norm
from saegan_jax.networks.autoencoders import per_unit


def activate(config: SAESettings, weights: Weights, a: jax.Array, *, k: ArrayLike) -> jax.Array:
    """``relu(exp(r_mag) (a - b_enc) + b_mag)`` where ``a > 0``."""
    scale, shift = jnp.exp(weights["r_mag"]), weights["b_mag"]
    magnitude = jax.nn.relu(per_unit(scale, a) * (a - per_unit(weights["b_enc"], a)) + per_unit(shift, a))
    return jnp.where(a <= 0, 0.0, magnitude)  # a NaN is kept, so that it shows


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
    """``mean_n ||relu(a_n)||_1``, summed over positions."""
    return losses.l1_sparsity(jax.nn.relu(a)).sum() / a.shape[0]


def auxiliary(
    config: SAESettings, weights: Weights, a: jax.Array, *, error_of: Callable[[Weights, jax.Array], jax.Array]
) -> jax.Array:
    """The error of the reconstruction from ``relu(a)``, decoder held constant."""
    return error_of(lax.stop_gradient(weights), jax.nn.relu(a))


VARIANT = Variant(
    activate=activate,
    saelens=SAELens("gated", names={"b_enc": "b_gate"}),
    sparsity=sparsity,
    auxiliary=auxiliary,
    extra_params=lambda config: {"r_mag": 0.0, "b_mag": 0.0},
    in_units_of_codes=("b_mag",),
    validate=require_decoder_norm,
    defaults={**CENTRED, "beta": 0.5},
    sweep_axes={"beta": (0.1, 0.2, 0.5, 1.0, 2.0)},
)
