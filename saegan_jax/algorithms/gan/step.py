"""One training step of a generator against a discriminator: the discriminator's steps first, then the generator's."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from saegan_jax.algorithms.base import Batch
from saegan_jax.algorithms.ema import ema_update
from saegan_jax.algorithms.gan.hidden import Penalised
from saegan_jax.algorithms.gan.parts import Condition, Game
from saegan_jax.algorithms.gan.schedule import OptimiserHyper, Scheduled
from saegan_jax.algorithms.gan.state import GANState
from saegan_jax.algorithms.nets import Nets
from saegan_jax.algorithms.optimisers import apply_gradients
from saegan_jax.images import check_unit


class Pairs(NamedTuple):
    """Reals ``(batch, ...)`` in critic space, the fakes they are paired with (None in the generator's step, which makes
    them), and what critics are given beside each."""

    real: jax.Array
    fake: Any
    real_condition: Condition
    fake_condition: Condition


class Share(NamedTuple):
    """What one network takes a step on.

    Attributes:
      key: of its loss.
      latent: ``(n, d_latent)``, of the fakes.
      batch: ``n`` examples.
      real_code, fake_code: ``(n, d_code)``, codes of the reals and those that the fakes are made from; None where critics
        read none.
    """

    key: jax.Array
    latent: jax.Array
    batch: Batch
    real_code: jax.Array | None
    fake_code: jax.Array | None

    def label(self, rules: "Rules") -> jax.Array | None:
        """The classes, of a conditional system."""
        return self.batch.label if rules.n_classes else None

    def pairs(self, rules: "Rules", state: GANState, fake: Any) -> Pairs:
        """The reals beside ``fake``."""
        label = self.label(rules)
        real = rules.game.to_critic_space(state.pretrained, self.batch.image)
        return Pairs(real, fake, Condition(label, self.real_code), Condition(label, self.fake_code))


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
      hidden_penalty: see :func:`saegan_jax.algorithms.gan.hidden.with_hidden_penalty`; None where there is none.
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
    hidden_penalty: Callable[[Callable[[], jax.Array]], Penalised] | None = None
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
    share: Share,
    fake: Any = None,
) -> tuple[Carry, tuple[jax.Array, Any]]:
    """One step of the discriminator against the generator of ``state``: a scan body over shares of the batch.

    Args:
      rules: see :class:`Rules`.
      state: of the whole system, before the step.
      now: this step's settings.
      carry: the discriminator so far.
      share: of the batch.
      fake: ``(n, ...)`` in critic space, where they have been made already.

    Returns:
      The discriminator after the step; its loss and what the loss reports.
    """
    if fake is None:
        fake = rules.game.generate(state.params.generator, state.pretrained, share.latent, share.label(rules))
    pairs = share.pairs(rules, state, fake)
    context = Context(state.hyper, now, state.pretrained, share.key)
    (loss, (objective, aux)), gradients = jax.value_and_grad(rules.discriminator_loss, has_aux=True)(
        carry.params, carry.objective, pairs, context
    )
    gradients = rules.project_gradients(gradients, carry.params)
    params, opt_state = apply_gradients(adam(rules, now), gradients, carry.opt_state, carry.params)
    return Carry(rules.project_params(params), opt_state, objective), (loss, aux)


def discriminator_steps(
    rules: Rules, state: GANState, now: Scheduled, shares: Share, fake: Any
) -> tuple[Carry, tuple[jax.Array, Any]]:
    """All of the discriminator's steps, one on each of ``shares``, and the means of what they report."""
    carry = Carry(state.params.discriminator, state.opt_state.discriminator, state.objective)
    if rules.d_steps == 1:
        return discriminator_step(rules, state, now, carry, jax.tree.map(lambda x: x[0], shares), fake)

    def body(carry: Carry, share: Share) -> tuple[Carry, Any]:
        return discriminator_step(rules, state, now, carry, share)

    carry, reports = jax.lax.scan(body, carry, shares)
    return carry, jax.tree.map(lambda x: x.mean(axis=0), reports)


def generator_step(
    rules: Rules,
    state: GANState,
    now: Scheduled,
    discriminator: Carry,
    share: Share,
    generated: "Generated",
) -> tuple[Any, Any, tuple[jax.Array, Any]]:
    """One step of the generator against the updated discriminator.

    Args:
      rules: see :class:`Rules`.
      state: of the whole system, before the step.
      now: this step's settings.
      discriminator: after its steps.
      share: of the batch: its latents are those of ``generated``.
      generated: fakes, and their way back to the parameters.

    Returns:
      New parameters and optimiser state of the generator; its loss and what the loss reports.
    """
    pairs = share.pairs(rules, state, None)
    context = Context(state.hyper, now, state.pretrained, share.key)
    report, image_grad = jax.value_and_grad(rules.generator_loss, has_aux=True)(
        generated.fake, discriminator.params, discriminator.objective, share.latent, pairs, context
    )
    (gradients,) = generated.vjp(image_grad)
    optimiser = adam(rules, now, rules.generator_rate)
    params, opt_state = apply_gradients(optimiser, gradients, state.opt_state.generator, state.params.generator)
    if generated.penalty is not None:
        report = jax.tree.map(lambda term: term + generated.penalty, report)
    return params, opt_state, report


class Generated(NamedTuple):
    """Fakes ``(n, ...)`` in critic space, and ``vjp(gradient of the fakes) -> (gradient of the params,)``.

    The gradient includes that of ``penalty``, the weighed penalty on hidden activations, where there is one.
    """

    fake: jax.Array
    vjp: Callable[[jax.Array], tuple[Any]]
    penalty: jax.Array | None = None


def generate_vjp(rules: Rules, state: GANState, share: Share) -> Generated:
    """Fakes of the generator of ``state``, and the way back to its parameters."""

    def generate(params: Any) -> jax.Array:
        return rules.game.generate(params, state.pretrained, share.latent, share.label(rules))

    if rules.hidden_penalty is None:
        fake, vjp = jax.vjp(generate, state.params.generator)
        return Generated(fake, vjp)
    penalise = rules.hidden_penalty
    (fake, penalty), vjp = jax.vjp(lambda params: penalise(lambda: generate(params)), state.params.generator)
    return Generated(fake, lambda gradient: vjp(Penalised(gradient, jnp.ones_like(penalty))), penalty)


def shares_of(
    rules: Rules, state: GANState, discriminator_key: jax.Array, generator_key: jax.Array, batch: Batch
) -> tuple[Share, Share]:
    """What the discriminator's steps are taken on, each leaf ``(d_steps, ...)``, and what the generator's is."""
    game, m = rules.game, rules.d_steps
    n = batch.image.shape[0] // m
    keys = discriminator_key.reshape(1) if m == 1 else jax.random.split(discriminator_key, m)
    if not rules.reuse_fakes:
        keys = jnp.concatenate([keys, generator_key.reshape(1)])
    batches = jax.tree.map(lambda x: x.reshape(m, n, *x.shape[1:]), batch)
    real_codes = fake_codes = None
    # All latents in one call: a generator of random numbers is a loop of small operations.
    if game.real_codes is None:
        latents = jax.vmap(lambda key: game.latent(state.pretrained, key, n))(keys)
    else:
        assert game.latent_of is not None
        # Not 0 or 1: a latent's parts are drawn with split(key), whose keys are fold_in(key, 0) and fold_in(key, 1).
        codes = game.real_codes(state.pretrained, jax.random.fold_in(generator_key, 2), batch.image)
        real_codes, fake_codes = jax.vmap(game.pair_codes)(codes.reshape(m, n, *codes.shape[1:]))
        given = fake_codes if rules.reuse_fakes else jnp.concatenate([fake_codes, fake_codes[:1]])
        latents = jax.vmap(game.latent_of, in_axes=(None, 0, 0))(state.pretrained, keys, given)
    shares = Share(keys[:m], latents[:m], batches, real_codes, fake_codes)
    first = jax.tree.map(lambda x: x[0], shares)
    return shares, first._replace(key=generator_key, latent=latents[-1])


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
    shares, share = shares_of(rules, state, discriminator_key, generator_key, batch)
    generated = generate_vjp(rules, state, share)

    fake = generated.fake if rules.reuse_fakes else None
    discriminator, report_d = discriminator_steps(rules, state, now, shares, fake)
    generator, opt_state, report_g = generator_step(rules, state, now, discriminator, share, generated)
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


def sample(
    rules: Rules,
    state: GANState,
    key: jax.Array,
    n: int,
    *,
    label: jax.Array | None = None,
    code: jax.Array | None = None,
) -> jax.Array:
    """``n`` images in [0, 1] from the averaged weights.

    Args:
      rules: see :class:`Rules`.
      state: of one member.
      key: of latents and labels.
      n: static.
      label: ``(n,)`` int32, classes to draw (conditional systems); by default in the proportions of the reals seen.
      code: ``(n, d_code)`` float32, codes to draw images of, as the autoencoder makes them (systems whose generator reads
        codes); by default drawn from the prior.

    Returns:
      ``(n, height, width, channels)``.

    Raises:
      ValueError: codes for a generator that reads none.
    """
    game = rules.game
    if code is None:
        latent = game.latent(state.pretrained, key, n)
    elif game.latent_of is None:
        raise ValueError("this generator reads no codes: train with generator_input='sparse', or leave code out.")
    else:
        latent = game.latent_of(state.pretrained, key, code)
    if rules.n_classes and label is None:
        logits = jnp.log(state.class_count.astype(jnp.float32))
        # Not 0 or 1: a latent's parts are drawn with split(key), whose keys are fold_in(key, 0) and fold_in(key, 1).
        label = jax.random.categorical(jax.random.fold_in(key, 2), logits, shape=(n,))
    drawn = game.generate(state.ema, state.pretrained, latent, label)
    return jnp.clip(game.to_image(state.pretrained, drawn), 0.0, 1.0)
