"""One training step of a CycleGAN, from its losses up; every function takes its parts first."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from saegan_jax import losses
from saegan_jax.algorithms.cyclegan.config import DIRECTIONS, CycleGANConfig
from saegan_jax.algorithms.cyclegan.guides import GuideParts, concept_loss, semantic_loss
from saegan_jax.algorithms.cyclegan.history import empty_history, query
from saegan_jax.algorithms.cyclegan.state import CycleGANInfo, CycleGANState, GuidedInfo, TwoDomains
from saegan_jax.algorithms.cyclegan.translators import Translator
from saegan_jax.algorithms.nets import Nets
from saegan_jax.algorithms.optimisers import apply_gradients
from saegan_jax.errors import require_choice
from saegan_jax.images import check_unit, to_signed, to_unit
from saegan_jax.networks.translators import PatchDiscriminator


class Parts(NamedTuple):
    """What a CycleGAN is made of; static.

    Attributes:
      config: see :class:`CycleGANConfig`.
      translator: see :class:`Translator`.
      discriminator: one network, with parameters for each domain.
      optimiser: of generators and of discriminators, each with a state.
      guides: see :class:`GuideParts`.
    """

    config: CycleGANConfig
    translator: Translator
    discriminator: PatchDiscriminator
    optimiser: optax.GradientTransformation
    guides: GuideParts


class GeneratorTerms(NamedTuple):
    """What :func:`generator_loss` gives beside the loss: the translations, and its terms before their weights, scalars.

    Terms of guides without a weight are None.
    """

    fake: TwoDomains
    adversarial: jax.Array
    cycle: jax.Array
    identity: jax.Array
    concept: jax.Array | None
    semantic: jax.Array | None


def init_state(
    parts: Parts, image_shape: tuple[int, int, int], key: jax.Array, pretrained: Any = None
) -> CycleGANState:
    """New networks, empty histories, and a copy of ``pretrained``.

    Args:
      parts: see :class:`Parts`.
      image_shape: ``(height, width, channels)``.
      key: of the parameters and of the run.
      pretrained: trained parameters of the autoencoder, Flax's ``{"params": ...}`` (sparse); :class:`Guides` of a guided plain
        kind; else None.

    Raises:
      ValueError: ``pretrained`` missing where it is needed, or given where nothing is read of it.
    """
    guided = parts.config.guided
    if guided and pretrained is None:
        raise ValueError("a guided CycleGAN needs pretrained, the guides of fit_guides: call init(key, pretrained).")
    params_key, run_key = jax.random.split(key)
    generator_key, a_key, b_key = jax.random.split(params_key, 3)
    one = jnp.zeros((1, *image_shape), jnp.float32)
    params = Nets(
        parts.translator.init(generator_key, None if guided else pretrained),
        {"a": parts.discriminator.init(a_key, one), "b": parts.discriminator.init(b_key, one)},
    )
    size = parts.config.history
    return CycleGANState(
        step=jnp.zeros((), jnp.int32),
        key=run_key,
        params=params,
        opt_state=Nets(parts.optimiser.init(params.generator), parts.optimiser.init(params.discriminator)),
        history=TwoDomains(empty_history(size, image_shape), empty_history(size, image_shape)),
        # A copy: a state whose buffers are donated may not hold an array that the caller keeps.
        pretrained=() if pretrained is None else jax.tree.map(jnp.copy, pretrained),
    )


def learning_rate_share(config: CycleGANConfig, step: jax.Array) -> jax.Array:
    """1 for the first ``constant_share`` of the steps, then linearly to 0: scalar.

    Source: Zhu et al., 2017, section 4, training details.
    """
    rest = (1 - config.constant_share) * config.steps
    if rest == 0:
        return jnp.ones((), jnp.float32)
    return jnp.clip((config.steps - step).astype(jnp.float32) / rest, 0.0, 1.0)


def translate_source_and_target(
    parts: Parts, params: Any, pretrained: Any, source: jax.Array, target: jax.Array, direction: str
) -> tuple[jax.Array, jax.Array]:
    """``G(source)``, and ``G(target)`` for the identity term, in one pass; ``target`` itself where that term has no weight."""
    if not parts.config.identity:
        return parts.translator.translate(params, pretrained, source, direction), target
    n = source.shape[0]
    out = parts.translator.translate(params, pretrained, jnp.concatenate([source, target]), direction)
    return out[:n], out[n:]


def generator_loss(
    parts: Parts, params: Any, state: CycleGANState, real: TwoDomains
) -> tuple[jax.Array, GeneratorTerms]:
    """``sum over directions of mean (D(G(x)) - 1)^2 + cycle |G'(G(x)) - x| + identity |G(y) - y|``, L1 as means over pixels.

    Where guides have a weight, ``+ concept_weight`` :func:`concept_loss` ``+ semantic_weight`` :func:`semantic_loss`.

    Args:
      parts: see :class:`Parts`.
      params: of the generators.
      state: of which discriminators and pre-trained parameters are read.
      real: images ``(batch, height, width, channels)`` in [-1, 1].

    Returns:
      The loss, a scalar, and :class:`GeneratorTerms`.
    """
    config, translate, pretrained = parts.config, parts.translator.translate, state.pretrained
    fake_b, same_b = translate_source_and_target(parts, params, pretrained, real.a, real.b, "ab")
    fake_a, same_a = translate_source_and_target(parts, params, pretrained, real.b, real.a, "ba")
    cycled_a = translate(params, pretrained, fake_b, "ba")
    cycled_b = translate(params, pretrained, fake_a, "ab")
    discriminator = state.params.discriminator
    score: Any = parts.discriminator.apply
    # Twice: the paper halves the discriminators' objective alone, and its weights of cycle and identity go with the whole one.
    adversarial = 2 * (
        losses.least_squares_generator_loss(score(discriminator["b"], fake_b)).mean()
        + losses.least_squares_generator_loss(score(discriminator["a"], fake_a)).mean()
    )
    cycle = losses.cycle_consistency(real.a, cycled_a).mean() + losses.cycle_consistency(real.b, cycled_b).mean()
    identity = losses.identity_mapping(real.a, same_a).mean() + losses.identity_mapping(real.b, same_b).mean()
    loss = adversarial + config.cycle * cycle + config.identity * identity
    fake, concept, semantic = TwoDomains(fake_a, fake_b), None, None
    if config.concept_weight:
        concept = concept_loss(parts.guides, pretrained, real, fake)
        loss += config.concept_weight * concept
    if config.semantic_weight:
        semantic = semantic_loss(parts.guides, pretrained, real, fake)
        loss += config.semantic_weight * semantic
    return loss, GeneratorTerms(fake, adversarial, cycle, identity, concept, semantic)


def discriminator_loss(parts: Parts, params: Any, real: TwoDomains, fake: TwoDomains) -> tuple[jax.Array, jax.Array]:
    """``sum over domains of 1/2 mean (D(y) - 1)^2 + 1/2 mean D(fake)^2``, means over patches.

    Args:
      parts: see :class:`Parts`.
      params: of the discriminators.
      real, fake: images ``(batch, height, width, channels)`` in [-1, 1].

    Returns:
      The loss, and the share of patches in which the real image scores higher, both scalars.
    """
    total, accuracy = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)
    for name, x, y in (("a", real.a, fake.a), ("b", real.b, fake.b)):
        # Instance norm treats images alone, so that one pass for both is the same as two.
        logits: Any = parts.discriminator.apply(params[name], jnp.concatenate([x, y]))
        real_logits, fake_logits = logits[: x.shape[0]], logits[x.shape[0] :]
        total += losses.least_squares_discriminator_loss(real_logits, fake_logits).mean()
        accuracy += 0.5 * (real_logits > fake_logits).astype(jnp.float32).mean()
    return total, accuracy


def generator_step(
    parts: Parts, state: CycleGANState, real: TwoDomains, rate: jax.Array
) -> tuple[Any, Any, GeneratorTerms]:
    """The generators' new parameters and optimiser state, and the terms of their loss; ``rate`` scales the update."""
    (_, terms), gradients = jax.value_and_grad(partial(generator_loss, parts), has_aux=True)(
        state.params.generator, state, real
    )
    params, opt_state = apply_gradients(
        parts.optimiser, gradients, state.opt_state.generator, state.params.generator, rate=rate
    )
    return params, opt_state, terms


def discriminator_step(
    parts: Parts, state: CycleGANState, real: TwoDomains, shown: TwoDomains, rate: jax.Array
) -> tuple[Any, Any, tuple[jax.Array, jax.Array]]:
    """The discriminators' new parameters and optimiser state, their loss and accuracy; ``rate`` scales the update."""
    scalars, gradients = jax.value_and_grad(partial(discriminator_loss, parts), has_aux=True)(
        state.params.discriminator, real, shown
    )
    params, opt_state = apply_gradients(
        parts.optimiser, gradients, state.opt_state.discriminator, state.params.discriminator, rate=rate
    )
    return params, opt_state, scalars


def mean_l0(parts: Parts, state: CycleGANState, real: TwoDomains) -> jax.Array:
    """Active codes of a translation, mean over both directions; 0 where translations have no codes."""
    codes_of = parts.translator.codes
    if codes_of is None:
        return jnp.zeros((), jnp.float32)
    codes = [
        codes_of(state.params.generator, state.pretrained, images, direction)
        for images, direction in zip(real, DIRECTIONS, strict=True)
    ]
    return (jnp.concatenate(codes) > 0).sum(axis=-1).astype(jnp.float32).mean()


def guided_info(info: CycleGANInfo, terms: GeneratorTerms) -> GuidedInfo:
    """``info`` with the means of both directions of the guides' terms."""
    found = [jnp.zeros((), jnp.float32) if term is None else 0.5 * term for term in (terms.concept, terms.semantic)]
    return GuidedInfo(*info, *found)


def train_step(
    parts: Parts, state: CycleGANState, batch: TwoDomains
) -> tuple[CycleGANState, CycleGANInfo | GuidedInfo]:
    """The generators' update, then the discriminators', on those generators' fakes by way of the history.

    Both losses are those of the state's networks: neither update sees the other.

    Args:
      parts: see :class:`Parts`.
      state: before the step.
      batch: images of each domain, as many of both, float32 in [0, 1].

    Returns:
      The state after the step, and :class:`CycleGANInfo`, of a guided CycleGAN :class:`GuidedInfo`.

    Raises:
      ValueError: integer images, or batches of two shapes.
    """
    if batch.a.shape != batch.b.shape:
        raise ValueError(
            f"batch.a has shape {batch.a.shape} and batch.b {batch.b.shape}; draw as many images of one size from each domain."
        )
    real = TwoDomains(to_signed(check_unit(batch.a)), to_signed(check_unit(batch.b)))
    rate = learning_rate_share(parts.config, state.step)
    generator, generator_opt, terms = generator_step(parts, state, real, rate)
    keys = jax.random.split(jax.random.fold_in(state.key, state.step))
    history_a, shown_a = query(state.history.a, terms.fake.a, keys[0])
    history_b, shown_b = query(state.history.b, terms.fake.b, keys[1])
    discriminator, discriminator_opt, (loss, accuracy) = discriminator_step(
        parts, state, real, TwoDomains(shown_a, shown_b), rate
    )
    # A quarter: half of both directions, and pixels of [-1, 1] are twice as far apart as those of [0, 1].
    cycle, identity = 0.25 * terms.cycle, 0.25 * terms.identity
    info = CycleGANInfo(loss, terms.adversarial, cycle, identity, accuracy, mean_l0(parts, state, real))
    state = replace(
        state,
        step=state.step + 1,
        params=Nets(generator, discriminator),
        opt_state=Nets(generator_opt, discriminator_opt),
        history=TwoDomains(history_a, history_b),
    )
    return state, guided_info(info, terms) if parts.config.guided else info


def translate(parts: Parts, state: CycleGANState, images: jax.Array, direction: str) -> jax.Array:
    """``(batch, height, width, channels)`` in [0, 1] to the same of the other domain; ``direction`` "ab" or "ba", static.

    Raises:
      ConfigError: another direction.
      ValueError: integer images.
    """
    require_choice("direction", direction, DIRECTIONS)
    signed = to_signed(check_unit(images))
    translated = parts.translator.translate(state.params.generator, state.pretrained, signed, direction)
    return jnp.clip(to_unit(translated), 0.0, 1.0)


def translation_codes(parts: Parts, state: CycleGANState, images: jax.Array, direction: str) -> jax.Array:
    """What :func:`translate` draws from, ``(batch, d_sae)``; arguments and errors as there, of kinds that have codes."""
    require_choice("direction", direction, DIRECTIONS)
    assert parts.translator.codes is not None
    signed = to_signed(check_unit(images))
    return parts.translator.codes(state.params.generator, state.pretrained, signed, direction)
