"""The k * rows largest of a batch in training; afterwards whatever exceeds a threshold that the steps have kept.

Training: ``relu(a)`` where among the ``k * rows`` largest of the batch. Afterwards: ``relu(a)`` where ``a > threshold``, the
mean over batches of the least code that was kept.

Source: Bussmann et al., BatchTopK sparse autoencoders, 2024.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from saegan_jax.activations import topk
from saegan_jax.algorithms.sae.groups import SAESettings
from saegan_jax.algorithms.sae.variants.base import CENTRED, STATISTICS_DECAY, SAELens, Variant, Weights, rows_of
from saegan_jax.networks.autoencoders import per_unit


def activate(config: SAESettings, weights: Weights, a: jax.Array, *, k: ArrayLike) -> jax.Array:
    """``relu(a)`` where above the threshold, whatever ``k`` is."""
    below = a <= lax.stop_gradient(per_unit(weights["threshold"], a))  # False for NaN, which is kept, so that it shows
    return jnp.where(below, 0.0, jax.nn.relu(a))


def activate_batch(
    config: SAESettings, weights: Weights, a: jax.Array, *, k: ArrayLike, rho: ArrayLike, axis_name: str | None
) -> jax.Array:
    """``relu(a)`` where among the ``k * rows`` largest of the batch."""
    winners = jnp.asarray(k, jnp.int32) * rows_of(a, axis_name)
    return topk(a, winners, axis=tuple(range(a.ndim)), axis_name=axis_name)


def statistics(weights: Weights, codes: jax.Array, *, step: jax.Array, axis_name: str | None) -> Weights:
    """The threshold ``(d_sae,)``, all equal: running mean of the least code kept in a batch, of those that keep any."""
    least = jnp.min(jnp.where(codes > 0, codes, jnp.inf))
    if axis_name is not None:
        least = lax.pmin(least, axis_name)
    old = weights["threshold"]
    # A plain mean of the first hundred steps: an average that started from 0 would remember it for long.
    decay = jnp.minimum(STATISTICS_DECAY, step.astype(jnp.float32) / (step + 1).astype(jnp.float32))
    kept = jnp.where(jnp.isfinite(least), decay, 1.0)
    return {"threshold": kept * old + (1 - kept) * jnp.where(jnp.isfinite(least), least, 0.0)}


VARIANT = Variant(
    activate=activate,
    saelens=SAELens("jumprelu"),
    activate_batch=activate_batch,
    extra_params=lambda config: {"threshold": 0.0},
    statistics=statistics,
    resample_reset=lambda config: {},  # the threshold belongs to the whole batch
    counts_k=True,
    defaults={**CENTRED, "k": 20, "auxk": 1 / 32},
    sweep_axes={"k": (5, 10, 20, 40, 80)},
)
