"""What a step is taken with: settings that a sweep varies, and how they move along the training."""

from dataclasses import fields
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.gan.config import GANConfig, OptimiserConfig, ScheduleConfig


@flax.struct.dataclass
class OptimiserHyper:
    """Settings of the optimiser that may differ between the members of one vmapped sweep: scalars, see :class:`GANConfig`."""

    learning_rate: jax.Array
    final_learning_rate: jax.Array
    beta2: jax.Array
    final_beta2: jax.Array
    ema_half_life: jax.Array


@flax.struct.dataclass
class GANHyper(OptimiserHyper):
    """The same and the weights of R1 and R2: scalars, see :class:`GANConfig`."""

    r1_gamma: jax.Array
    r2_gamma: jax.Array
    final_gamma: jax.Array


def _scalars(kind: type, config: Any) -> dict[str, Any]:
    """As NumPy's: an algorithm is made without compiling anything or touching a device."""
    values = {f.name: getattr(config, f.name) for f in fields(kind)}
    if values["final_beta2"] is None:
        values["final_beta2"] = config.beta2
    return {name: np.asarray(value, np.float32) for name, value in values.items()}


def optimiser_hyper(config: OptimiserConfig) -> OptimiserHyper:
    """Those of ``config``, which has the fields of :class:`ScheduleConfig` too."""
    return OptimiserHyper(**_scalars(OptimiserHyper, config))


def hyper(config: GANConfig) -> GANHyper:
    """Those of ``config``."""
    return GANHyper(**_scalars(GANHyper, config))


class Scheduled(NamedTuple):
    """The settings of one step: scalars.

    Attributes:
      learning_rate: Adam's step size, of the discriminator.
      beta2: Adam's decay of the second moment.
      ema_decay: of the generator's averaged weights.
      progress: from 0 at the first step to 1 at the end of the schedule, along half a cosine.
    """

    learning_rate: jax.Array
    beta2: jax.Array
    ema_decay: jax.Array
    progress: jax.Array


def length_matters(config: Any) -> str:
    """Why ``config`` with more steps is another training from its first step on; empty where it is the same one, longer.

    Args:
      config: settings with the fields of :class:`OptimiserConfig` and :class:`ScheduleConfig`, and penalties.
    """
    gammas = getattr(config, "r1_gamma", 0.0) or getattr(config, "r2_gamma", 0.0)
    moving = {
        "final_learning_rate": config.final_learning_rate != 1,
        "final_gamma": bool(gammas) and getattr(config, "final_gamma", 1.0) != 1,
        "final_beta2": config.final_beta2 not in (None, config.beta2),
        "ema_burn_in": config.ema_burn_in,
    }
    names = [name for name, moves in moving.items() if moves]
    if config.schedule_steps or not names:
        return ""
    return f"with {' and '.join(names)} each step depends on the last one, since schedule_steps is 0"


def scheduled(config: ScheduleConfig, hyper: OptimiserHyper, step: jax.Array) -> Scheduled:
    """What ``step`` is taken with: each value moves from its first to its last along half a cosine, then stays.

    ``v(t) = v_0 + s (v_1 - v_0)``, ``s = (1 - cos(pi min(t / T, 1))) / 2``, T the ``schedule_steps``; the averaged weights
    decay by ``0.5 ** (images a generator step / half-life)``.

    Args:
      config: settings that are the same for all members.
      hyper: a member's settings, scalars.
      step: int32 scalar, steps taken.

    Returns:
      :class:`Scheduled`.

    Source: Huang et al., The GAN is dead; long live the GAN! A modern GAN baseline, 2024, appendix.
    """
    share = jnp.minimum(step.astype(jnp.float32) / (config.schedule_steps or config.steps), 1)
    s = 0.5 * (1 - jnp.cos(jnp.pi * share))
    half_life = hyper.ema_half_life * s if config.ema_burn_in else hyper.ema_half_life
    return Scheduled(
        learning_rate=hyper.learning_rate * (1 + s * (hyper.final_learning_rate - 1)),
        beta2=hyper.beta2 + s * (hyper.final_beta2 - hyper.beta2),
        # A half-life of 0 gives 2^-inf = 0: the averaged weights are the last ones.
        ema_decay=jnp.exp2(jnp.divide(-config.images_per_generator_step, half_life)),
        progress=s,
    )
