"""A GAN with a sparse autoencoder in two places: sparse codes into the generator, SAE codes into the discriminator."""

from dataclasses import dataclass, field
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.gan import (
    Game,
    GANConfig,
    Nets,
    adversarial,
    gaussian_latent,
    generated,
    image_networks,
    init_params,
    known_classes,
    to_unit,
)
from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.errors import require, require_choice, require_non_negative
from saegan_jax.networks.discriminators import MLPDiscriminator
from saegan_jax.priors import FactorisedPrior, fit_factorised, sample_factorised

GeneratorInput = Literal["gaussian", "sparse"]
Discriminator = Literal["pixels", "codes", "ensemble"]


@dataclass(frozen=True, kw_only=True)
class SAEGANConfig:
    """Where the sparse autoencoder enters, and the settings of both systems."""

    generator_input: GeneratorInput = "sparse"
    """gaussian: noise alone; sparse: codes drawn from the sparse prior, beside the noise."""
    discriminator: Discriminator = "ensemble"
    """pixels: images alone; codes: frozen SAE codes of real and fake images alone; ensemble: one critic on each."""
    alignment: float = 0.0
    """Weight of ||E(G(h, noise)) - h||^2 / ||h||^2 in the generator's loss (sparse input only)."""
    code_hidden: tuple[int, ...] = (128, 128)
    """Units of each hidden layer of the critic on codes; empty for a linear critic."""
    sae: SAEConfig = field(default_factory=SAEConfig)
    """The sparse autoencoder."""
    gan: GANConfig = field(default_factory=GANConfig)
    """The GAN."""

    def __post_init__(self) -> None:
        require_choice("generator_input", self.generator_input, ("gaussian", "sparse"))
        require_choice("discriminator", self.discriminator, ("pixels", "codes", "ensemble"))
        require_non_negative(alignment=self.alignment)
        require(
            not self.alignment or self.generator_input == "sparse",
            "alignment",
            self.alignment,
            "it ties images to the codes they were made from; set generator_input='sparse', or alignment to 0.",
        )
        require(
            self.sae.patch_size == 0,
            "sae.patch_size",
            self.sae.patch_size,
            "the generator's input and the critic on codes take one code per image; set it to 0.",
        )
        hidden = self.code_hidden
        require(all(h > 0 for h in hidden), "code_hidden", hidden, "every hidden layer needs at least one unit.")


@flax.struct.dataclass
class Frozen:
    """What the adversarial game reads and never changes.

    Attributes:
      sae: parameters of the trained sparse autoencoder.
      prior: the sparse prior fitted to its codes of training images.
    """

    sae: Any
    prior: FactorisedPrior


def freeze(config: SAEConfig, sae_params: Any, images: jax.Array, *, batch_size: int = 1024) -> Frozen:
    """Fit the sparse prior to the codes of ``images``.

    Args:
      config: the autoencoder's settings.
      sae_params: its trained parameters.
      images: ``(n, height, width, channels)`` training images, uint8 (0 to 255) or float32 in [0, 1].
      batch_size: images encoded at a time.

    Returns:
      A :class:`Frozen` pair of the parameters and the prior.
    """
    height, width, channels = images.shape[1:]
    encode = autoencoder(config, image_shape=(height, width, channels)).encode
    scale = 1 / 255 if images.dtype == jnp.uint8 else 1.0
    codes = jax.lax.map(
        lambda image: encode(sae_params, scale * image[None].astype(jnp.float32))[0], images, batch_size=batch_size
    )
    return Frozen(sae=sae_params, prior=fit_factorised(codes, threshold=config.active_above))


def alignment_loss(target: jax.Array, codes: jax.Array) -> jax.Array:
    """Relative squared distance of codes to those they were made from: ``||codes - target||^2 / ||target||^2``.

    Args:
      target: ``(batch, d_sae)``, the codes that the generator was given.
      codes: ``(batch, d_sae)``, the codes of the images it drew.

    Returns:
      ``(batch,)``; 0 where the target code is empty, since its direction is then undefined.
    """
    size = jnp.sum(target**2, axis=-1)
    empty = size == 0
    return jnp.where(empty, 0.0, jnp.sum((codes - target) ** 2, axis=-1) / jnp.where(empty, 1.0, size))


def saegan(config: SAEGANConfig, frozen: Frozen, *, image_shape: tuple[int, int, int], n_classes: int = 0) -> Algorithm:
    """A GAN around a frozen, pre-trained sparse autoencoder with encoder E.

    With ``generator_input="sparse"``: ``x = G([h / s, noise])``, h drawn from the sparse prior, in training and when
    sampling alike; s is each unit's root mean square (codes are scaled, never centred, so that off stays zero).
    With ``discriminator="codes"`` or ``"ensemble"``: ``D(E(x) / s)`` for reals and fakes, E's parameters constant while
    the gradient flows through E to the generator.

    Args:
      config: see :class:`SAEGANConfig`.
      frozen: see :func:`freeze`. ``step`` and ``sample`` read the copy in the state.
      image_shape: ``(height, width, channels)``.
      n_classes: of the data; needed where ``config.gan.conditional``.

    Returns:
      An :class:`Algorithm` whose state is a :class:`saegan_jax.algorithms.gan.GANState` with ``frozen`` as its context.
    """
    known = known_classes(config.gan, n_classes)
    nets = image_networks(config.gan, image_shape, n_classes=known)
    code_net: Any = MLPDiscriminator(config.code_hidden, known)
    encode = autoencoder(config.sae, image_shape=image_shape).encode
    d_sae, d_noise = config.sae.d_sae, config.gan.d_noise
    sparse = config.generator_input == "sparse"

    def scaled(context: Frozen, codes: jax.Array) -> jax.Array:
        return codes / context.prior.scale.reshape(1, -1)

    def codes_of(context: Frozen, images: jax.Array) -> jax.Array:
        # Stop at the parameters, not at the codes: the generator needs the gradient through the encoder.
        return encode(jax.lax.stop_gradient(context.sae), to_unit(images))

    def sparse_latent(context: Frozen, key: jax.Array, n: int) -> jax.Array:
        code_key, noise_key = jax.random.split(key)
        codes = sample_factorised(context.prior, code_key, n)
        return jnp.concatenate([scaled(context, codes), jax.random.normal(noise_key, (n, d_noise))], axis=-1)

    def pixel_critic(params: Any, context: Frozen, images: jax.Array, label: jax.Array | None) -> jax.Array:
        return nets.discriminator.apply(params["pixels"], images, label)

    def code_critic(params: Any, context: Frozen, images: jax.Array, label: jax.Array | None) -> jax.Array:
        return code_net.apply(params["codes"], scaled(context, codes_of(context, images)), label)

    names = ("pixels", "codes") if config.discriminator == "ensemble" else (config.discriminator,)
    critics = {name: {"pixels": pixel_critic, "codes": code_critic}[name] for name in names}
    modules = {"pixels": (nets.discriminator, (1, *image_shape)), "codes": (code_net, (1, d_sae))}

    def init(key: jax.Array, context: Frozen) -> Nets:
        generator_key, *keys = jax.random.split(key, 1 + len(names))
        d_latent = d_noise + d_sae if sparse else d_noise
        return Nets(
            init_params(nets.generator, generator_key, (1, d_latent + known)),
            {
                name: init_params(modules[name][0], k, modules[name][1], n_classes=known)
                for name, k in zip(names, keys, strict=True)
            },
        )

    def alignment(context: Frozen, latent: jax.Array, images: jax.Array) -> jax.Array:
        target = latent[:, :d_sae] * context.prior.scale.reshape(1, -1)
        return config.alignment * alignment_loss(target, codes_of(context, images)).mean()

    game = Game(
        init=init,
        latent=sparse_latent if sparse else gaussian_latent(d_noise),
        generate=generated(nets.generator, n_classes=known),
        critics=critics,
        generator_extra=alignment if config.alignment else None,
    )
    return adversarial(config.gan, game, context=frozen, n_classes=n_classes)
