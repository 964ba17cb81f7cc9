"""Adversarial training: a generator against one or more critics, as pure functions over an immutable state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from saegan_jax import losses
from saegan_jax.algorithms.augment import Augmentation, diff_augment
from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.nets import Nets as Nets
from saegan_jax.algorithms.optimisers import apply_gradients, ema_update
from saegan_jax.errors import require, require_choice, require_non_negative, require_positive
from saegan_jax.images import to_signed, to_unit
from saegan_jax.networks.discriminators import DCGANDiscriminator, MLPDiscriminator, UnrolledDiscriminator
from saegan_jax.networks.generators import DCGANGenerator, MLPGenerator, UnrolledGenerator
from saegan_jax.networks.layers import ConvForm
from saegan_jax.networks.residual import ResidualDiscriminator, ResidualGenerator
from saegan_jax.networks.spectral import spectral_init, spectral_normalise

Network = Literal["mlp", "dcgan", "residual", "unrolled"]
LossName = Literal["relativistic", "non_saturating", "minimax", "least_squares", "hinge", "wasserstein"]
Precision = Literal["float32", "bfloat16"]
LOSSES: tuple[LossName, ...] = get_args(LossName)
LECAM_DECAY = 0.99  # of the running means of the logits, as in the authors' code


@dataclass(frozen=True, kw_only=True)
class GANConfig:
    """Settings of the generator, the discriminator and their training."""

    network: Network = "mlp"
    """Architecture of generator and image discriminator; unrolled is the tiny pair of the Unrolled GAN paper."""
    hidden: tuple[int, ...] = (256, 256)
    """Units of each hidden layer (mlp); empty for a single dense map."""
    d_hidden: tuple[int, ...] | None = None
    """The discriminator's, where they differ from the generator's (mlp)."""
    mix: int = 0
    """Units of the generator's first dense layer; 0 for 8 times its width (dcgan)."""
    scale: float = 1.0
    """For detail far finer than the range of the data: the discriminator reads images times this, and the generator's last
    layer is divided by it, so that an optimiser's step moves less (mlp)."""
    width: int = 32
    """Channels next to the image; inner layers have a multiple of it (dcgan, residual, unrolled)."""
    d_width: int = 0
    """The discriminator's width, where it differs from the generator's; 0 for the same."""
    head_hidden: tuple[int, ...] = ()
    """Units of dense layers between the discriminator's convolutions and its last layer (dcgan)."""
    stages: int = 2
    """Times the image is halved, so that its sides must be divisible by 2^stages (dcgan, residual)."""
    blocks: int = 1
    """Residual blocks at each size (residual)."""
    conv_form: ConvForm = "matrix"
    """Convolutions as matrix products, or XLA's native ones (dcgan, residual)."""
    precision: Precision = "float32"
    """Of what the networks compute; parameters, losses and optimiser stay float32. bfloat16 is for accelerators."""
    d_noise: int = 64
    """Dimensions of the generator's Gaussian noise."""
    conditional: bool = False
    """Generate by class: the generator reads the label beside the noise, the discriminator projects on it."""
    spectral_norm: bool = False
    """Divide every kernel of the discriminator by its largest singular value."""
    augment: tuple[Augmentation, ...] = ()
    """DiffAugment: what the discriminator sees of reals and fakes is changed at random, differentiably."""
    loss: LossName = "relativistic"
    """Adversarial loss; relativistic is RpGAN, each real logit paired with a fake one."""
    r1_gamma: float = 1.0
    """Weight gamma of gamma/2 R1, the squared gradient norm at reals; pixels in [-1, 1]."""
    r2_gamma: float = 1.0
    """Weight gamma of gamma/2 R2, the squared gradient norm at fakes; pixels in [-1, 1]."""
    final_gamma: float = 1.0
    """Share of both gammas reached at the end of the schedule."""
    gradient_penalty: float = 0.0
    """Weight of WGAN-GP's penalty between reals and fakes, usually 10."""
    dragan_penalty: float = 0.0
    """Weight of DRAGAN's penalty around reals, usually 10."""
    lecam: float = 0.0
    """Weight of LeCam's pull of the logits towards the other side's running mean."""
    learning_rate: float = 2e-4
    """Adam's step size for both networks."""
    final_learning_rate: float = 1.0
    """Share of learning_rate reached at the end of the schedule."""
    generator_rate: float = 1.0
    """The generator's share of the learning rate."""
    beta1: float = 0.0
    """Adam's decay of the first moment."""
    beta2: float = 0.99
    """Adam's decay of the second moment."""
    final_beta2: float | None = None
    """Beta2 at the end of the schedule; None keeps it constant."""
    ema_half_life: float = 8000.0
    """Half-life of the generator's averaged weights, in training images; 0 takes the last weights."""
    ema_burn_in: bool = False
    """Let the half-life grow from 0 along the schedule."""
    schedule_steps: int = 0
    """Steps of the cosine along which learning rate, gammas, beta2 and half-life move; constant after it; 0 for all steps."""
    d_steps: int = 1
    """Discriminator steps for one of the generator."""
    reuse_fakes: bool = False
    """Take the generator's step on the fakes that the discriminator has just learnt from, as DCGAN tutorials do, instead of
    fresh ones: one pass of the generator less. Needs d_steps 1."""
    batch_size: int = 64
    """Real images a step, shared equally by its discriminator steps; the generator makes as many as one share."""
    steps: int = 10000
    """Number of training steps."""

    def __post_init__(self) -> None:
        require_choice("network", self.network, get_args(Network))
        require_choice("loss", self.loss, LOSSES)
        require_choice("precision", self.precision, get_args(Precision))
        require_choice("conv_form", self.conv_form, ("matrix", "native"))
        for name, units in (
            ("hidden", self.hidden),
            ("d_hidden", self.d_hidden or ()),
            ("head_hidden", self.head_hidden),
        ):
            require(all(h > 0 for h in units), name, units, "every hidden layer needs at least one unit.")
        for change in self.augment:
            require_choice("augment", change, get_args(Augmentation))
        require_positive(
            scale=self.scale, width=self.width, stages=self.stages, blocks=self.blocks, d_noise=self.d_noise,
            learning_rate=self.learning_rate, generator_rate=self.generator_rate,
            d_steps=self.d_steps, batch_size=self.batch_size, steps=self.steps,
        )  # fmt: skip
        require_non_negative(
            d_width=self.d_width, mix=self.mix, r1_gamma=self.r1_gamma, r2_gamma=self.r2_gamma, final_gamma=self.final_gamma,
            gradient_penalty=self.gradient_penalty, dragan_penalty=self.dragan_penalty, lecam=self.lecam,
            ema_half_life=self.ema_half_life, schedule_steps=self.schedule_steps,
        )  # fmt: skip
        decays = {"beta1": self.beta1, "beta2": self.beta2}
        if self.final_beta2 is not None:
            decays["final_beta2"] = self.final_beta2
        for name, value in decays.items():
            require(0 <= value < 1, name, value, "it is a decay rate and must lie in [0, 1).")
        share = self.final_learning_rate
        require(0 <= share <= 1, "final_learning_rate", share, "it is a share of learning_rate, from 0 to 1.")
        require(
            self.batch_size % self.d_steps == 0,
            "batch_size",
            self.batch_size,
            f"it is shared equally by d_steps={self.d_steps} discriminator steps; use a multiple.",
        )
        require(
            not self.reuse_fakes or self.d_steps == 1,
            "reuse_fakes",
            self.reuse_fakes,
            f"with d_steps={self.d_steps} there is no one batch of fakes to reuse; use one discriminator step.",
        )

    @property
    def images_per_generator_step(self) -> int:
        """One share of the batch: what one discriminator step, and the generator's, are taken on."""
        return self.batch_size // self.d_steps


@flax.struct.dataclass
class GANHyper:
    """Settings that may differ between the members of one vmapped sweep: scalars, see :class:`GANConfig`."""

    learning_rate: jax.Array
    final_learning_rate: jax.Array
    r1_gamma: jax.Array
    r2_gamma: jax.Array
    final_gamma: jax.Array
    beta2: jax.Array
    final_beta2: jax.Array
    ema_half_life: jax.Array


def hyper(config: GANConfig) -> GANHyper:
    """Those of ``config``, as NumPy's: an algorithm is made without compiling anything or touching a device."""
    values = {f.name: getattr(config, f.name) for f in fields(GANHyper)}
    if values["final_beta2"] is None:
        values["final_beta2"] = config.beta2
    scalars: dict[str, Any] = {name: np.asarray(value, np.float32) for name, value in values.items()}
    return GANHyper(**scalars)


class Scheduled(NamedTuple):
    """The settings of one step: scalars."""

    learning_rate: jax.Array
    r1_gamma: jax.Array
    r2_gamma: jax.Array
    beta2: jax.Array
    ema_decay: jax.Array


def scheduled(config: GANConfig, own: GANHyper, step: jax.Array) -> Scheduled:
    """What ``step`` is taken with: each value moves from its first to its last along half a cosine, then stays.

    ``v(t) = v_0 + s (v_1 - v_0)``, ``s = (1 - cos(pi min(t / T, 1))) / 2``, T the ``schedule_steps``; the averaged weights
    decay by ``0.5 ** (images a generator step / half-life)``.

    Source: Huang et al., The GAN is dead; long live the GAN! A modern GAN baseline, 2024, appendix.
    """
    share = jnp.minimum(step.astype(jnp.float32) / (config.schedule_steps or config.steps), 1)
    s = 0.5 * (1 - jnp.cos(jnp.pi * share))
    gamma = 1 + s * (own.final_gamma - 1)
    half_life = own.ema_half_life * s if config.ema_burn_in else own.ema_half_life
    return Scheduled(
        learning_rate=own.learning_rate * (1 + s * (own.final_learning_rate - 1)),
        r1_gamma=own.r1_gamma * gamma,
        r2_gamma=own.r2_gamma * gamma,
        beta2=own.beta2 + s * (own.final_beta2 - own.beta2),
        ema_decay=jnp.exp2(
            jnp.divide(-config.images_per_generator_step, half_life)
        ),  # a half-life of 0 gives 2^-inf = 0
    )


class Game(NamedTuple):
    """The parts in which adversarial systems differ, as pure functions; images are in [-1, 1].

    ``label`` is ``(batch,)`` int32 where the system is conditional, else None.

    Attributes:
      init: ``init(key, context) -> Nets`` of parameters.
      latent: ``latent(context, key, n) -> (n, d_latent)``.
      generate: ``generate(generator_params, context, latent, label) -> images``.
      critics: named functions ``critic(discriminator_params, context, images, label) -> (batch,)`` logits; their losses and
        penalties are summed.
      generator_extra: ``generator_extra(context, latent, images) -> scalar`` added to the generator's loss, or None.
      observe: ``observe(context, images)``, where the game is not played in pixels: what the critics read of real images, of
        the kind and shape ``(batch, ...)`` that ``generate`` then makes.
      render: ``render(context, generated) -> images``, its way back, for samples; with ``observe``.
    """

    init: Callable[[jax.Array, Any], Nets]
    latent: Callable[[Any, jax.Array, int], jax.Array]
    generate: Callable[[Any, Any, jax.Array, jax.Array | None], jax.Array]
    critics: Mapping[str, Callable[[Any, Any, jax.Array, jax.Array | None], jax.Array]]
    generator_extra: Callable[[Any, jax.Array, jax.Array], jax.Array] | None = None
    observe: Callable[[Any, jax.Array], jax.Array] | None = None
    render: Callable[[Any, jax.Array], jax.Array] | None = None


@flax.struct.dataclass
class GANState:
    """Everything a resumed training needs.

    Attributes:
      step: int32 scalar, steps taken.
      key: the run's key; a step's randomness is ``fold_in(key, step)``.
      params: :class:`Nets` of parameters.
      opt_state: :class:`Nets` of optax states.
      ema: the generator's averaged parameters, those that samples are drawn with.
      hyper: settings that a sweep varies.
      spectral: leading singular vectors of the discriminator's kernels; ``()`` without spectral normalisation.
      logit_ema: running means ``(2,)`` of the real and fake logits of each critic; ``()`` without LeCam.
      class_count: ``(n_classes,)`` int32, reals of each class seen so far, from 1; ``()`` without classes.
      context: what the game reads and never changes (a frozen encoder, a fitted prior); ``()`` where there is none.
    """

    step: jax.Array
    key: jax.Array
    params: Nets
    opt_state: Nets
    ema: Any
    hyper: GANHyper
    spectral: Any
    logit_ema: Any
    class_count: Any
    context: Any


class GANInfo(NamedTuple):
    """Scalars of one step, batch means, summed over critics; R1 and R2 without their gamma/2, ``penalty`` with its weights.

    ``penalty`` is the sum of WGAN-GP's, DRAGAN's and LeCam's. ``accuracy`` is the share of pairs in which the critic (the
    mean over critics) scores the real above the fake: .5 where it cannot tell, 1 where it is sure of all.
    ``generator_extra`` is the game's own term (the alignment of a sparse prior), 0 where there is none.
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


def image_networks(config: GANConfig, image_shape: tuple[int, int, int], *, n_classes: int = 0) -> Nets:
    """The generator and the image discriminator that ``config`` describes, as Flax modules.

    Raises:
      ConfigError: an image size that the architecture cannot make.
    """
    d_width, form, stages = config.d_width or config.width, config.conv_form, config.stages
    if config.network == "mlp":
        return Nets(
            MLPGenerator(image_shape, config.hidden, config.scale),
            MLPDiscriminator(config.hidden if config.d_hidden is None else config.d_hidden, n_classes, config.scale),
        )
    if config.network == "unrolled":
        return Nets(UnrolledGenerator(image_shape, config.width), UnrolledDiscriminator(d_width, n_classes))
    height, width, _ = image_shape
    require(
        height % 2**stages == 0 and width % 2**stages == 0,
        "network",
        config.network,
        f"it halves the image {stages} times, and {height}x{width} is not divisible by {2**stages}; use fewer stages, "
        "network='mlp', or pad the images.",
    )
    if config.network == "dcgan":
        return Nets(
            DCGANGenerator(image_shape, config.width, form, stages, config.mix),
            DCGANDiscriminator(d_width, form, stages, n_classes, config.head_hidden),
        )
    return Nets(
        ResidualGenerator(image_shape, config.width, stages, config.blocks, conv_form=form),
        ResidualDiscriminator(d_width, stages, config.blocks, conv_form=form, n_classes=n_classes),
    )


def init_params(module: nn.Module, key: jax.Array, shape: tuple[int, ...], *, n_classes: int = 0) -> Any:
    """Parameters of ``module`` for an input of ``shape``, and a label where there are classes."""
    label = (jnp.zeros(shape[:1], jnp.int32),) if n_classes else ()
    return module.init(key, jnp.zeros(shape), *label)


def gaussian_latent(n_dims: int) -> Callable[[Any, jax.Array, int], jax.Array]:
    """``latent(context, key, n) -> (n, n_dims)`` standard normal."""
    return lambda context, key, n: jax.random.normal(key, (n, n_dims))


def applied(module: nn.Module, config: GANConfig) -> Callable[..., jax.Array]:
    """``module.apply`` computing in ``config.precision``: float32 in, float32 out, and float32 gradients of the parameters."""
    if config.precision == "float32":
        return module.apply  # type: ignore[return-value]

    def lower(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)

    def apply(params: Any, *inputs: jax.Array | None) -> jax.Array:
        out: jax.Array = module.apply(lower(params), *lower(inputs))  # type: ignore[assignment]
        return out.astype(jnp.float32)

    return apply


def generated(apply: Callable[..., jax.Array], *, n_classes: int) -> Callable[..., jax.Array]:
    """``generate(params, context, latent, label)``: the label as one-hot beside the latent; the first layer embeds it."""

    def generate(params: Any, context: Any, latent: jax.Array, label: jax.Array | None) -> jax.Array:
        if label is not None:
            latent = jnp.concatenate([latent, jax.nn.one_hot(label, n_classes, dtype=latent.dtype)], axis=-1)
        return apply(params, latent)

    return generate


def adversarial(
    config: GANConfig, game: Game, *, context: Any = (), n_classes: int = 0, member: GANHyper | None = None
) -> Algorithm:
    """Train ``game`` with the losses, penalties and optimisers of ``config``.

    Discriminator, ``d_steps`` times, summed over critics: ``mean_n L_D(D(x_n), D(G(z_n))) + gamma_1/2 mean R1 + gamma_2/2
    mean R2`` and the other penalties. Generator, once, against the updated critics and with fresh latents (or with
    ``reuse_fakes`` the same): ``mean_n L_G + extra``. A conditional fake has the class of the real it is paired with.

    Args:
      config: see :class:`GANConfig`.
      game: see :class:`Game`.
      context: frozen pytree kept in the state; ``step`` and ``sample`` read the state's copy, so that an ensemble may hold
        another one in every member.
      n_classes: of the data; needed where ``config.conditional``, else unused.
      member: this member's own settings; by default those of ``config``. R1 and R2 are computed where ``config`` has them.

    Returns:
      An :class:`Algorithm` on images in [0, 1]. ``sample(state, key, n, label=None)`` of a conditional one draws the labels
      in the proportions of the reals seen, or makes those given, ``(n,)`` int32.

    Raises:
      ConfigError: conditional without classes.

    Source: Goodfellow et al., "Generative adversarial networks" (2014); Huang et al., "The GAN is dead; long live the GAN!
    A modern GAN baseline" (2024), eq. 2 and section 2, for the relativistic loss with R1 and R2.
    """
    discriminator_loss = getattr(losses, f"{config.loss}_discriminator_loss")
    generator_loss = getattr(losses, f"{config.loss}_generator_loss")
    n_classes = known_classes(config, n_classes)
    own = hyper(config) if member is None else member
    names = tuple(game.critics)
    require(
        not config.augment or game.observe is None,
        "augment",
        config.augment,
        "it changes images, and this game is not played in pixels; leave it empty.",
    )

    def observed(context: Any, image: jax.Array) -> jax.Array:
        return to_signed(image) if game.observe is None else game.observe(context, to_signed(image))

    def optimiser(now: Scheduled, share: float = 1.0) -> optax.GradientTransformation:
        # Made in the step, where its settings are values of the state.
        return optax.adam(now.learning_rate * share, b1=config.beta1, b2=now.beta2)

    def init(key: jax.Array) -> GANState:
        params_key, run_key = jax.random.split(key)
        params = game.init(params_key, context)
        start = optax.adam(config.learning_rate)
        return GANState(
            step=jnp.zeros((), jnp.int32),
            key=run_key,
            params=params,
            opt_state=Nets(start.init(params.generator), start.init(params.discriminator)),
            # Copies: a state whose buffers are donated may not hold one array twice, nor one that the caller keeps.
            ema=jax.tree.map(jnp.copy, params.generator),
            hyper=jax.tree.map(jnp.copy, own),
            spectral=spectral_init(params.discriminator, jax.random.fold_in(params_key, 1))
            if config.spectral_norm
            else (),
            logit_ema={name: jnp.zeros(2) for name in names} if config.lecam else (),
            class_count=jnp.ones(n_classes, jnp.int32) if n_classes else (),
            context=jax.tree.map(jnp.copy, context),
        )

    def normalised(params: Any, vectors: Any) -> tuple[Any, Any]:
        return spectral_normalise(params, vectors) if config.spectral_norm else (params, vectors)

    def critic_loss(
        params: Any, critic_state: _CriticState, now: Scheduled, context: Any, key: jax.Array, batch: _Pairs
    ) -> tuple[jax.Array, tuple[Any, ...]]:
        n = batch.real.shape[0]
        params, vectors = normalised(params, critic_state.spectral)
        keys = jax.random.split(jax.random.fold_in(key, 1), 4)
        real = diff_augment(keys[0], batch.real, policy=config.augment)
        fake = diff_augment(keys[1], batch.fake, policy=config.augment)
        both = jnp.concatenate([real, fake])
        label = batch.label
        labels = None if label is None else jnp.concatenate([label, label])
        total, real_mean, fake_mean, r1, r2, other, accuracy = (jnp.zeros(()) for _ in range(7))
        means = {}
        for name, critic in game.critics.items():

            def logits_of(x: jax.Array, critic: Any = critic, label: jax.Array | None = labels) -> jax.Array:
                return critic(params, context, x, label)

            if config.r1_gamma or config.r2_gamma:
                # Reals and fakes in one pass, the penalties from the same forward pass as the logits.
                logits, norms = losses.logits_and_gradient_norm(logits_of, both)
                critic_r1, critic_r2 = norms[:n].mean(), norms[n:].mean()
                r1, r2 = r1 + critic_r1, r2 + critic_r2
                total += 0.5 * (now.r1_gamma * critic_r1 + now.r2_gamma * critic_r2)
            else:
                logits = logits_of(both)
            one_label = partial(logits_of, label=label)
            if config.gradient_penalty:
                other += config.gradient_penalty * losses.gradient_penalty(one_label, real, fake, keys[2]).mean()
            if config.dragan_penalty:
                other += config.dragan_penalty * losses.dragan_penalty(one_label, real, keys[3]).mean()
            real_logits, fake_logits = logits[:n], logits[n:]
            if config.lecam:
                before = critic_state.logit_ema[name]
                other += config.lecam * losses.lecam(real_logits, fake_logits, before[0], before[1]).mean()
                now_means = jax.lax.stop_gradient(jnp.stack([real_logits.mean(), fake_logits.mean()]))
                means[name] = LECAM_DECAY * before + (1 - LECAM_DECAY) * now_means
            total += discriminator_loss(real_logits, fake_logits).mean()
            real_mean, fake_mean = real_mean + real_logits.mean(), fake_mean + fake_logits.mean()
            accuracy += (real_logits > fake_logits).astype(jnp.float32).mean() / len(names)
        kept = _CriticState(spectral=vectors, logit_ema=means if config.lecam else ())
        return total + other, (kept, (real_mean, fake_mean, r1, r2, other, accuracy))

    def maker_loss(
        fake: jax.Array, discriminator: Any, state: GANState, key: jax.Array, batch: _Pairs, latent: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(jax.random.fold_in(key, 1))
        seen = diff_augment(keys[1], fake, policy=config.augment)
        total = jnp.zeros(())
        for critic in game.critics.values():
            fake_logits = critic(discriminator, state.context, seen, batch.label)
            if config.loss == "relativistic":
                real = diff_augment(keys[0], batch.real, policy=config.augment)
                total += generator_loss(critic(discriminator, state.context, real, batch.label), fake_logits).mean()
            else:
                total += generator_loss(fake_logits).mean()
        extra = jnp.zeros(()) if game.generator_extra is None else game.generator_extra(state.context, latent, fake)
        return total + extra, extra

    def step(state: GANState, batch: Batch) -> tuple[GANState, GANInfo]:
        critic_key, maker_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        now = scheduled(config, state.hyper, state.step)
        n, m = batch.image.shape[0] // config.d_steps, config.d_steps
        keys = critic_key.reshape(1) if m == 1 else jax.random.split(critic_key, m)
        if not config.reuse_fakes:
            keys = jnp.concatenate([keys, maker_key.reshape(1)])
        # All at once: a generator of random numbers is a loop of small operations.
        latents = jax.vmap(lambda key: game.latent(state.context, key, n))(keys)

        def made(latent: jax.Array, label: jax.Array) -> tuple[jax.Array, Callable[..., Any]]:
            own = label if n_classes else None
            return jax.vjp(lambda params: game.generate(params, state.context, latent, own), state.params.generator)

        def critic_step(carry: Any, given: tuple[jax.Array, jax.Array, Batch], fake: Any = None) -> tuple[Any, Any]:
            discriminator, opt_d, critic_state = carry
            key, latent, (image, label) = given
            fake = made(latent, label)[0] if fake is None else fake
            pairs = _Pairs(observed(state.context, image), fake, label if n_classes else None)
            (loss, (critic_state, scalars)), gradients = jax.value_and_grad(critic_loss, has_aux=True)(
                discriminator, critic_state, now, state.context, key, pairs
            )
            discriminator, opt_d = apply_gradients(optimiser(now), gradients, opt_d, discriminator)
            return (discriminator, opt_d, critic_state), (loss, *scalars)

        carry = (
            state.params.discriminator, state.opt_state.discriminator, _CriticState(state.spectral, state.logit_ema)
        )  # fmt: skip
        fake, pull = made(latents[-1], batch.label[:n])
        if m == 1:
            fakes = fake if config.reuse_fakes else None
            carry, scalars = critic_step(carry, (critic_key, latents[0], batch), fakes)
        else:
            shares = jax.tree.map(lambda x: x.reshape(m, n, *x.shape[1:]), batch)
            carry, scalars = jax.lax.scan(critic_step, carry, (keys[:m], latents[:m], shares))
            scalars = jax.tree.map(lambda x: x.mean(axis=0), scalars)
        discriminator, opt_d, kept = carry
        loss_d, real_mean, fake_mean, r1, r2, other, accuracy = scalars

        pairs = _Pairs(observed(state.context, batch.image[:n]), None, batch.label[:n] if n_classes else None)
        (loss_g, extra), slope = jax.value_and_grad(maker_loss, has_aux=True)(
            fake, normalised(discriminator, kept.spectral)[0], state, maker_key, pairs, latents[-1]
        )
        (gradients,) = pull(slope)
        generator, opt_g = apply_gradients(
            optimiser(now, config.generator_rate), gradients, state.opt_state.generator, state.params.generator
        )
        state = replace(
            state,
            step=state.step + 1,
            params=Nets(generator, discriminator),
            opt_state=Nets(opt_g, opt_d),
            ema=ema_update(state.ema, generator, decay=now.ema_decay),
            spectral=kept.spectral,
            logit_ema=kept.logit_ema,
            class_count=state.class_count.at[batch.label].add(1) if n_classes else (),
        )
        return state, GANInfo(loss_d, loss_g, real_mean, fake_mean, r1, r2, other, accuracy, extra)

    def sample(state: GANState, key: jax.Array, n: int, label: jax.Array | None = None) -> jax.Array:
        latent = game.latent(state.context, key, n)
        if n_classes and label is None:
            logits = jnp.log(state.class_count.astype(jnp.float32))
            # Not 0 or 1: a latent's parts are drawn with split(key), whose keys are fold_in(key, 0) and fold_in(key, 1).
            label = jax.random.categorical(jax.random.fold_in(key, 2), logits, shape=(n,))
        drawn = game.generate(state.ema, state.context, latent, label)
        if game.render is not None:
            drawn = game.render(state.context, drawn)
        return jnp.clip(to_unit(drawn), 0.0, 1.0)

    return Algorithm(init, step, sample)


class _CriticState(NamedTuple):
    """What a discriminator step keeps beside parameters and optimiser."""

    spectral: Any
    logit_ema: Any


class _Pairs(NamedTuple):
    """Reals, the fakes they are paired with, and the class of both."""

    real: jax.Array
    fake: Any
    label: jax.Array | None


def known_classes(config: GANConfig, n_classes: int) -> int:
    """Classes that the system knows: ``n_classes`` of the data where it is conditional, else 0.

    Raises:
      ConfigError: conditional without classes.
    """
    if not config.conditional:
        return 0
    require(
        n_classes > 0, "conditional", config.conditional, "the data has no classes; pass n_classes, or turn it off."
    )
    return n_classes


def gan(
    config: GANConfig, *, image_shape: tuple[int, int, int], n_classes: int = 0, member: GANHyper | None = None
) -> Algorithm:
    """The plain GAN: Gaussian noise in, one critic on pixels; see :func:`adversarial`."""
    known = known_classes(config, n_classes)
    nets = image_networks(config, image_shape, n_classes=known)

    discriminator = applied(nets.discriminator, config)

    def init(key: jax.Array, context: Any) -> Nets:
        generator_key, discriminator_key = jax.random.split(key)
        return Nets(
            init_params(nets.generator, generator_key, (1, config.d_noise + known)),
            init_params(nets.discriminator, discriminator_key, (1, *image_shape), n_classes=known),
        )

    game = Game(
        init=init,
        latent=gaussian_latent(config.d_noise),
        generate=generated(applied(nets.generator, config), n_classes=known),
        critics={"pixels": lambda params, context, images, label: discriminator(params, images, label)},
    )
    return adversarial(config, game, n_classes=n_classes, member=member)
