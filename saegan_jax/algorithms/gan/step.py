"""One training step of a generator against a discriminator: the discriminator's steps first, then the generator's."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from saegan_jax.algorithms.base import Batch
from saegan_jax.algorithms.ema import ema_update
from saegan_jax.algorithms.gan.parts import Game
from saegan_jax.algorithms.gan.schedule import OptimiserHyper, Scheduled
from saegan_jax.algorithms.gan.state import GANState
from saegan_jax.algorithms.nets import Nets
from saegan_jax.algorithms.optimisers import apply_gradients
from saegan_jax.images import check_unit


class Pairs(NamedTuple):
    """Reals ``(batch, ...)`` in critic space, the fakes they are paired with (None in the generator's step, which makes
    them), and the class of both, ``(batch,)`` int32, or None."""

    real: jax.Array
    fake: Any
    label: jax.Array | None


class Context(NamedTuple):
    """What a loss may read beside parameters and images: settings, those of this step, what was pretrained, and a key."""

    hyper: OptimiserHyper
    now: Scheduled
    pretrained: Any
    key: jax.Array


class Carry(NamedTuple):
    """What a discriminator step passes on: parameters, optimiser state, and what the losses keep."""

    params: Any
    opt_state: Any
    objective: Any


class Rules(NamedTuple):
    """What :func:`train_step` is made of: a game, the losses of both networks, and how often each takes a step.

    Attributes:
      game: see :class:`Game`.
      discriminator_loss: ``(params, objective_state, pairs, context) -> (loss, (objective_state, aux))``, a scalar, what the
        losses keep, and any arrays for ``finish``.
      generator_loss: ``(fake, discriminator_params, objective_state, latent, pairs, context) -> (loss, aux)``.
      finish: ``(objective_state, discriminator, generator) -> (objective_state, info)``, the latter two pairs of loss and aux.
      schedule: ``(hyper, step) -> Scheduled``.
      beta1: Adam's decay of the first moment.
      generator_rate: the generator's share of the learning rate.
      d_steps: discriminator steps for one of the generator, each on its share of the batch.
      reuse_fakes: whether the generator learns on the discriminator's fakes.
      n_classes: of a conditional system, else 0.
      project_gradients: ``(gradients, params) -> gradients`` of the discriminator, before its optimiser.
      project_params: ``params -> params`` of the discriminator, after its optimiser.
    """

    game: Game
    discriminator_loss: Callable[..., tuple[jax.Array, tuple[Any, Any]]]
    generator_loss: Callable[..., tuple[jax.Array, Any]]
    finish: Callable[..., tuple[Any, Any]]
    schedule: Callable[[Any, jax.Array], Scheduled]
    beta1: float
    generator_rate: float = 1.0
    d_steps: int = 1
    reuse_fakes: bool = False
    n_classes: int = 0
    project_gradients: Callable[[Any, Any], Any] = lambda gradients, params: gradients
    project_params: Callable[[Any], Any] = lambda params: params


def adam(rules: Rules, now: Scheduled, share: float = 1.0) -> optax.GradientTransformation:
    """Adam with this step's settings, which are traced values: it is made anew in every step."""
    return optax.adam(now.learning_rate * share, b1=rules.beta1, b2=now.beta2)


def discriminator_step(
    rules: Rules,
    state: GANState,
    now: Scheduled,
    carry: Carry,
    given: tuple[jax.Array, jax.Array, Batch],
    fake: Any = None,
) -> tuple[Carry, tuple[jax.Array, Any]]:
    """One step of the discriminator against the generator of ``state``: a scan body over shares of the batch.

    Args:
      rules: see :class:`Rules`.
      state: of the whole system, before the step.
      now: this step's settings.
      carry: the discriminator so far.
      given: a key, latents ``(n, d_latent)`` and the share of the batch, ``n`` examples.
      fake: ``(n, ...)`` in critic space, where they have been made already.

    Returns:
      The discriminator after the step; its loss and what the loss reports.
    """
    key, latent, (image, label) = given
    known = label if rules.n_classes else None
    if fake is None:
        fake = rules.game.generate(state.params.generator, state.pretrained, latent, known)
    pairs = Pairs(rules.game.to_critic_space(state.pretrained, image), fake, known)
    context = Context(state.hyper, now, state.pretrained, key)
    (loss, (objective, aux)), gradients = jax.value_and_grad(rules.discriminator_loss, has_aux=True)(
        carry.params, carry.objective, pairs, context
    )
    gradients = rules.project_gradients(gradients, carry.params)
    params, opt_state = apply_gradients(adam(rules, now), gradients, carry.opt_state, carry.params)
    return Carry(rules.project_params(params), opt_state, objective), (loss, aux)


def discriminator_steps(
    rules: Rules, state: GANState, now: Scheduled, keys: jax.Array, latents: jax.Array, batch: Batch, fake: Any
) -> tuple[Carry, tuple[jax.Array, Any]]:
    """All of the discriminator's steps on shares of the batch, and the means of what they report."""
    carry = Carry(state.params.discriminator, state.opt_state.discriminator, state.objective)
    m = rules.d_steps
    if m == 1:
        return discriminator_step(rules, state, now, carry, (keys[0], latents[0], batch), fake)
    shares = jax.tree.map(lambda x: x.reshape(m, x.shape[0] // m, *x.shape[1:]), batch)

    def body(carry: Carry, given: Any) -> tuple[Carry, Any]:
        return discriminator_step(rules, state, now, carry, given)

    carry, reports = jax.lax.scan(body, carry, (keys[:m], latents[:m], shares))
    return carry, jax.tree.map(lambda x: x.mean(axis=0), reports)


def generator_step(
    rules: Rules,
    state: GANState,
    now: Scheduled,
    discriminator: Carry,
    key: jax.Array,
    generated: "Generated",
    batch: Batch,
) -> tuple[Any, Any, tuple[jax.Array, Any]]:
    """One step of the generator against the updated discriminator.

    Args:
      rules: see :class:`Rules`.
      state: of the whole system, before the step.
      now: this step's settings.
      discriminator: after its steps.
      key: of the loss.
      generated: fakes, the latents they are from, and their way back to the parameters.
      batch: as many reals, with which they are paired.

    Returns:
      New parameters and optimiser state of the generator; its loss and what the loss reports.
    """
    real = rules.game.to_critic_space(state.pretrained, batch.image)
    pairs = Pairs(real, None, batch.label if rules.n_classes else None)
    context = Context(state.hyper, now, state.pretrained, key)
    report, image_grad = jax.value_and_grad(rules.generator_loss, has_aux=True)(
        generated.fake, discriminator.params, discriminator.objective, generated.latent, pairs, context
    )
    (gradients,) = generated.vjp(image_grad)
    optimiser = adam(rules, now, rules.generator_rate)
    params, opt_state = apply_gradients(optimiser, gradients, state.opt_state.generator, state.params.generator)
    return params, opt_state, report


class Generated(NamedTuple):
    """Fakes ``(n, ...)`` in critic space, their latents, and ``vjp(gradient of the fakes) -> (gradient of the params,)``."""

    fake: jax.Array
    latent: jax.Array
    vjp: Callable[[jax.Array], tuple[Any]]


def generate_vjp(rules: Rules, state: GANState, latent: jax.Array, label: jax.Array | None) -> Generated:
    """Fakes of the generator of ``state``, and the way back to its parameters."""

    def generate(params: Any) -> jax.Array:
        return rules.game.generate(params, state.pretrained, latent, label)

    fake, vjp = jax.vjp(generate, state.params.generator)
    return Generated(fake, latent, vjp)


def train_step(rules: Rules, state: GANState, batch: Batch) -> tuple[GANState, Any]:
    """``d_steps`` steps of the discriminator, one of the generator, and the averaged weights: a scan body.

    Args:
      rules: see :class:`Rules`.
      state: of one member.
      batch: images float32 in [0, 1]; ``d_steps`` divides their number.

    Returns:
      The new state, and what ``rules.finish`` reports.

    Raises:
      ValueError: images of an integer dtype.
    """
    check_unit(batch.image)
    discriminator_key, generator_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    now = rules.schedule(state.hyper, state.step)
    m = rules.d_steps
    n = batch.image.shape[0] // m
    keys = discriminator_key.reshape(1) if m == 1 else jax.random.split(discriminator_key, m)
    if not rules.reuse_fakes:
        keys = jnp.concatenate([keys, generator_key.reshape(1)])
    # All latents in one call: a generator of random numbers is a loop of small operations.
    latents = jax.vmap(lambda key: rules.game.latent(state.pretrained, key, n))(keys)
    first = Batch(batch.image[:n], batch.label[:n])
    generated = generate_vjp(rules, state, latents[-1], first.label if rules.n_classes else None)

    fake = generated.fake if rules.reuse_fakes else None
    discriminator, report_d = discriminator_steps(rules, state, now, keys, latents, batch, fake)
    generator, opt_state, report_g = generator_step(rules, state, now, discriminator, generator_key, generated, first)
    objective, info = rules.finish(discriminator.objective, report_d, report_g)
    state = replace(
        state,
        step=state.step + 1,
        params=Nets(generator, discriminator.params),
        opt_state=Nets(opt_state, discriminator.opt_state),
        ema=ema_update(state.ema, generator, decay=now.ema_decay),
        objective=objective,
        class_count=state.class_count.at[batch.label].add(1) if rules.n_classes else (),
    )
    return state, info


def init_state(
    rules: Rules, hyper: OptimiserHyper, init_objective: Callable[..., Any], key: jax.Array, pretrained: Any = None
) -> GANState:
    """The state before the first step; traceable.

    Args:
      rules: see :class:`Rules`.
      hyper: settings of this member.
      init_objective: ``init_objective(key, discriminator_params)``, what the losses keep.
      key: the run's key.
      pretrained: what the game reads and never changes; the state gets a copy, since its buffers may be donated.
    """
    params_key, run_key = jax.random.split(key)
    pretrained = () if pretrained is None else pretrained
    params = rules.game.init(params_key, pretrained)
    start = optax.adam(1.0)
    return GANState(
        step=jnp.zeros((), jnp.int32),
        key=run_key,
        params=params,
        opt_state=Nets(start.init(params.generator), start.init(params.discriminator)),
        # Copies: a state whose buffers are donated may not hold one array twice, nor one that the caller keeps.
        ema=jax.tree.map(jnp.copy, params.generator),
        hyper=jax.tree.map(jnp.copy, hyper),
        objective=init_objective(jax.random.fold_in(params_key, 1), params.discriminator),
        class_count=jnp.ones(rules.n_classes, jnp.int32) if rules.n_classes else (),
        pretrained=jax.tree.map(jnp.copy, pretrained),
    )


def sample(rules: Rules, state: GANState, key: jax.Array, n: int, *, label: jax.Array | None = None) -> jax.Array:
    """``n`` images in [0, 1] from the averaged weights.

    Args:
      rules: see :class:`Rules`.
      state: of one member.
      key: of latents and labels.
      n: static.
      label: ``(n,)`` int32, classes to draw (conditional systems); by default in the proportions of the reals seen.

    Returns:
      ``(n, height, width, channels)``.
    """
    game = rules.game
    latent = game.latent(state.pretrained, key, n)
    if rules.n_classes and label is None:
        logits = jnp.log(state.class_count.astype(jnp.float32))
        # Not 0 or 1: a latent's parts are drawn with split(key), whose keys are fold_in(key, 0) and fold_in(key, 1).
        label = jax.random.categorical(jax.random.fold_in(key, 2), logits, shape=(n,))
    drawn = game.generate(state.ema, state.pretrained, latent, label)
    return jnp.clip(game.to_image(state.pretrained, drawn), 0.0, 1.0)
