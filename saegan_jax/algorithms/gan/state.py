"""The state of an adversarial training, and what one step reports."""

from typing import Any, NamedTuple

import flax.struct
import jax

from saegan_jax.algorithms.gan.schedule import OptimiserHyper
from saegan_jax.algorithms.nets import Nets


@flax.struct.dataclass
class GANState:
    """Everything a resumed training needs.

    Attributes:
      step: int32 scalar, steps taken.
      key: the run's key; a step's randomness is ``fold_in(key, step)``.
      params: :class:`saegan_jax.algorithms.nets.Nets` of parameters.
      opt_state: :class:`Nets` of optax states.
      ema: the generator's averaged parameters, those that samples are drawn with.
      hyper: settings that a sweep varies.
      objective: what the losses keep between steps: a :class:`ObjectiveState` of GANs, BEGAN's balance of energy models.
      class_count: ``(n_classes,)`` int32, reals of each class seen so far, from 1; ``()`` without classes.
      pretrained: what the game reads and never changes (a frozen encoder, a fitted prior); ``()`` where there is none.
    """

    step: jax.Array
    key: jax.Array
    params: Nets
    opt_state: Nets
    ema: Any
    hyper: OptimiserHyper
    objective: Any
    class_count: Any
    pretrained: Any


@flax.struct.dataclass
class ObjectiveState:
    """What a GAN's losses keep between steps.

    Attributes:
      spectral: leading singular vectors of the discriminator's kernels; ``()`` without spectral normalisation.
      penalties: by critic and by penalty, what the penalty keeps; those that keep nothing are left out.
    """

    spectral: Any
    penalties: Any


class GANInfo(NamedTuple):
    """Scalars of one step, batch means, summed over critics; R1 and R2 without their gamma/2, ``penalty`` with its weights.

    ``penalty`` is the sum of all penalties but R1 and R2. ``accuracy`` is the share of pairs in which the critic (the
    mean over critics) scores the real above the fake: 0.5 where it cannot tell, 1 where it is sure of all.
    ``generator_extra`` is the generator's loss beside the adversarial one: the game's own term (the alignment of a sparse
    prior) and the penalty on hidden activations, with their weights; 0 where there is none.
    """

    discriminator_loss: jax.Array
    generator_loss: jax.Array
    real_logits: jax.Array
    fake_logits: jax.Array
    r1: jax.Array
    r2: jax.Array
    penalty: jax.Array
    accuracy: jax.Array
    generator_extra: jax.Array
