"""Adversarial training: a generator against one or more critics, as pure functions over an immutable state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from saegan_jax import losses
from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.optimisers import apply_gradients, ema_update
from saegan_jax.errors import require, require_choice, require_non_negative, require_positive
from saegan_jax.networks.discriminators import DCGANDiscriminator, MLPDiscriminator
from saegan_jax.networks.generators import DCGANGenerator, MLPGenerator
from saegan_jax.networks.layers import ConvForm

LossName = Literal["relativistic", "non_saturating", "minimax", "least_squares", "hinge", "wasserstein"]
LOSSES: tuple[LossName, ...] = (
    "relativistic",
    "non_saturating",
    "minimax",
    "least_squares",
    "hinge",
    "wasserstein",
)


@dataclass(frozen=True, kw_only=True)
class GANConfig:
    """Settings of the generator, the discriminator and their training."""

    network: Literal["mlp", "dcgan"] = "mlp"
    """Architecture of generator and image discriminator."""
    hidden: tuple[int, ...] = (256, 256)
    """Units of each hidden layer (mlp); empty for a single dense map."""
    width: int = 32
    """Channels next to the image; inner layers have a multiple of it (dcgan)."""
    conv_form: ConvForm = "matrix"
    """Strided convolutions as one matrix product, or XLA's native ones (dcgan)."""
    d_noise: int = 64
    """Dimensions of the generator's Gaussian noise."""
    loss: LossName = "relativistic"
    """Adversarial loss; relativistic is RpGAN, each real logit paired with a fake one."""
    r1_gamma: float = 1.0
    """Weight gamma of gamma/2 R1, the squared gradient norm at reals; pixels in [-1, 1]."""
    r2_gamma: float = 1.0
    """Weight gamma of gamma/2 R2, the squared gradient norm at fakes; pixels in [-1, 1]."""
    learning_rate: float = 2e-4
    """Adam's step size for both networks."""
    final_learning_rate: float = 1.0
    """Share of learning_rate reached at the last step along a cosine; 1 keeps it constant."""
    beta1: float = 0.0
    """Adam's decay of the first moment."""
    beta2: float = 0.99
    """Adam's decay of the second moment."""
    ema_half_life: float = 8000.0
    """Half-life of the generator's averaged weights, in training images; 0 takes the last weights."""
    batch_size: int = 64
    """Real images a step."""
    steps: int = 10000
    """Number of training steps."""

    def __post_init__(self) -> None:
        require_choice("network", self.network, ("mlp", "dcgan"))
        require_choice("loss", self.loss, LOSSES)
        require_choice("conv_form", self.conv_form, ("matrix", "native"))
        require(all(h > 0 for h in self.hidden), "hidden", self.hidden, "every hidden layer needs at least one unit.")
        require_positive(width=self.width, d_noise=self.d_noise, learning_rate=self.learning_rate)
        require_positive(batch_size=self.batch_size, steps=self.steps)
        require_non_negative(r1_gamma=self.r1_gamma, r2_gamma=self.r2_gamma, ema_half_life=self.ema_half_life)
        for name, value in (("beta1", self.beta1), ("beta2", self.beta2)):
            require(0 <= value < 1, name, value, "it is a decay rate and must lie in [0, 1).")
        share = self.final_learning_rate
        require(0 <= share <= 1, "final_learning_rate", share, "it is a share of learning_rate, from 0 to 1.")

    @property
    def ema_decay(self) -> float:
        """Decay a step: a half to the power of batch_size / ema_half_life."""
        return 0.5 ** (self.batch_size / self.ema_half_life) if self.ema_half_life else 0.0


class Nets(NamedTuple):
    """One value for each of the two networks: parameters, optimisers, or optimiser states."""

    generator: Any
    discriminator: Any


class Game(NamedTuple):
    """The parts in which adversarial systems differ, as pure functions; images are in [-1, 1].

    Attributes:
      init: ``init(key, context) -> Nets`` of parameters.
      latent: ``latent(context, key, n) -> (n, d_latent)``.
      generate: ``generate(generator_params, latent) -> images``.
      critics: named functions ``critic(discriminator_params, context, images) -> (batch,)`` logits; their losses and
        penalties are summed.
      generator_extra: ``generator_extra(context, latent, images) -> scalar`` added to the generator's loss, or None.
    """

    init: Callable[[jax.Array, Any], Nets]
    latent: Callable[[Any, jax.Array, int], jax.Array]
    generate: Callable[[Any, jax.Array], jax.Array]
    critics: Mapping[str, Callable[[Any, Any, jax.Array], jax.Array]]
    generator_extra: Callable[[Any, jax.Array, jax.Array], jax.Array] | None = None


@flax.struct.dataclass
class GANState:
    """Everything a resumed training needs.

    Attributes:
      step: int32 scalar, steps taken.
      key: the run's key; a step's randomness is ``fold_in(key, step)``.
      params: :class:`Nets` of parameters.
      opt_state: :class:`Nets` of optax states.
      ema: the generator's averaged parameters, those that samples are drawn with.
      context: what the game reads and never changes (a frozen encoder, a fitted prior); ``()`` where there is none.
    """

    step: jax.Array
    key: jax.Array
    params: Nets
    opt_state: Nets
    ema: Any
    context: Any


class GANInfo(NamedTuple):
    """Scalars of one step, batch means, summed over critics; penalties without their gamma/2.

    ``generator_extra`` is the game's own term (the alignment of a sparse prior), 0 where there is none.
    """

    discriminator_loss: jax.Array
    generator_loss: jax.Array
    real_logits: jax.Array
    fake_logits: jax.Array
    r1: jax.Array
    r2: jax.Array
    generator_extra: jax.Array


def to_signed(images: jax.Array) -> jax.Array:
    """[0, 1] to [-1, 1], the range that generators draw in and critics read."""
    return 2 * images - 1


def to_unit(images: jax.Array) -> jax.Array:
    """[-1, 1] to [0, 1]."""
    return (images + 1) / 2


def image_networks(config: GANConfig, image_shape: tuple[int, int, int]) -> Nets:
    """The generator and the image discriminator that ``config`` describes, as Flax modules.

    Raises:
      ConfigError: an image size that the architecture cannot make.
    """
    if config.network == "mlp":
        return Nets(MLPGenerator(image_shape, config.hidden), MLPDiscriminator(config.hidden))
    height, width, _ = image_shape
    require(
        height % 4 == 0 and width % 4 == 0,
        "network",
        config.network,
        f"it halves the image twice, and {height}x{width} is not divisible by 4; use network='mlp' or pad the images.",
    )
    return Nets(
        DCGANGenerator(image_shape, config.width, config.conv_form), DCGANDiscriminator(config.width, config.conv_form)
    )


def init_params(module: nn.Module, key: jax.Array, shape: tuple[int, ...]) -> Any:
    """Parameters of ``module`` for an input of ``shape``."""
    return module.init(key, jnp.zeros(shape))


def gaussian_latent(n_dims: int) -> Callable[[Any, jax.Array, int], jax.Array]:
    """``latent(context, key, n) -> (n, n_dims)`` standard normal."""
    return lambda context, key, n: jax.random.normal(key, (n, n_dims))


def adversarial(config: GANConfig, game: Game, *, context: Any = ()) -> Algorithm:
    """Train ``game`` with the losses, penalties and optimisers of ``config``.

    Discriminator, once a step, summed over critics: ``mean_n L_D(D(x_n), D(G(z_n))) + gamma_1/2 mean R1 + gamma_2/2 mean
    R2``. Generator, once a step, against the updated critics and with fresh latents: ``mean_n L_G + extra``.

    Args:
      config: see :class:`GANConfig`.
      game: see :class:`Game`.
      context: frozen pytree kept in the state; ``step`` and ``sample`` read the state's copy, so that an ensemble may hold
        another one in every member.

    Returns:
      An :class:`Algorithm` on images in [0, 1].

    Source: Goodfellow et al., "Generative adversarial networks" (2014); Huang et al., "The GAN is dead; long live the GAN!
    A modern GAN baseline" (2024), eq. 2 and section 2, for the relativistic loss with R1 and R2.
    """
    discriminator_loss = getattr(losses, f"{config.loss}_discriminator_loss")
    generator_loss = getattr(losses, f"{config.loss}_generator_loss")
    rate: Any = config.learning_rate
    if config.final_learning_rate < 1:
        rate = optax.cosine_decay_schedule(rate, config.steps, alpha=config.final_learning_rate)
    optimiser = optax.adam(rate, b1=config.beta1, b2=config.beta2)

    def init(key: jax.Array) -> GANState:
        params_key, run_key = jax.random.split(key)
        params = game.init(params_key, context)
        return GANState(
            step=jnp.zeros((), jnp.int32),
            key=run_key,
            params=params,
            opt_state=Nets(optimiser.init(params.generator), optimiser.init(params.discriminator)),
            # Copies: a state whose buffers are donated may not hold one array twice, nor one that the caller keeps.
            ema=jax.tree.map(jnp.copy, params.generator),
            context=jax.tree.map(jnp.copy, context),
        )

    def critic_loss(
        params: Any, state: GANState, real: jax.Array, fake: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        n = real.shape[0]
        total, real_mean, fake_mean, r1, r2 = (jnp.zeros(()) for _ in range(5))
        for critic in game.critics.values():

            def logits_of(x: jax.Array, critic: Any = critic) -> jax.Array:
                return critic(params, state.context, x)

            if config.r1_gamma or config.r2_gamma:
                # Reals and fakes in one pass, the penalties from the same forward pass as the logits.
                logits, norms = losses.logits_and_gradient_norm(logits_of, jnp.concatenate([real, fake]))
                critic_r1, critic_r2 = norms[:n].mean(), norms[n:].mean()
                r1, r2 = r1 + critic_r1, r2 + critic_r2
                total += 0.5 * (config.r1_gamma * critic_r1 + config.r2_gamma * critic_r2)
            else:
                logits = logits_of(jnp.concatenate([real, fake]))
            real_logits, fake_logits = logits[:n], logits[n:]
            total += discriminator_loss(real_logits, fake_logits).mean()
            real_mean, fake_mean = real_mean + real_logits.mean(), fake_mean + fake_logits.mean()
        return total, (real_mean, fake_mean, r1, r2)

    def maker_loss(
        params: Any, discriminator: Any, state: GANState, real: jax.Array, latent: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        fake = game.generate(params, latent)
        total = jnp.zeros(())
        for critic in game.critics.values():
            fake_logits = critic(discriminator, state.context, fake)
            if config.loss == "relativistic":
                total += generator_loss(critic(discriminator, state.context, real), fake_logits).mean()
            else:
                total += generator_loss(fake_logits).mean()
        extra = jnp.zeros(()) if game.generator_extra is None else game.generator_extra(state.context, latent, fake)
        return total + extra, extra

    def step(state: GANState, batch: Batch) -> tuple[GANState, GANInfo]:
        critic_key, maker_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        real = to_signed(batch.image)
        n = real.shape[0]
        fake = game.generate(state.params.generator, game.latent(state.context, critic_key, n))
        (loss_d, (real_mean, fake_mean, r1, r2)), gradients = jax.value_and_grad(critic_loss, has_aux=True)(
            state.params.discriminator, state, real, fake
        )
        discriminator, opt_d = apply_gradients(
            optimiser, gradients, state.opt_state.discriminator, state.params.discriminator
        )
        latent = game.latent(state.context, maker_key, n)
        (loss_g, extra), gradients = jax.value_and_grad(maker_loss, has_aux=True)(
            state.params.generator, discriminator, state, real, latent
        )
        generator, opt_g = apply_gradients(optimiser, gradients, state.opt_state.generator, state.params.generator)
        state = replace(
            state,
            step=state.step + 1,
            params=Nets(generator, discriminator),
            opt_state=Nets(opt_g, opt_d),
            ema=ema_update(state.ema, generator, decay=config.ema_decay),
        )
        return state, GANInfo(loss_d, loss_g, real_mean, fake_mean, r1, r2, extra)

    def sample(state: GANState, key: jax.Array, n: int) -> jax.Array:
        latent = game.latent(state.context, key, n)
        return jnp.clip(to_unit(game.generate(state.ema, latent)), 0.0, 1.0)

    return Algorithm(init, step, sample)


def gan(config: GANConfig, *, image_shape: tuple[int, int, int]) -> Algorithm:
    """The plain GAN: Gaussian noise in, one critic on pixels; see :func:`adversarial`."""
    nets = image_networks(config, image_shape)

    def init(key: jax.Array, context: Any) -> Nets:
        generator_key, discriminator_key = jax.random.split(key)
        return Nets(
            init_params(nets.generator, generator_key, (1, config.d_noise)),
            init_params(nets.discriminator, discriminator_key, (1, *image_shape)),
        )

    return adversarial(
        config,
        Game(
            init=init,
            latent=gaussian_latent(config.d_noise),
            generate=nets.generator.apply,
            critics={"pixels": lambda params, context, images: nets.discriminator.apply(params, images)},
        ),
    )
