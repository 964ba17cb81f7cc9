"""What a GAN's two networks minimise: adversarial loss and penalties, summed over critics."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.augment import Augmentation, diff_augment
from saegan_jax.algorithms.gan.objectives import AdversarialLoss
from saegan_jax.algorithms.gan.parts import Condition, Game, Logits
from saegan_jax.algorithms.gan.penalties import Penalty, PenaltyInputs
from saegan_jax.algorithms.gan.state import GANInfo, ObjectiveState
from saegan_jax.algorithms.gan.step import Context, Pairs
from saegan_jax.losses import logits_and_gradient_norm
from saegan_jax.networks.spectral import spectral_init, spectral_normalise


class Objective(NamedTuple):
    """What is played for.

    Attributes:
      game: whose critics are scored.
      loss: the adversarial loss.
      penalties: by name, in the registry's order.
      streams: of each penalty, the number that makes its key from the step's.
      augment: DiffAugment's policy.
      spectral_norm: whether the discriminator's kernels are divided by their largest singular values.
    """

    game: Game
    loss: AdversarialLoss
    penalties: Mapping[str, Penalty]
    streams: Mapping[str, int]
    augment: tuple[Augmentation, ...]
    spectral_norm: bool


class CriticTerms(NamedTuple):
    """One critic's terms of the discriminator's loss.

    Attributes:
      adversarial: scalar.
      gradient_norm: scalar, the weighed sum of the penalties on gradient norms.
      other: scalar, the weighed sum of all others.
      values: by name, each penalty before its weight.
      kept: by name, what each penalty keeps.
      real_logits, fake_logits: ``(batch,)``.
    """

    adversarial: jax.Array
    gradient_norm: jax.Array
    other: jax.Array
    values: dict[str, jax.Array]
    kept: dict[str, Any]
    real_logits: jax.Array
    fake_logits: jax.Array


def init_objective(objective: Objective, key: jax.Array, params: Any) -> ObjectiveState:
    """What the losses keep before the first step."""
    kept = {name: penalty.init() for name, penalty in objective.penalties.items()}
    kept = {name: state for name, state in kept.items() if jax.tree.leaves(state)}
    return ObjectiveState(
        spectral=spectral_init(params, key) if objective.spectral_norm else (),
        penalties={name: jax.tree.map(jnp.copy, kept) for name in objective.game.critics} if kept else (),
    )


def normalised(objective: Objective, params: Any, vectors: Any) -> tuple[Any, Any]:
    """The discriminator's parameters as its critics read them, and the new singular vectors."""
    return spectral_normalise(params, vectors) if objective.spectral_norm else (params, vectors)


def critic_terms(
    objective: Objective, critic: Logits, params: Any, kept: dict[str, Any], pairs: Pairs, context: Context
) -> CriticTerms:
    """Logits of reals and fakes in one pass, gradient norms from the same pass, and every penalty.

    Args:
      objective: see :class:`Objective`.
      critic: ``(params, pretrained, x, condition) -> logits``.
      params: the discriminator's, normalised.
      kept: by name, what the penalties keep for this critic.
      pairs: reals and fakes, augmented.
      context: its key is that of penalties.
    """
    n = pairs.real.shape[0]
    both = jnp.concatenate([pairs.real, pairs.fake])
    conditions = jax.tree.map(lambda *x: jnp.concatenate(x), pairs.real_condition, pairs.fake_condition)

    def logits_of(x: jax.Array, condition: Condition = conditions) -> jax.Array:
        return critic(params, context.pretrained, x, condition)

    real_norms = fake_norms = None
    if any(penalty.needs_gradient_norm for penalty in objective.penalties.values()):
        logits, norms = logits_and_gradient_norm(logits_of, both)
        real_norms, fake_norms = norms[:n], norms[n:]
    else:
        logits = logits_of(both)
    real_logits, fake_logits = logits[:n], logits[n:]
    gradient_norm = other = jnp.zeros((), jnp.float32)
    values, new = {}, {}
    for name, penalty in objective.penalties.items():
        inputs = PenaltyInputs(
            partial(logits_of, condition=pairs.real_condition), pairs.real, pairs.fake, real_logits, fake_logits,
            real_norms, fake_norms, jax.random.fold_in(context.key, objective.streams[name]),
        )  # fmt: skip
        values[name], new[name] = penalty.apply(kept.get(name, ()), inputs)
        term = penalty.weight(context.hyper, context.now) * values[name]  # type: ignore[arg-type]
        if penalty.needs_gradient_norm:
            gradient_norm += term
        else:
            other += term
    adversarial = objective.loss.discriminator(real_logits, fake_logits).mean()
    return CriticTerms(adversarial, gradient_norm, other, values, new, real_logits, fake_logits)


def discriminator_loss(
    objective: Objective, params: Any, state: ObjectiveState, pairs: Pairs, context: Context
) -> tuple[jax.Array, tuple[ObjectiveState, dict[str, jax.Array]]]:
    """``sum over critics of mean L_D(D(x), D(G(z))) + gamma_1/2 mean R1 + gamma_2/2 mean R2`` and the other penalties.

    Args:
      objective: see :class:`Objective`.
      params: of the discriminator.
      state: what the losses keep.
      pairs: reals and fakes in critic space, ``(batch, ...)``, and what critics are given beside them.
      context: settings, what was pretrained, and the key of this step.

    Returns:
      A scalar; what the losses keep afterwards, and the scalars of :class:`GANInfo` that belong to the discriminator.
    """
    params, vectors = normalised(objective, params, state.spectral)
    key = jax.random.fold_in(context.key, 1)
    pairs = pairs._replace(
        real=diff_augment(jax.random.fold_in(key, 0), pairs.real, policy=objective.augment),
        fake=diff_augment(jax.random.fold_in(key, 1), pairs.fake, policy=objective.augment),
    )
    context = context._replace(key=key)
    total, other, zero = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)
    info = dict.fromkeys(("real_logits", "fake_logits", "r1", "r2", "accuracy"), zero)
    kept = {}
    for name, critic in objective.game.critics.items():
        before = state.penalties[name] if state.penalties else {}
        terms = critic_terms(objective, critic, params, before, pairs, context)
        total = total + terms.gradient_norm + terms.adversarial
        other = other + terms.other
        kept[name] = {penalty: terms.kept[penalty] for penalty in before}
        info["real_logits"] += terms.real_logits.mean()
        info["fake_logits"] += terms.fake_logits.mean()
        info["r1"] += terms.values.get("r1", zero)
        info["r2"] += terms.values.get("r2", zero)
        sure = (terms.real_logits > terms.fake_logits).astype(jnp.float32).mean()
        info["accuracy"] += sure / len(objective.game.critics)
    new = ObjectiveState(spectral=vectors, penalties=kept if state.penalties else ())
    return total + other, (new, info | {"penalty": other})


def generator_loss(
    objective: Objective,
    fake: jax.Array,
    discriminator: Any,
    state: ObjectiveState,
    latent: jax.Array,
    pairs: Pairs,
    context: Context,
) -> tuple[jax.Array, jax.Array]:
    """``sum over critics of mean L_G + extra``, extra the game's own term.

    Args:
      objective: see :class:`Objective`.
      fake: ``(batch, ...)`` in critic space.
      discriminator: its parameters, after its steps.
      state: what the losses keep, after the discriminator's steps.
      latent: ``(batch, d_latent)`` of the fakes.
      pairs: reals that the fakes are paired with, and what critics are given beside both.
      context: settings, what was pretrained, and the key of this step.

    Returns:
      A scalar, and the game's own term alone.
    """
    params = normalised(objective, discriminator, state.spectral)[0]
    key, pretrained = jax.random.fold_in(context.key, 1), context.pretrained
    seen = diff_augment(jax.random.fold_in(key, 1), fake, policy=objective.augment)
    total = jnp.zeros((), jnp.float32)
    for critic in objective.game.critics.values():
        fake_logits = critic(params, pretrained, seen, pairs.fake_condition)
        real_logits = None
        if objective.loss.reads_real:
            real = diff_augment(jax.random.fold_in(key, 0), pairs.real, policy=objective.augment)
            real_logits = critic(params, pretrained, real, pairs.real_condition)
        total += objective.loss.generator(real_logits, fake_logits).mean()
    extra = objective.game.generator_extra
    term = jnp.zeros((), jnp.float32) if extra is None else extra(pretrained, latent, fake)
    return total + term, term


def finish(state: ObjectiveState, discriminator: tuple[Any, Any], generator: tuple[Any, Any]) -> tuple[Any, GANInfo]:
    """What the losses keep, unchanged, and the step's :class:`GANInfo`."""
    (loss_d, scalars), (loss_g, extra) = discriminator, generator
    return state, GANInfo(discriminator_loss=loss_d, generator_loss=loss_g, generator_extra=extra, **scalars)
