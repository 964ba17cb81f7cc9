"""A GAN with a sparse autoencoder in any of its uses: codes into the generator, out of it, or into the discriminator."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.gan.build import adversarial, known_classes
from saegan_jax.algorithms.gan.networks import image_networks
from saegan_jax.algorithms.gan.parts import Game, Logits, generated, init_params, signed_images, unit_images
from saegan_jax.algorithms.gan.schedule import GANHyper
from saegan_jax.algorithms.gan.state import GANState
from saegan_jax.algorithms.nets import Nets
from saegan_jax.algorithms.sae import autoencoder
from saegan_jax.algorithms.saegan.config import SAEGANConfig
from saegan_jax.algorithms.saegan.critics import DISCRIMINATORS, Critic, CriticParts
from saegan_jax.algorithms.saegan.frozen import FrozenSAE
from saegan_jax.algorithms.saegan.generators import INPUTS, OUTPUTS, alignment
from saegan_jax.images import to_unit
from saegan_jax.priors import sample_prior

ImageShape = tuple[int, int, int]
# The codes that are read beside reals, and those that fakes are made from. Rolled by one, no fake is scored beside its own
# real; shuffled, a real's code says nothing of it.
PAIRINGS = {
    "other": lambda codes: (codes, jnp.roll(codes, 1, axis=0)),
    "same": lambda codes: (codes, codes),
    "shuffled": lambda codes: (jnp.roll(codes, 1, axis=0), codes),
}


def critic_parts(config: SAEGANConfig, *, image_shape: ImageShape, n_classes: int = 0) -> CriticParts:
    """What the critics of ``config`` are built from; ``n_classes`` that they know, 0 for none.

    Raises:
      ConfigError: an image size that the networks cannot make.
    """
    functions = autoencoder(config.sae, image_shape=image_shape)
    image_net = image_networks(config.gan, image_shape, n_classes=n_classes).discriminator
    frozen = FrozenSAE(functions, config.sae.d_sae, config.sae.active_above)
    return CriticParts(config, frozen, image_net, image_shape, n_classes)


def by_name(name: str, critic: Critic) -> Logits:
    """The critic on its part of the discriminator's parameters."""
    return lambda params, pretrained, x, label: critic.logits(params[name], pretrained, x, label)


def init_networks(generator: Any, d_latent: int, critics: dict[str, Critic], key: jax.Array, pretrained: Any) -> Nets:
    """Parameters of the generator, and of every critic by name."""
    generator_key, *keys = jax.random.split(key, 1 + len(critics))
    return Nets(
        init_params(generator, generator_key, (1, d_latent)),
        {name: critic.init(k, pretrained) for (name, critic), k in zip(critics.items(), keys, strict=True)},
    )


def saegan_game(config: SAEGANConfig, *, image_shape: ImageShape, n_classes: int = 0) -> Game:
    """What :func:`saegan` plays; ``pretrained`` is a :class:`saegan_jax.algorithms.saegan.Pretrained`.

    Args:
      config: see :class:`SAEGANConfig`.
      image_shape: ``(height, width, channels)``.
      n_classes: classes that both networks know; 0 for none.

    Raises:
      ConfigError: an image size that the networks cannot make.
    """
    parts = critic_parts(config, image_shape=image_shape, n_classes=n_classes)
    sae, inputs, output = parts.sae, INPUTS[config.generator_input], OUTPUTS[config.generator_output]
    discriminator = DISCRIMINATORS[config.discriminator]
    critics = discriminator.critics(parts)
    image_net = image_networks(config.gan, image_shape, n_classes=n_classes).generator
    net = output.network(config, image_net)
    draw = generated(output.apply(config, net), n_classes=n_classes)

    def generate(params: Any, pretrained: Any, latent: jax.Array, label: jax.Array | None) -> jax.Array:
        drawn = draw(params, pretrained, latent, label)
        return sae.decoded(pretrained, drawn) if output.codes and not config.in_codes else drawn

    def decoded_image(pretrained: Any, codes: jax.Array) -> jax.Array:
        return to_unit(sae.decoded(pretrained, codes))

    return Game(
        init=partial(init_networks, net, inputs.d_latent(config, sae) + n_classes, critics),
        latent=inputs.latent(config, sae),
        generate=generate,
        critics={name: by_name(name, critic) for name, critic in critics.items()},
        generator_extra=alignment(config, sae),
        to_critic_space=sae.active_codes if config.in_codes else signed_images,
        to_image=decoded_image if config.in_codes else unit_images,
        in_pixels=not config.in_codes,
        latent_of=None if inputs.latent_of is None else inputs.latent_of(config, sae),
        real_codes=partial(training_codes, config, sae) if discriminator.reads_pairs else None,
        pair_codes=PAIRINGS[config.pairing],
    )


def training_codes(
    config: SAEGANConfig, sae: FrozenSAE, pretrained: Any, key: jax.Array, images: jax.Array
) -> jax.Array:
    """Codes ``(batch, d_code)`` of reals, in training: with ``code_dropout`` of some only a random part."""
    codes = sae.input_codes(pretrained, images)
    return drop_parts(codes, sae.off(pretrained), key, share=config.code_dropout) if config.code_dropout else codes


def drop_parts(codes: jax.Array, off: jax.Array, key: jax.Array, *, share: float) -> jax.Array:
    """``codes (batch, d_code)``, of a ``share`` of which only a random part is kept; the other units are at ``off (d_code,)``.

    Each of those keeps each unit with probability u, which is uniform on [0, 1] and its own. A game whose reals and fakes carry
    such codes has the images of every part of a code for its optimum, the single units and the empty code among them.
    """
    which_key, part_key, unit_key = jax.random.split(key, 3)
    n = codes.shape[0]
    dropped = jax.random.bernoulli(which_key, jnp.float32(share), (n, 1))
    kept = jax.random.bernoulli(unit_key, jax.random.uniform(part_key, (n, 1), jnp.float32), codes.shape)
    return jnp.where(dropped & ~kept, off.reshape(1, -1), codes)


def saegan(
    config: SAEGANConfig, *, image_shape: ImageShape, n_classes: int = 0, member: GANHyper | None = None
) -> Algorithm:
    """A GAN around a pre-trained sparse autoencoder with encoder E and decoder Dec.

    Codes are divided by s, each unit's root mean square, and never centred, so that off stays zero.

    **Generator.** ``generator_input="sparse"``: ``x = G([h / s, noise])``, h drawn from the sparse prior, in training and
    when sampling alike. ``generator_output="codes"``: ``x = Dec(s T(z))``, ``T(z) = TopK(ReLU(MLP(z)))``; beside the critic
    ``codes`` the game is played in codes alone, T(z) against E(x) of reals, those not active at exactly 0.

    With ``discriminator="joint"`` h is the code of a training image while training, and of the prior when sampling.

    **Discriminator**, of reals and fakes alike: :mod:`saegan_jax.algorithms.saegan.critics`. E's parameters are constant, but
    the gradient flows through E to the generator.

    Args:
      config: see :class:`SAEGANConfig`.
      image_shape: ``(height, width, channels)``.
      n_classes: of the data; needed where ``config.gan.conditional``.
      member: this member's settings of the GAN; by default those of ``config.gan``.

    Returns:
      An :class:`Algorithm` whose state is a :class:`saegan_jax.algorithms.gan.GANState`. ``init(key, pretrained)`` takes what
      :func:`saegan_jax.algorithms.saegan.fit_pretrained` returns; the state keeps a copy, which ``step`` and ``sample`` read.

    Raises:
      ConfigError: an image size that the networks cannot make.

    Source: Sauer et al., Projected GANs converge faster, 2021 (projected, here on one layer of an autoencoder).
    """
    game = saegan_game(config, image_shape=image_shape, n_classes=known_classes(config.gan, n_classes))
    algorithm = adversarial(config.gan, game, n_classes=n_classes, member=member)
    algorithm = algorithm._replace(init=partial(init_with_pretrained, algorithm))
    if not INPUTS[config.generator_input].has_code:
        return algorithm
    frozen = critic_parts(config, image_shape=image_shape).sae
    return algorithm._replace(encode=partial(encode, frozen), draw_codes=partial(draw_codes, config.sampler))


def encode(sae: FrozenSAE, state: GANState, images: jax.Array) -> jax.Array:
    """Codes ``(batch, d_code)`` of images in [0, 1], as the generator reads them but for the scale."""
    return sae.input_codes(state.pretrained, images)


def draw_codes(sampler: str, state: GANState, key: jax.Array, n: int) -> jax.Array:
    """``(n, d_code)`` codes from the prior in the state."""
    return sample_prior(sampler, state.pretrained.prior, key, n)


def init_with_pretrained(algorithm: Algorithm, key: jax.Array, pretrained: Any = None) -> Any:
    """``init`` of a system that cannot do without what was pretrained.

    Raises:
      ValueError: it is missing.
    """
    if pretrained is None:
        raise ValueError("init of a SAE-GAN needs pretrained, the autoencoder and prior: pass fit_pretrained's result.")
    return algorithm.init(key, pretrained)
