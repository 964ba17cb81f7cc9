"""The k largest of each row: ``relu(a)`` where among them, 0 elsewhere.

Source: Makhzani and Frey, k-sparse autoencoders, 2013; Gao et al., Scaling and evaluating sparse autoencoders, 2024.
"""

import jax
from jax.typing import ArrayLike

from saegan_jax.activations import topk
from saegan_jax.algorithms.sae.groups import SAESettings
from saegan_jax.algorithms.sae.variants.base import CENTRED, SAELens, Variant, Weights


def activate(config: SAESettings, weights: Weights, a: jax.Array, *, k: ArrayLike) -> jax.Array:
    """``relu(a)`` where among the ``k`` largest of its row."""
    return topk(a, k)


VARIANT = Variant(
    activate=activate,
    # Without the second key SAELens takes it for a TopK that ranks units by the norm of their decoder rows, too.
    saelens=SAELens("topk", cfg=lambda config: {"k": config.k, "rescale_acts_by_decoder_norm": False}),
    counts_k=True,
    defaults={**CENTRED, "k": 20, "auxk": 1 / 32},
    sweep_axes={"k": (5, 10, 20, 40, 80)},
)
