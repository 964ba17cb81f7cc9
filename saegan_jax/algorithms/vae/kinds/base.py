"""What a kind of variational autoencoder decides."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from saegan_jax.algorithms.vae.posterior import Draw, Posterior
from saegan_jax.algorithms.vae.state import VAEHyper


class Kind(NamedTuple):
    """A kind of posterior, prior and code, as pure functions; ``config`` is a :class:`VAEConfig`, ``z (batch, d_latent)``.

    Attributes:
      heads: parameters of a unit's posterior that the encoder gives, in the order of :class:`Posterior`.
      sample_prior: ``sample_prior(hyper, key, shape) -> z`` of that shape, from the stated prior.
      warm_up: ``warm_up(config, posterior, alpha, step) -> (posterior, alpha)``, those that the loss of a step is taken of.
      draw: ``draw(config, posterior, key, progress) -> z``, differentiable; ``progress`` grows from 0 to 1 over the training.
      decoder_input: ``decoder_input(config, z, hyper) -> (batch, d_latent)``, the code that the decoder reads.
      sparsity: ``sparsity(config, z, hyper) -> scalar``, nats summed over units, weighed with ``beta_sparsity`` in the loss.
      mean_l0: ``mean_l0(config, posterior, z, hyper) -> scalar``, active units an image of a training batch.
      active: ``active(config, draw, hyper) -> bool (batch, d_latent)``, units of a hard draw that count as active.
      active_means: that in words.
      prior_activity: ``prior_activity(config)``, the prior probability that a unit is active; None where every unit is, or none
        is exactly off.
    """

    heads: int
    sample_prior: Callable[[VAEHyper, jax.Array, tuple[int, int]], jax.Array]
    warm_up: Callable[[Any, Posterior, jax.Array, jax.Array], tuple[Posterior, jax.Array]]
    draw: Callable[[Any, Posterior, jax.Array, jax.Array], jax.Array]
    decoder_input: Callable[[Any, jax.Array, VAEHyper], jax.Array]
    sparsity: Callable[[Any, jax.Array, VAEHyper], jax.Array]
    mean_l0: Callable[[Any, Posterior, jax.Array, VAEHyper], jax.Array]
    active: Callable[[Any, Draw, VAEHyper], jax.Array]
    active_means: str
    prior_activity: Callable[[Any], float | None]
