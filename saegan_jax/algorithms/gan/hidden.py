"""A penalty on a generator's hidden activations, chosen from a registry: are they sparse, or only small?"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.gan.config import HiddenLayers, ObjectiveConfig
from saegan_jax.losses import hoyer_sparsity
from saegan_jax.networks.generators import rewritten_inputs


def hidden_l1(activations: jax.Array) -> jax.Array:
    """``mean |a|`` over examples and units of ``(batch, n_units)``: sparse, and small.

    Source: Ganz and Elad, "Improved image generation via sparse modeling" (2021), which penalises the L1 norm.
    """
    return jnp.abs(activations).mean()


def hidden_l2(activations: jax.Array) -> jax.Array:
    """``mean a^2`` over examples and units of ``(batch, n_units)``: small, not sparse; the control of :func:`hidden_l1`."""
    return jnp.square(activations).mean()


def hidden_hoyer(activations: jax.Array) -> jax.Array:
    """``1 - mean Hoyer's score`` over examples of ``(batch, n_units)``: sparse, whatever their size."""
    return 1.0 - hoyer_sparsity(activations).mean()


HIDDEN_PENALTIES: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "l1": hidden_l1,
    "l2": hidden_l2,
    "hoyer": hidden_hoyer,
}
"""By name, a function of one layer's activations ``(batch, n_units)``, float32, to a scalar."""


class Penalised(NamedTuple):
    """What a generator draws, and its weighed penalty, a scalar."""

    drawn: jax.Array
    penalty: jax.Array


def with_hidden_penalty(
    draw: Callable[[], jax.Array], *, penalty: Callable[[jax.Array], jax.Array], weight: float, layers: HiddenLayers
) -> Penalised:
    """``weight * mean over layers of penalty(a_layer)``, a_layer what a layer of the generator reads, the first one left out.

    Args:
      draw: calls one network.
      penalty: one of :data:`HIDDEN_PENALTIES`.
      weight: of the mean.
      layers: ``last``, what the last layer reads; ``all``, what every layer but the first reads.

    Returns:
      What ``draw`` returns, and the weighed penalty.
    """
    read: list[jax.Array] = []

    def record(name: str, x: jax.Array) -> jax.Array:
        read.append(x)
        return x

    with rewritten_inputs(record):
        drawn = draw()
    chosen = read[-1:] if layers == "last" else read[1:]
    values = [penalty(x.astype(jnp.float32).reshape(x.shape[0], -1)) for x in chosen]
    return Penalised(drawn, weight * jnp.stack(values).mean())


def hidden_penalty_of(config: ObjectiveConfig) -> Callable[[Callable[[], jax.Array]], Penalised] | None:
    """:func:`with_hidden_penalty` as ``config`` has it; None where its weight is 0."""
    if not config.hidden_weight:
        return None
    penalty = HIDDEN_PENALTIES[config.hidden_penalty]
    return partial(with_hidden_penalty, penalty=penalty, weight=config.hidden_weight, layers=config.hidden_layers)
