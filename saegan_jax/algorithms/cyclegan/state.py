"""What a CycleGAN's training step reads and returns."""

from typing import Any, NamedTuple

import flax.struct
import jax

from saegan_jax.algorithms.nets import Nets


class TwoDomains(NamedTuple):
    """One image or batch of each domain, unpaired, or any other value for each.

    Attributes:
      a, b: as batches ``(batch, height, width, channels)``, float32 in [0, 1].
    """

    a: Any
    b: Any


@flax.struct.dataclass
class CycleGANState:
    """Everything a resumed training needs.

    Attributes:
      step: int32 scalar, steps taken.
      key: the run's key; a step's randomness is ``fold_in(key, step)``.
      params: :class:`Nets`: ``generator`` a dict with ``ab`` and ``ba`` (and ``encoder`` where it trains on), ``discriminator``
        a dict with the discriminators of ``a`` and ``b``.
      opt_state: :class:`Nets` of optax states.
      history: :class:`TwoDomains` of :class:`History`: generated images of each domain; of None where none are kept.
      pretrained: what never changes: parameters of the pre-trained autoencoder (sparse), the
        :class:`saegan_jax.algorithms.cyclegan.Guides` of a guided plain kind; ``()`` without either.
    """

    step: jax.Array
    key: jax.Array
    params: Nets
    opt_state: Nets
    history: TwoDomains
    pretrained: Any


class CycleGANInfo(NamedTuple):
    """Scalars of one step, batch means, over both directions or domains.

    Attributes:
      discriminator_loss: sum of both discriminators' least-squares losses, with the paper's 1/2.
      generator_loss: sum of both directions' adversarial losses.
      cycle, identity: mean absolute error in the pixels' unit, [0, 1], mean of both directions.
      accuracy: share of patches in which a discriminator scores a real image above a generated one.
      l0: active codes of a translation (sparse), else 0.
    """

    discriminator_loss: jax.Array
    generator_loss: jax.Array
    cycle: jax.Array
    identity: jax.Array
    accuracy: jax.Array
    l0: jax.Array


class GuidedInfo(NamedTuple):
    """:class:`CycleGANInfo` of a guided CycleGAN, with the terms of its guides.

    Attributes:
      discriminator_loss, generator_loss, cycle, identity, accuracy, l0: as there.
      concept: distance of a translation's codes from those of its source, mean of both directions; 0 where its weight is 0.
      semantic: cross-entropy of a translation's class, nats, mean of both directions; 0 where its weight is 0.
    """

    discriminator_loss: jax.Array
    generator_loss: jax.Array
    cycle: jax.Array
    identity: jax.Array
    accuracy: jax.Array
    l0: jax.Array
    concept: jax.Array
    semantic: jax.Array
