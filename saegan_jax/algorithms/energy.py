"""Energy-based GANs whose discriminator is the sparse autoencoder: an image's energy is its reconstruction error."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from saegan_jax import losses
from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.gan import (
    GANConfig,
    GANHyper,
    Nets,
    Scheduled,
    gaussian_latent,
    image_networks,
    init_params,
    scheduled,
)
from saegan_jax.algorithms.gan import hyper as gan_hyper
from saegan_jax.algorithms.optimisers import apply_gradients, ema_update
from saegan_jax.algorithms.sae import (
    VARIANTS,
    SAEConfig,
    Start,
    autoencoder,
    module,
    project_params,
    remove_parallel_gradient,
    sae,
)
from saegan_jax.algorithms.sae import hyper as sae_hyper
from saegan_jax.errors import require, require_choice, require_non_negative, require_positive
from saegan_jax.images import flatten_images, to_unit
from saegan_jax.networks.dense import DenseLayers

Kind = Literal["ebgan", "began"]
Distance = Literal["squared", "absolute"]
# Settings of a GAN that would change nothing here, and what they must be so that nobody expects them to.
_UNUSED: dict[str, Any] = {
    "conditional": False, "spectral_norm": False, "augment": (), "r1_gamma": 0.0, "r2_gamma": 0.0,
    "gradient_penalty": 0.0, "dragan_penalty": 0.0, "lecam": 0.0, "d_steps": 1,
    "reuse_fakes": False, "precision": "float32",
}  # fmt: skip
_UNUSED_SAE: dict[str, Any] = {
    "auxk": 0.0, "resample_every": 0, "sparsity_warmup": 0, "rho_hat": "batch", "weight_decay": 0.0,
}  # fmt: skip


def plain(config: GANConfig) -> GANConfig:
    """``config`` without penalties and whatever else an energy-based GAN has no use for."""
    return replace(config, **_UNUSED)


def plain_sae(config: SAEConfig) -> SAEConfig:
    """``config`` without the care of dead units and what else only a training of its own can have."""
    return replace(config, **_UNUSED_SAE)


@dataclass(frozen=True, kw_only=True)
class EnergyConfig:
    """Settings of an energy-based GAN: the autoencoder that is the discriminator, the generator, and the game between them."""

    kind: Kind = "ebgan"
    """ebgan: fakes are pushed up to a margin. began: the two mean energies are held at a ratio."""
    distance: Distance = "squared"
    """Energy of an image, pixels in [0, 1]: half the squared error, or the absolute error, summed over pixels and channels."""
    margin: float = 10.0
    """Energy from which a fake is left alone, in the energies' unit; several times that of well reconstructed reals (ebgan)."""
    pulling_away: float = 0.1
    """Weight of the mean squared cosine between fakes' pre-activations in the generator's loss (ebgan)."""
    gamma: float = 0.5
    """Wanted ratio of fake to real energy; lower is sharper and less diverse (began)."""
    lambda_k: float = 1e-3
    """Step size of k, the weight of the fakes' energy, for each unit by which the energies are off their ratio (began)."""
    hidden: tuple[int, ...] = ()
    """Units of dense layers between the image and the sparse autoencoder, mirrored behind it; empty for that one alone."""
    pretrained: bool = False
    """Start from an autoencoder trained on reals alone, with the steps, batch size and learning rate of sae."""
    sae: SAEConfig = field(default_factory=lambda: SAEConfig(decoder_norm=3.0))
    """The autoencoder; its sparsity term, weighed with beta, is of the reals alone."""
    gan: GANConfig = field(default_factory=lambda: plain(GANConfig(learning_rate=1e-3, beta1=0.5, beta2=0.999)))
    """The generator, both networks' optimiser, batch size and steps; what is of an image discriminator is not read."""

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, get_args(Kind))
        require_choice("distance", self.distance, get_args(Distance))
        require_positive(margin=self.margin)
        require_non_negative(pulling_away=self.pulling_away, lambda_k=self.lambda_k)
        require(0 < self.gamma <= 1, "gamma", self.gamma, "it is a ratio above 0, up to 1; try 0.5.")
        hidden = self.hidden
        require(all(h > 0 for h in hidden), "hidden", hidden, "every hidden layer needs at least one unit.")
        require(
            not (self.pretrained and hidden),
            "pretrained",
            self.pretrained,
            "only the sparse autoencoder alone is trained beforehand; set hidden=(), or turn it off.",
        )
        for name, value in _UNUSED.items():
            found = getattr(self.gan, name)
            require(
                found == value,
                f"gan.{name}",
                found,
                f"an energy-based GAN here is unconditional, with one discriminator step and no penalty; set it to {value!r}.",
            )
        require(
            self.kind == "began" or self.gan.batch_size > 1,
            "gan.batch_size",
            self.gan.batch_size,
            "pulling away compares the fakes of a batch; use at least 2.",
        )
        able = ", ".join(name for name, variant in VARIANTS.items() if not variant.competes_over_batch)
        require(
            not VARIANTS[self.sae.variant].competes_over_batch,
            "sae.variant",
            self.sae.variant,
            f"its units compete over the batch, and an image's energy may not depend on the others; use one of {able}.",
        )
        for name, value in _UNUSED_SAE.items():
            found = getattr(self.sae, name)
            require(found == value, f"sae.{name}", found, f"a discriminator does not have it; set it to {value!r}.")
        require(
            not hidden or self.sae.patch_size == 0,
            "sae.patch_size",
            self.sae.patch_size,
            "patches are of images, and hidden layers come between; set it to 0, or hidden=().",
        )


@flax.struct.dataclass
class EnergyState:
    """Everything a resumed training needs.

    Attributes:
      step: int32 scalar, steps taken.
      key: the run's key; a step's randomness is ``fold_in(key, step)``.
      params: :class:`saegan_jax.algorithms.gan.Nets`; the discriminator's are ``{"sae", "enter", "leave"}``, the latter two
        ``()`` without hidden layers.
      opt_state: :class:`Nets` of optax states.
      ema: the generator's averaged parameters, those that samples are drawn with.
      hyper: settings of the optimisers that a sweep varies.
      k: scalar in [0, 1], BEGAN's weight of the fakes' energy; stays 0 for EBGAN.
    """

    step: jax.Array
    key: jax.Array
    params: Nets
    opt_state: Nets
    ema: Any
    hyper: GANHyper
    k: jax.Array


class EnergyInfo(NamedTuple):
    """Scalars of one step, batch means; energies in the unit of :attr:`EnergyConfig.distance`.

    Attributes:
      discriminator_loss, generator_loss: all terms, weighed.
      real_energy, fake_energy: as the discriminator saw them in its step.
      sparsity: the variant's term on reals, before its weight.
      l0: active codes of a real image.
      pulling_away: mean squared cosine of the generator's fakes, before its weight; 0 for BEGAN.
      above_margin: share of fakes above the margin, which give the discriminator no gradient; 0 for BEGAN.
      k: after the step.
      convergence: BEGAN's measure M = L(x) + |gamma L(x) - L(G)|, smaller is better; 0 for EBGAN.
    """

    discriminator_loss: jax.Array
    generator_loss: jax.Array
    real_energy: jax.Array
    fake_energy: jax.Array
    sparsity: jax.Array
    l0: jax.Array
    pulling_away: jax.Array
    above_margin: jax.Array
    k: jax.Array
    convergence: jax.Array


class Judged(NamedTuple):
    """What the discriminator finds in a batch.

    Attributes:
      energy: ``(batch,)``.
      pre_activations: ``(batch, d_sae)``, or with patches ``(batch, rows, columns, d_sae)``.
      codes: of the same shape.
      penalty: scalar, the autoencoder's sparsity term with its weight, and the gated variant's auxiliary one.
      sparsity: scalar, the sparsity term alone.
    """

    energy: jax.Array
    pre_activations: jax.Array
    codes: jax.Array
    penalty: jax.Array
    sparsity: jax.Array


class EnergyNet(NamedTuple):
    """The discriminator: ``judge(params, images) -> Judged`` of images in [0, 1], and ``init(key) -> params``."""

    judge: Callable[[Any, jax.Array], Judged]
    init: Callable[[jax.Array], Any]


def energy_net(
    config: EnergyConfig, *, image_shape: tuple[int, int, int], center: jax.Array | None = None
) -> EnergyNet:
    """The autoencoder of ``config``: ``x -> [dense layers ->] sparse autoencoder [-> dense layers]``.

    ``E(x) = 1/2 ||x_hat - x||^2`` or ``||x_hat - x||_1``, summed over pixels and channels.

    Args:
      config: see :class:`EnergyConfig`.
      image_shape: ``(height, width, channels)``.
      center: where ``b_dec`` starts, see :func:`saegan_jax.algorithms.sae.sae`; only without hidden layers.

    Raises:
      ConfigError: patches that do not fit the image.
    """
    hidden = config.hidden
    inner_shape = (1, 1, hidden[-1]) if hidden else image_shape
    functions = autoencoder(config.sae, image_shape=inner_shape)
    core = module(config.sae, functions.d_in)
    d_in = image_shape[0] * image_shape[1] * image_shape[2]
    enter: nn.Module | None = DenseLayers(hidden) if hidden else None
    leave: nn.Module | None = DenseLayers((*hidden[-2::-1], d_in), linear=True) if hidden else None

    def judge(params: Any, images: jax.Array) -> Judged:
        inner = images
        if enter is not None:
            features: Any = enter.apply(params["enter"], flatten_images(images))
            inner = features.reshape(-1, *inner_shape)
        _, terms = functions.loss(params["sae"], inner, hyper=sae_hyper(config.sae))
        # Of the same inputs, so that the compiler computes them once.
        pre_activations = core.apply(params["sae"], terms.inputs, method="pre_activations")
        x_hat = functions.decode(params["sae"], terms.codes)
        if leave is not None:
            outputs: Any = leave.apply(params["leave"], nn.leaky_relu(flatten_images(x_hat), 0.2))
            x_hat = outputs.reshape(images.shape)
        error = flatten_images(images - x_hat)
        energy = 0.5 * jnp.square(error).sum(axis=1) if config.distance == "squared" else jnp.abs(error).sum(axis=1)
        penalty = config.sae.beta * terms.sparsity + terms.auxiliary
        return Judged(energy, pre_activations, terms.codes, penalty, terms.sparsity)

    def init(key: jax.Array) -> Any:
        sae_key, enter_key, leave_key = jax.random.split(key, 3)
        return {
            "sae": sae(config.sae, image_shape=inner_shape).init(sae_key, Start(center=center)).params,
            "enter": () if enter is None else enter.init(enter_key, jnp.zeros((1, d_in))),
            "leave": () if leave is None else leave.init(leave_key, jnp.zeros((1, hidden[-1]))),
        }

    return EnergyNet(judge, init)


def energy(
    config: EnergyConfig,
    *,
    image_shape: tuple[int, int, int],
    center: jax.Array | None = None,
    start: Any = None,
    member: GANHyper | None = None,
) -> Algorithm:
    """A GAN whose discriminator is a sparse autoencoder and scores an image x by its reconstruction error E(x).

    =======  ============================================  ==========================================================
    kind     discriminator                                 generator
    =======  ============================================  ==========================================================
    ebgan    mean E(x) + mean max(0, m - E(G(z))) + S(x)   mean E(G(z)) + w PT(pre-activations of G(z))
    began    mean E(x) - k mean E(G(z)) + S(x)             mean E(G(z)); k <- clip(k + lambda_k (gamma L(x) - L(G)), 0, 1)
    =======  ============================================  ==========================================================

    S is the autoencoder's own sparsity term with its weight beta, of the real images alone: fakes need not have sparse codes.
    PT is :func:`saegan_jax.losses.pulling_away`. L(x) is the mean energy of the reals in the discriminator's step, L(G) that of
    the fakes in the generator's. The generator's gradient passes through the autoencoder, which its step does not move.

    Args:
      config: see :class:`EnergyConfig`.
      image_shape: ``(height, width, channels)``.
      center: see :func:`energy_net`.
      start: parameters of a trained sparse autoencoder to start from, as :func:`saegan_jax.algorithms.sae.sae` has them; by
        default at random. Only ``init`` reads it.
      member: this member's own settings of the optimisers; by default those of ``config.gan``.

    Returns:
      An :class:`Algorithm` on images in [0, 1] over an :class:`EnergyState`.

    Raises:
      ConfigError: an image size that the networks cannot make.
      ValueError: a ``start`` where ``config`` has hidden layers.

    Source: Zhao, Mathieu and LeCun, Energy-based generative adversarial network, 2017, eq. 1, 2 and 4; Berthelot, Schumm and
    Metz, BEGAN: boundary equilibrium generative adversarial networks, 2017, section 3.4.
    """
    if start is not None and config.hidden:
        raise ValueError(
            f"start is a sparse autoencoder of images, but hidden={config.hidden} puts layers around it: set hidden=()."
        )
    net = energy_net(config, image_shape=image_shape, center=center)
    generator = image_networks(config.gan, image_shape).generator
    latent = gaussian_latent(config.gan.d_noise)
    own = gan_hyper(config.gan) if member is None else member
    began = config.kind == "began"

    def optimiser(now: Scheduled, share: float = 1.0) -> optax.GradientTransformation:
        return optax.adam(now.learning_rate * share, b1=config.gan.beta1, b2=now.beta2)

    def init(key: jax.Array) -> EnergyState:
        params_key, run_key = jax.random.split(key)
        generator_key, discriminator_key = jax.random.split(params_key)
        discriminator = net.init(discriminator_key)
        if start is not None:
            discriminator["sae"] = jax.tree.map(jnp.copy, start)  # a donated state keeps nothing of the caller's
        params = Nets(init_params(generator, generator_key, (1, config.gan.d_noise)), discriminator)
        adam = optax.adam(config.gan.learning_rate)
        return EnergyState(
            step=jnp.zeros((), jnp.int32),
            key=run_key,
            params=params,
            opt_state=Nets(adam.init(params.generator), adam.init(params.discriminator)),
            ema=jax.tree.map(jnp.copy, params.generator),
            hyper=jax.tree.map(jnp.copy, own),
            k=jnp.zeros((), jnp.float32),
        )

    def images_of(params: Any, key: jax.Array, n: int) -> jax.Array:
        signed: Any = generator.apply(params, latent((), key, n))
        return to_unit(signed)

    def critic_loss(
        params: Any, k: jax.Array, real: jax.Array, fake: jax.Array
    ) -> tuple[jax.Array, tuple[Judged, Any]]:
        of_real, of_fake = net.judge(params, real), net.judge(params, fake)
        if began:
            total = of_real.energy.mean() - k * of_fake.energy.mean()
        else:
            total = losses.energy_discriminator_loss(of_real.energy, of_fake.energy, margin=config.margin).mean()
        return total + of_real.penalty, (of_real, of_fake.energy)

    def maker_loss(params: Any, discriminator: Any, key: jax.Array, n: int) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        judged = net.judge(discriminator, images_of(params, key, n))
        if began:
            return judged.energy.mean(), (judged.energy, jnp.zeros(()))
        alike = losses.pulling_away(judged.pre_activations)
        return judged.energy.mean() + config.pulling_away * alike, (judged.energy, alike)

    def step(state: EnergyState, batch: Batch) -> tuple[EnergyState, EnergyInfo]:
        critic_key, maker_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        now, n = scheduled(config.gan, state.hyper, state.step), batch.image.shape[0]
        maker, discriminator = state.params

        fake = images_of(maker, critic_key, n)
        (loss_d, (of_real, fake_energy)), gradients = jax.value_and_grad(critic_loss, has_aux=True)(
            discriminator, state.k, batch.image, fake
        )
        gradients["sae"] = remove_parallel_gradient(config.sae, gradients["sae"], discriminator["sae"])
        discriminator, opt_d = apply_gradients(optimiser(now), gradients, state.opt_state.discriminator, discriminator)
        discriminator = discriminator | {"sae": project_params(config.sae, discriminator["sae"])}

        (loss_g, (made_energy, alike)), gradients = jax.value_and_grad(maker_loss, has_aux=True)(
            maker, discriminator, maker_key, n
        )
        share = config.gan.generator_rate
        maker, opt_g = apply_gradients(optimiser(now, share), gradients, state.opt_state.generator, maker)

        k, convergence, above = state.k, jnp.zeros(()), jnp.zeros(())
        if began:
            k, convergence = losses.began_balance(
                k, of_real.energy, made_energy, gamma=config.gamma, lambda_k=config.lambda_k
            )
        else:
            above = (fake_energy > config.margin).mean(dtype=jnp.float32)
        new = replace(
            state,
            step=state.step + 1,
            params=Nets(maker, discriminator),
            opt_state=Nets(opt_g, opt_d),
            ema=ema_update(state.ema, maker, decay=now.ema_decay),
            k=k,
        )
        info = EnergyInfo(
            discriminator_loss=loss_d,
            generator_loss=loss_g,
            real_energy=of_real.energy.mean(),
            fake_energy=fake_energy.mean(),
            sparsity=of_real.sparsity,
            l0=(of_real.codes > config.sae.active_above).astype(jnp.float32).sum() / n,
            pulling_away=alike,
            above_margin=above,
            k=k,
            convergence=convergence,
        )
        return new, info

    def sample(state: EnergyState, key: jax.Array, n: int) -> jax.Array:
        return jnp.clip(images_of(state.ema, key, n), 0.0, 1.0)

    return Algorithm(init, step, sample)
