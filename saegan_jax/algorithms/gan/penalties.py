"""Penalties of a discriminator as records, and the registry they are chosen from."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from saegan_jax import losses
from saegan_jax.algorithms.ema import ema_update
from saegan_jax.algorithms.gan.config import ObjectiveConfig
from saegan_jax.algorithms.gan.schedule import GANHyper, Scheduled
from saegan_jax.errors import require, require_choice

LECAM_DECAY = 0.99  # of the running means of the logits, as in the authors' code


class PenaltyInputs(NamedTuple):
    """What a penalty may read of one discriminator step, for one critic.

    Attributes:
      critic: ``critic(images) -> (batch,)`` logits, at the labels and codes of the reals.
      real, fake: ``(batch, ...)`` images as the critic reads them, in [-1, 1].
      real_logits, fake_logits: ``(batch,)``.
      real_norms, fake_norms: ``(batch,)``, squared gradient norms of the critic there, from the same forward pass as the
        logits; None where no penalty of the step needs them.
      key: this penalty's key.
    """

    critic: Callable[[jax.Array], jax.Array]
    real: jax.Array
    fake: jax.Array
    real_logits: jax.Array
    fake_logits: jax.Array
    real_norms: jax.Array | None
    fake_norms: jax.Array | None
    key: jax.Array


class Penalty(NamedTuple):
    """A term of the discriminator's loss beside the adversarial one.

    Attributes:
      weight: ``weight(hyper, now) -> scalar``, which a member's settings and the schedule may change.
      apply: ``apply(state, inputs) -> (value, state)``: a scalar before its weight, and what the penalty keeps.
      init: ``init() -> state`` of one critic: a pytree of arrays; by default nothing.
      needs_gradient_norm: whether it reads ``real_norms`` and ``fake_norms``, which cost a second pass.
    """

    weight: Callable[[GANHyper, Scheduled], ArrayLike]
    apply: Callable[[Any, PenaltyInputs], tuple[jax.Array, Any]]
    init: Callable[[], Any] = tuple
    needs_gradient_norm: bool = False


def constant(weight: float) -> Callable[[GANHyper, Scheduled], ArrayLike]:
    """A weight that neither a sweep nor the schedule changes."""
    return lambda hyper, now: weight


def stateless(value: Callable[[PenaltyInputs], jax.Array]) -> Callable[[Any, PenaltyInputs], tuple[jax.Array, Any]]:
    """``apply`` of a penalty that keeps nothing."""
    return lambda state, inputs: (value(inputs), state)


def half_gamma(name: str, hyper: GANHyper, now: Scheduled) -> jax.Array:
    """``gamma / 2`` of R1 or R2 at this step: the member's gamma times its share along the schedule."""
    gamma: jax.Array = getattr(hyper, name)
    return 0.5 * (gamma * (1 + now.progress * (hyper.final_gamma - 1)))


def _mean_norm(norms: jax.Array | None) -> jax.Array:
    assert norms is not None
    return norms.mean()


def r1(config: ObjectiveConfig) -> Penalty | None:
    """R1, the mean squared gradient norm at reals; on wherever R1 or R2 is, since members may differ in both."""
    if not (config.r1_gamma or config.r2_gamma):
        return None
    apply = stateless(lambda inputs: _mean_norm(inputs.real_norms))
    return Penalty(partial(half_gamma, "r1_gamma"), apply, needs_gradient_norm=True)


def r2(config: ObjectiveConfig) -> Penalty | None:
    """R2, the mean squared gradient norm at fakes; on wherever R1 or R2 is, since members may differ in both."""
    if not (config.r1_gamma or config.r2_gamma):
        return None
    apply = stateless(lambda inputs: _mean_norm(inputs.fake_norms))
    return Penalty(partial(half_gamma, "r2_gamma"), apply, needs_gradient_norm=True)


def gradient_penalty(config: ObjectiveConfig) -> Penalty | None:
    """WGAN-GP's, :func:`saegan_jax.losses.gradient_penalty`."""
    if not config.gradient_penalty:
        return None

    def value(inputs: PenaltyInputs) -> jax.Array:
        return losses.gradient_penalty(inputs.critic, inputs.real, inputs.fake, inputs.key).mean()

    return Penalty(constant(config.gradient_penalty), stateless(value))


def dragan(config: ObjectiveConfig) -> Penalty | None:
    """DRAGAN's, :func:`saegan_jax.losses.dragan_penalty`."""
    if not config.dragan_penalty:
        return None

    def value(inputs: PenaltyInputs) -> jax.Array:
        return losses.dragan_penalty(inputs.critic, inputs.real, inputs.key).mean()

    return Penalty(constant(config.dragan_penalty), stateless(value))


def lecam(config: ObjectiveConfig) -> Penalty | None:
    """LeCam's, :func:`saegan_jax.losses.lecam`; keeps running means ``(2,)`` of the real and fake logits."""
    if not config.lecam:
        return None

    def apply(means: jax.Array, inputs: PenaltyInputs) -> tuple[jax.Array, jax.Array]:
        value = losses.lecam(inputs.real_logits, inputs.fake_logits, means[0], means[1]).mean()
        found = jax.lax.stop_gradient(jnp.stack([inputs.real_logits.mean(), inputs.fake_logits.mean()]))
        return value, ema_update(means, found, decay=LECAM_DECAY)

    return Penalty(constant(config.lecam), apply, init=lambda: jnp.zeros(2, jnp.float32))


# A penalty's key is the step's at its place here, behind the two keys of the augmentation: new ones go to the end.
PENALTIES: dict[str, Callable[[ObjectiveConfig], Penalty | None]] = {
    "gradient_penalty": gradient_penalty,
    "dragan": dragan,
    "lecam": lecam,
    "r1": r1,
    "r2": r2,
}
WITH_OPTIONS = tuple(PENALTIES)  # their weights are fields of ObjectiveConfig


def penalties_of(config: ObjectiveConfig) -> Mapping[str, Penalty]:
    """The penalties that ``config`` gives a weight, in the registry's order.

    Raises:
      ConfigError: a weight for a name that nobody has registered, or for one whose weight is an option of its own.
    """
    for name, weight in config.penalties:
        require_choice("penalties", name, tuple(PENALTIES))
        fix = "it has an option of its own, such as r1_gamma or lecam; set that one."
        require(name not in WITH_OPTIONS, "penalties", (name, weight), fix)
    found = {name: build(config) for name, build in PENALTIES.items()}
    return {name: penalty for name, penalty in found.items() if penalty is not None}


def weight_of(config: ObjectiveConfig, name: str) -> float:
    """The weight that ``config.penalties`` gives ``name``; 0 where it gives none."""
    return dict(config.penalties).get(name, 0.0)
