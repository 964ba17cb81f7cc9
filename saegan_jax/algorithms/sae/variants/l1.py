"""ReLU codes with a penalty on their sum: ``relu(a)``, ``mean_n ||h_n||_1``.

Source: Bricken et al., Towards monosemanticity, 2023.
"""

import jax

from saegan_jax import losses
from saegan_jax.algorithms.sae.groups import SAESettings
from saegan_jax.algorithms.sae.variants.base import CENTRED, SAELens, Variant, Weights, relu, require_decoder_norm


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
    """``mean_n ||h_n||_1``, summed over positions."""
    return losses.l1_sparsity(codes).sum() / a.shape[0]


VARIANT = Variant(
    activate=relu,
    saelens=SAELens("standard"),
    sparsity=sparsity,
    validate=require_decoder_norm,
    defaults={**CENTRED, "beta": 0.4},
    sweep_axes={"beta": (0.1, 0.2, 0.4, 0.8, 1.2)},
)
