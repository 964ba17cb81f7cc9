"""A GAN with a sparse autoencoder in any of its places: codes into the generator, out of it, or into the discriminator."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import flax.struct
import jax
import jax.numpy as jnp

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.gan import (
    Game,
    GANConfig,
    Nets,
    adversarial,
    applied,
    gaussian_latent,
    generated,
    image_networks,
    init_params,
    known_classes,
)
from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.errors import require, require_choice, require_non_negative, require_positive
from saegan_jax.images import to_signed, to_unit
from saegan_jax.networks.discriminators import CodeDiscriminator
from saegan_jax.networks.generators import CodeGenerator
from saegan_jax.priors import MIN_SCALE, PRIORS, Sampler, fit_prior, sample_prior

GeneratorInput = Literal["gaussian", "sparse"]
GeneratorOutput = Literal["images", "codes"]
Discriminator = Literal["pixels", "codes", "ensemble", "projected", "lossless", "init"]
Encoder = Literal["trained", "random"]
MOST_IMAGES = 8192  # from which the statistics of convolutional codes are taken: several numbers of each
# What `init` does not train: the decoder (an encoder with pre_bias reads b_dec as it is), and thresholds, which only the
# SAE's own training keeps where they must be.
FIXED = ("W_dec", "b_dec", "threshold")


@dataclass(frozen=True, kw_only=True)
class SAEGANConfig:
    """Where the sparse autoencoder enters, and the settings of both systems."""

    generator_input: GeneratorInput = "sparse"
    """gaussian: noise alone; sparse: codes drawn from the sparse prior, beside the noise."""
    sampler: Sampler = "factorised"
    """The sparse prior: factorised (independent units), copula (units on together as in the data), clusters (factorised within
    k-means clusters), or bootstrap (codes of training images themselves: a diagnostic, no generative model)."""
    generator_output: GeneratorOutput = "images"
    """images: the generator draws pixels; codes: it draws sparse codes (sae.k of them on), and the frozen decoder the image."""
    discriminator: Discriminator = "ensemble"
    """pixels: images alone; codes: frozen SAE codes of real and fake images alone; ensemble: one critic on each; projected:
    critics on fixed random projections of the pre-activations; lossless: one critic on reconstruction, its error and codes,
    so that nothing is hidden from it; init: codes of an encoder that starts as the SAE's and trains on."""
    encoder: Encoder = "trained"
    """trained: the SAE is trained first; random: it is left at its initial values, a control."""
    alignment: float = 0.0
    """Weight of ||E(G(h, noise)) - h||^2 / ||h||^2 in the generator's loss (sparse input only)."""
    code_hidden: tuple[int, ...] = (128, 128)
    """Units of each hidden layer of the critic on codes; empty for a linear critic."""
    code_width: int = 16
    """Units that every position's codes are reduced to before that critic's hidden layers (convolutional SAE)."""
    generator_hidden: tuple[int, ...] = (256, 256)
    """Units of each hidden layer of a generator of codes."""
    levels: int = 3
    """Critics of projected; with a convolutional SAE each reads positions averaged over twice as many pixels as the last."""
    projected_width: int = 64
    """Dimensions of each of its projections."""
    sae: SAEConfig = field(default_factory=SAEConfig)
    """The sparse autoencoder."""
    gan: GANConfig = field(default_factory=GANConfig)
    """The GAN."""

    def __post_init__(self) -> None:
        require_choice("generator_input", self.generator_input, get_args(GeneratorInput))
        require_choice("sampler", self.sampler, tuple(PRIORS))
        require_choice("generator_output", self.generator_output, get_args(GeneratorOutput))
        require_choice("discriminator", self.discriminator, get_args(Discriminator))
        require_choice("encoder", self.encoder, get_args(Encoder))
        require_non_negative(alignment=self.alignment)
        require_positive(code_width=self.code_width, levels=self.levels, projected_width=self.projected_width)
        require(
            not self.alignment or (self.generator_input == "sparse" and self.generator_output == "images"),
            "alignment",
            self.alignment,
            "it ties images to the codes they were made from; set generator_input='sparse' and generator_output='images', or "
            "alignment to 0.",
        )
        require(
            self.sae.patch_size == 0 or (self.generator_input == "gaussian" and self.generator_output == "images"),
            "sae.patch_size",
            self.sae.patch_size,
            "the generator takes and draws one code per image; set it to 0, or use convolutional codes in the discriminator.",
        )
        for name, units in (("code_hidden", self.code_hidden), ("generator_hidden", self.generator_hidden)):
            require(all(h > 0 for h in units), name, units, "every hidden layer needs at least one unit.")
        require(
            self.discriminator != "init" or not self.gan.spectral_norm,
            "gan.spectral_norm",
            self.gan.spectral_norm,
            "the encoder that discriminator='init' trains would not be normalised; turn it off, or use another discriminator.",
        )
        require(
            self.generator_output == "images" or self.sae.k <= self.sae.d_sae,
            "sae.k",
            self.sae.k,
            f"generated codes have that many units on, and there are d_sae={self.sae.d_sae}.",
        )


@flax.struct.dataclass
class Projection:
    """Fixed random projections of standardised pre-activations.

    Attributes:
      mean, scale: ``(d_sae,)`` of the pre-activations of training images (and positions).
      matrices: one ``(d_sae, projected_width)`` for each level.
    """

    mean: jax.Array
    scale: jax.Array
    matrices: tuple[jax.Array, ...]


@flax.struct.dataclass
class Frozen:
    """What the adversarial game reads and never changes.

    Attributes:
      sae: parameters of the trained sparse autoencoder.
      scale: ``(d_sae,)``, root mean square of its codes of training images, at least ``MIN_SCALE``; networks read codes
        divided by it.
      prior: the sparse prior fitted to these codes; ``()`` where the generator reads none.
      projection: see :class:`Projection`; ``()`` where no critic reads one.
    """

    sae: Any
    scale: jax.Array
    prior: Any
    projection: Any


def freeze(
    config: SAEGANConfig, sae_params: Any, images: jax.Array, key: jax.Array, *, batch_size: int = 1024
) -> Frozen:
    """Encode ``images`` and fit what the game needs to their codes.

    Args:
      config: of the system.
      sae_params: the autoencoder's trained parameters.
      images: ``(n, height, width, channels)`` training images, uint8 (0 to 255) or float32 in [0, 1]; for a convolutional
        autoencoder at most ``MOST_IMAGES`` of them, evenly spread, are used.
      key: of random projections and of k-means.
      batch_size: images encoded at a time.

    Returns:
      A :class:`Frozen`.
    """
    height, width, channels = images.shape[1:]
    functions = autoencoder(config.sae, image_shape=(height, width, channels))
    unit = 1 / 255 if images.dtype == jnp.uint8 else 1.0
    if config.sae.patch_size:
        images = images[:: -(-len(images) // MOST_IMAGES)]  # from everywhere, since data may be sorted by class

    def of_all(function: Any) -> jax.Array:
        one = lambda image: function(sae_params, unit * image[None].astype(jnp.float32))[0]  # noqa: E731
        return jax.lax.map(one, images, batch_size=batch_size).reshape(-1, config.sae.d_sae)

    prior_key, projection_key = jax.random.split(key)
    codes = of_all(functions.encode)
    prior: Any = ()
    projection: Any = ()
    if config.generator_input == "sparse":
        prior = fit_prior(config.sampler, codes, prior_key, threshold=config.sae.active_above)
    if config.discriminator == "projected":
        a = of_all(functions.pre_activations)
        shape = (config.sae.d_sae, config.projected_width)
        matrices = [
            jax.random.normal(k, shape) / shape[0] ** 0.5 for k in jax.random.split(projection_key, config.levels)
        ]
        projection = Projection(a.mean(axis=0), jnp.maximum(a.std(axis=0), MIN_SCALE), tuple(matrices))
    scale = jnp.maximum(jnp.sqrt(jnp.mean(codes**2, axis=0)), MIN_SCALE)
    return Frozen(sae=sae_params, scale=scale, prior=prior, projection=projection)


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


class _Critic(NamedTuple):
    """One critic: parameters for a key, and its logits."""

    init: Any
    logits: Any


def saegan(config: SAEGANConfig, frozen: Frozen, *, image_shape: tuple[int, int, int], n_classes: int = 0) -> Algorithm:
    """A GAN around a pre-trained sparse autoencoder with encoder E and decoder Dec.

    Codes are divided by s, each unit's root mean square, and never centred, so that off stays zero.

    **Generator.** ``generator_input="sparse"``: ``x = G([h / s, noise])``, h drawn from the sparse prior, in training and
    when sampling alike. ``generator_output="codes"``: ``x = Dec(s T(z))``, ``T(z) = TopK(ReLU(MLP(z)))``; beside the critic
    ``codes`` the game is played in codes alone, T(z) against E(x) of reals, those not active at exactly 0.

    **Discriminator**, of reals and fakes alike. E's parameters are constant, but the gradient flows through E to the generator:

    ===========  ===========================================================================================
    codes        ``D(E(x) / s)``
    ensemble     ``codes`` and a critic on pixels, their losses summed
    projected    ``sum_l D_l(P_l (a(x) - m) / t)``: pre-activations a, standardised; P_l random and fixed
    lossless     ``D(Dec(E(x)), x - Dec(E(x)), E(x) / s)``
    init         ``D(E_phi(x) / s)``, phi starting as the SAE's and trained as D is
    ===========  ===========================================================================================

    Args:
      config: see :class:`SAEGANConfig`.
      frozen: see :func:`freeze`. ``step`` and ``sample`` read the copy in the state.
      image_shape: ``(height, width, channels)``.
      n_classes: of the data; needed where ``config.gan.conditional``.

    Returns:
      An :class:`Algorithm` whose state is a :class:`saegan_jax.algorithms.gan.GANState` with ``frozen`` as its context.

    Raises:
      ConfigError: an image size that the networks cannot make.

    Source: Sauer et al., Projected GANs converge faster, 2021 (projected, here on one layer of an autoencoder).
    """
    known = known_classes(config.gan, n_classes)
    nets = image_networks(config.gan, image_shape, n_classes=known)
    discriminator = applied(nets.discriminator, config.gan)
    functions = autoencoder(config.sae, image_shape=image_shape)
    d_sae, d_noise = config.sae.d_sae, config.gan.d_noise
    sparse, draws_codes = config.generator_input == "sparse", config.generator_output == "codes"
    in_codes = draws_codes and config.discriminator == "codes"
    code_net = CodeDiscriminator(config.code_hidden, known, config.code_width)

    # Stop at the parameters, not at what is made with them: the generator needs the gradient through them.
    def parameters(context: Frozen) -> Any:
        return jax.lax.stop_gradient(context.sae)

    def scaled(context: Frozen, codes: jax.Array) -> jax.Array:
        return codes / context.scale.reshape((1,) * (codes.ndim - 1) + (-1,))

    def codes_of(context: Frozen, images: jax.Array) -> jax.Array:
        return functions.encode(parameters(context), to_unit(images))

    def decoded(context: Frozen, scaled_codes: jax.Array) -> jax.Array:
        return to_signed(functions.decode(parameters(context), scaled_codes * context.scale.reshape(1, -1)))

    def sparse_latent(context: Frozen, key: jax.Array, n: int) -> jax.Array:
        code_key, noise_key = jax.random.split(key)
        codes = sample_prior(config.sampler, context.prior, code_key, n)
        return jnp.concatenate([scaled(context, codes), jax.random.normal(noise_key, (n, d_noise))], axis=-1)

    def pixel_critic() -> _Critic:
        return _Critic(
            lambda key, context: init_params(nets.discriminator, key, (1, *image_shape), n_classes=known),
            lambda params, context, images, label: discriminator(params, images, label),
        )

    def code_critic() -> _Critic:
        def logits(params: Any, context: Frozen, images: jax.Array, label: jax.Array | None) -> Any:
            return code_net.apply(params, images if in_codes else scaled(context, codes_of(context, images)), label)

        shape = (1, *functions.positions, d_sae)
        return _Critic(lambda key, context: init_params(code_net, key, shape, n_classes=known), logits)

    def projected_critic(level: int) -> _Critic:
        pooled = tuple(max(1, n >> level) for n in functions.positions)

        def logits(params: Any, context: Frozen, images: jax.Array, label: jax.Array | None) -> Any:
            a = functions.pre_activations(parameters(context), to_unit(images))
            like = (1,) * (a.ndim - 1) + (-1,)
            mean, scale = context.projection.mean.reshape(like), context.projection.scale.reshape(like)
            seen = ((a - mean) / scale) @ context.projection.matrices[level]
            if pooled:
                side = [n // m for n, m in zip(functions.positions, pooled, strict=True)]
                seen = seen[:, : pooled[0] * side[0], : pooled[1] * side[1]]
                seen = seen.reshape(-1, pooled[0], side[0], pooled[1], side[1], config.projected_width).mean(
                    axis=(2, 4)
                )
            return code_net.apply(params, seen, label)

        shape = (1, *pooled, config.projected_width)
        return _Critic(lambda key, context: init_params(code_net, key, shape, n_classes=known), logits)

    def lossless_critic() -> _Critic:
        def seen(context: Frozen, images: jax.Array) -> tuple[jax.Array, jax.Array]:
            codes = codes_of(context, images)
            x_hat = to_signed(functions.decode(parameters(context), codes))
            side = scaled(context, codes).reshape(images.shape[0], -1)
            return jnp.concatenate([x_hat, images - x_hat], axis=-1), side

        def init(key: jax.Array, context: Frozen) -> Any:
            label = jnp.zeros(1, jnp.int32) if known else None
            images, side = seen(context, jnp.zeros((1, *image_shape)))
            return nets.discriminator.init(key, images, label, side)

        def logits(params: Any, context: Frozen, images: jax.Array, label: jax.Array | None) -> Any:
            both, side = seen(context, images)
            return discriminator(params, both, label, side)

        return _Critic(init, logits)

    def pretrained_critic() -> _Critic:
        def init(key: jax.Array, context: Frozen) -> Any:
            # Copies: a state whose buffers are donated may not hold one array twice.
            encoder = {name: jnp.copy(w) for name, w in context.sae["params"].items() if name not in FIXED}
            shape = (1, *functions.positions, d_sae)
            return {"encoder": encoder, "head": init_params(code_net, key, shape, n_classes=known)}

        def logits(params: Any, context: Frozen, images: jax.Array, label: jax.Array | None) -> Any:
            own = {"params": parameters(context)["params"] | params["encoder"]}
            codes = functions.encode(own, to_unit(images))
            return code_net.apply(params["head"], scaled(context, codes), label)

        return _Critic(init, logits)

    kind = config.discriminator
    parts: dict[str, _Critic] = {}
    if kind in ("pixels", "ensemble"):
        parts["pixels"] = pixel_critic()
    if kind in ("codes", "ensemble"):
        parts["codes"] = code_critic()
    if kind == "projected":
        parts |= {f"projected{level}": projected_critic(level) for level in range(config.levels)}
    if kind == "lossless":
        parts["lossless"] = lossless_critic()
    if kind == "init":
        parts["init"] = pretrained_critic()

    def critic(name: str) -> Any:
        return lambda params, context, images, label: parts[name].logits(params[name], context, images, label)

    generator: Any = CodeGenerator(d_sae, config.sae.k, config.generator_hidden) if draws_codes else nets.generator
    # A generator of codes selects among numbers by their bits, which float32 has.
    apply = generator.apply if draws_codes else applied(generator, config.gan)
    made = generated(apply, n_classes=known)

    def generate(params: Any, context: Frozen, latent: jax.Array, label: jax.Array | None) -> jax.Array:
        drawn = made(params, context, latent, label)
        return decoded(context, drawn) if draws_codes and not in_codes else drawn

    def init(key: jax.Array, context: Frozen) -> Nets:
        generator_key, *keys = jax.random.split(key, 1 + len(parts))
        d_latent = d_noise + d_sae if sparse else d_noise
        return Nets(
            init_params(generator, generator_key, (1, d_latent + known)),
            {name: part.init(k, context) for (name, part), k in zip(parts.items(), keys, strict=True)},
        )

    def alignment(context: Frozen, latent: jax.Array, images: jax.Array) -> jax.Array:
        target = latent[:, :d_sae] * context.scale.reshape(1, -1)
        return config.alignment * alignment_loss(target, codes_of(context, images)).mean()

    def active_codes(context: Frozen, images: jax.Array) -> jax.Array:
        codes = codes_of(context, images)
        # As generated ones: the faint part of sigmoid codes would give every real away.
        return scaled(context, jnp.where(codes > config.sae.active_above, codes, 0.0))

    game = Game(
        init=init,
        latent=sparse_latent if sparse else gaussian_latent(d_noise),
        generate=generate,
        critics={name: critic(name) for name in parts},
        generator_extra=alignment if config.alignment else None,
        observe=active_codes if in_codes else None,
        render=decoded if in_codes else None,
    )
    return adversarial(config.gan, game, context=frozen, n_classes=n_classes)
