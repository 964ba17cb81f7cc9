"""Adversarial losses as records: what a discriminator and a generator minimise, of pairs of logits."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from saegan_jax import losses


class AdversarialLoss(NamedTuple):
    """One pair of losses, elementwise on logits and unreduced, real before fake.

    Attributes:
      discriminator: ``discriminator(real_logits, fake_logits) -> losses``, of the logits' shape.
      generator: ``generator(real_logits, fake_logits) -> losses``; ``real_logits`` is None where it is not read.
      reads_real: whether the generator's loss reads the logits of reals, so that they have to be computed.
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array | None, jax.Array], jax.Array]
    reads_real: bool = False


def unpaired(
    discriminator: Callable[[jax.Array, jax.Array], jax.Array], generator: Callable[[jax.Array], jax.Array]
) -> AdversarialLoss:
    """A loss whose generator reads the logits of fakes alone."""
    return AdversarialLoss(discriminator, lambda _, fake_logits: generator(fake_logits))


ADVERSARIAL_LOSSES: Mapping[str, AdversarialLoss] = {
    "relativistic": AdversarialLoss(
        losses.relativistic_discriminator_loss,
        losses.relativistic_generator_loss,  # type: ignore[arg-type]
        reads_real=True,
    ),
    "non_saturating": unpaired(losses.non_saturating_discriminator_loss, losses.non_saturating_generator_loss),
    "minimax": unpaired(losses.minimax_discriminator_loss, losses.minimax_generator_loss),
    "least_squares": unpaired(losses.least_squares_discriminator_loss, losses.least_squares_generator_loss),
    "hinge": unpaired(losses.hinge_discriminator_loss, losses.hinge_generator_loss),
    "wasserstein": unpaired(losses.wasserstein_discriminator_loss, losses.wasserstein_generator_loss),
}
