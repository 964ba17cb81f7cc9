"""Winner takes all over the batch: each unit keeps its ``rho * rows`` largest codes.

Training: ``relu(a)`` where among these. Afterwards: ``relu(a)``, dense; features rather than reconstructions.

Source: Makhzani and Frey, Winner-take-all autoencoders, 2015.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from saegan_jax.activations import topk
from saegan_jax.algorithms.sae.groups import SAESettings
from saegan_jax.algorithms.sae.variants.base import SAELens, Variant, Weights, relu, rows_of


def activate_batch(
    config: SAESettings, weights: Weights, a: jax.Array, *, k: ArrayLike, rho: ArrayLike, axis_name: str | None
) -> jax.Array:
    """``relu(a)`` where among the ``rho * rows`` largest of its unit, at least one."""
    share = jnp.asarray(rho, jnp.float32) * rows_of(a, axis_name)
    winners = jnp.maximum(jnp.round(share), 1.0).astype(jnp.int32)
    return topk(a, winners, axis=tuple(range(a.ndim - 1)), axis_name=axis_name)


VARIANT = Variant(
    activate=relu,
    saelens=SAELens("standard"),
    activate_batch=activate_batch,
    defaults={"learning_rate": 1e-3, "decoder_norm": 1.0},
)
