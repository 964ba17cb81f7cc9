"""Critics that read an autoencoder, each a builder of its own, and the discriminators that are made of them.

===========  ===========================================================================================
pixels       ``D(x)``
codes        ``D(E(x) / s)``
ensemble     ``pixels`` and ``codes``, their losses summed
projected    ``sum_l D_l(P_l (a(x) - m) / t)``: pre-activations a, standardised; P_l random and fixed
lossless     ``D(Dec(E(x)), x - Dec(E(x)), E(x) / s)``
joint        ``D(x, E(x) / s)`` of reals, ``D(G(h / s, noise), h / s)`` of fakes
init         ``D(E_phi(x) / s)``, phi starting as the SAE's and trained as D is
===========  ===========================================================================================
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from saegan_jax.algorithms.gan.parts import Condition, applied, init_params
from saegan_jax.algorithms.saegan.frozen import FrozenSAE, Pretrained
from saegan_jax.images import to_unit
from saegan_jax.networks.discriminators import CodeDiscriminator
from saegan_jax.priors import MIN_SCALE

if TYPE_CHECKING:
    from saegan_jax.algorithms.saegan.config import SAEGANConfig

# What `init` does not train: the decoder (an encoder with pre_bias reads b_dec as it is), and thresholds, which only the
# SAE's training keeps where they must be.
FIXED = ("W_dec", "b_dec", "threshold")


class Critic(NamedTuple):
    """One critic, as pure functions; images are in [-1, 1].

    Attributes:
      init: ``init(key, pretrained) -> params``.
      logits: ``logits(params, pretrained, x, condition) -> (batch,)``; see :class:`saegan_jax.algorithms.gan.Condition`.
      fit: ``fit(pre_activations, key)``, what it reads of the pre-activations ``(n, d_sae)`` of training images (and positions)
        and finds again in ``pretrained.critics``; None where it reads nothing.
    """

    init: Callable[[jax.Array, Any], Any]
    logits: Callable[[Any, Any, jax.Array, Condition], jax.Array]
    fit: Callable[[jax.Array, jax.Array], Any] | None = None


class CriticParts(NamedTuple):
    """What critics are built from.

    Attributes:
      config: of the SAE-GAN.
      sae: the frozen autoencoder.
      image_net: the image discriminator as a Flax module.
      image_shape: ``(height, width, channels)``.
      n_classes: classes that critics know; 0 for none.
    """

    config: "SAEGANConfig"
    sae: FrozenSAE
    image_net: Any
    image_shape: tuple[int, int, int]
    n_classes: int

    @property
    def code_net(self) -> Any:
        """The network of critics on codes."""
        return CodeDiscriminator(self.config.code_hidden, self.n_classes, self.config.code_width)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape of the code of one image."""
        return (1, *self.sae.functions.positions, self.sae.d_sae)


class Discriminator(NamedTuple):
    """Which critics a discriminator has, and what follows from them.

    Attributes:
      critics: ``critics(parts)``, the critics by name.
      reads_sae: whether any of them reads the autoencoder.
      codes_alone: whether the only thing read is the frozen autoencoder's codes, so that a generator of codes needs no decoder.
      normalisable: whether all that is trained are kernels that spectral normalisation divides.
      reads_pairs: whether a critic reads the code that an image was made from beside it, which the generator must then be
        given.
    """

    critics: Callable[[CriticParts], dict[str, Critic]]
    reads_sae: bool = True
    codes_alone: bool = False
    normalisable: bool = True
    reads_pairs: bool = False


def pixel_critic(parts: CriticParts) -> Critic:
    """``D(x)``."""
    net, shape = parts.image_net, (1, *parts.image_shape)
    apply = applied(net, parts.config.gan.precision)
    return Critic(
        init=lambda key, pretrained: init_params(net, key, shape, n_classes=parts.n_classes),
        logits=lambda params, pretrained, images, condition: apply(params, images, condition.label),
    )


def code_critic(parts: CriticParts) -> Critic:
    """``D(E(x) / s)``; of a game that is played in codes, ``D`` of what it is given."""
    net = parts.code_net

    def logits(params: Any, pretrained: Pretrained, x: jax.Array, condition: Condition) -> Any:
        codes = x if parts.config.in_codes else parts.sae.scaled_codes(pretrained, x)
        return net.apply(params, codes, condition.label)

    return Critic(lambda key, pretrained: init_params(net, key, parts.code_shape, n_classes=parts.n_classes), logits)


@flax.struct.dataclass
class Projection:
    """A fixed random projection of standardised pre-activations.

    Attributes:
      mean, scale: ``(d_sae,)`` of the pre-activations of training images (and positions).
      matrix: ``(d_sae, projected_width)``.
    """

    mean: jax.Array
    scale: jax.Array
    matrix: jax.Array


def fit_projection(width: int, pre_activations: jax.Array, key: jax.Array) -> Projection:
    """Mean and deviation of ``pre_activations (n, d_sae)``, and a random matrix to ``width`` dimensions."""
    d_sae = pre_activations.shape[-1]
    return Projection(
        mean=pre_activations.mean(axis=0),
        scale=jnp.maximum(pre_activations.std(axis=0), MIN_SCALE),
        matrix=jax.random.normal(key, (d_sae, width), jnp.float32) / d_sae**0.5,
    )


def pooled_positions(x: jax.Array, pooled: tuple[int, ...]) -> jax.Array:
    """Means of ``(batch, rows, columns, width)`` over equal blocks, ``(batch, *pooled, width)``; a rest is cut off."""
    side = [n // m for n, m in zip(x.shape[1:3], pooled, strict=True)]
    x = x[:, : pooled[0] * side[0], : pooled[1] * side[1]]
    return x.reshape(-1, pooled[0], side[0], pooled[1], side[1], x.shape[-1]).mean(axis=(2, 4))


def projected_critic(parts: CriticParts, level: int) -> Critic:
    """``D(P (a(x) - m) / t)``; of a convolutional autoencoder, positions are averaged over ``2^level`` each way."""
    name, width = f"projected{level}", parts.config.projected_width
    pooled = tuple(max(1, n >> level) for n in parts.sae.functions.positions)
    net, shape = parts.code_net, (1, *pooled, width)

    def logits(params: Any, pretrained: Pretrained, images: jax.Array, condition: Condition) -> Any:
        a = parts.sae.pre_activations(pretrained, images)
        fitted, like = pretrained.critics[name], (1,) * (a.ndim - 1) + (-1,)
        seen = ((a - fitted.mean.reshape(like)) / fitted.scale.reshape(like)) @ fitted.matrix
        return net.apply(params, pooled_positions(seen, pooled) if pooled else seen, condition.label)

    return Critic(
        lambda key, pretrained: init_params(net, key, shape, n_classes=parts.n_classes),
        logits,
        fit=lambda a, key: fit_projection(width, a, jax.random.fold_in(key, level)),
    )


def lossless_critic(parts: CriticParts) -> Critic:
    """``D(Dec(E(x)), x - Dec(E(x)), E(x) / s)``: nothing of the image is hidden from it."""
    net = parts.image_net
    apply = applied(net, parts.config.gan.precision)

    def seen(pretrained: Pretrained, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        codes = parts.sae.codes(pretrained, images)
        x_hat = parts.sae.reconstruction(pretrained, codes)
        side = parts.sae.scaled(pretrained, codes).reshape(images.shape[0], -1)
        return jnp.concatenate([x_hat, images - x_hat], axis=-1), side

    def init(key: jax.Array, pretrained: Pretrained) -> Any:
        label = jnp.zeros(1, jnp.int32) if parts.n_classes else None
        images, side = seen(pretrained, jnp.zeros((1, *parts.image_shape), jnp.float32))
        return net.init(key, images, label, side)

    def logits(params: Any, pretrained: Pretrained, images: jax.Array, condition: Condition) -> Any:
        both, side = seen(pretrained, images)
        return apply(params, both, condition.label, side)

    return Critic(init, logits)


def encoder_critic(parts: CriticParts) -> Critic:
    """``D(E_phi(x) / s)``, phi starting as the autoencoder's encoder and trained on."""
    net, sae = parts.code_net, parts.sae

    def init(key: jax.Array, pretrained: Pretrained) -> Any:
        # Copies: a state whose buffers are donated may not hold one array twice.
        encoder = {name: jnp.copy(w) for name, w in pretrained.sae["params"].items() if name not in FIXED}
        return {"encoder": encoder, "head": init_params(net, key, parts.code_shape, n_classes=parts.n_classes)}

    def logits(params: Any, pretrained: Pretrained, images: jax.Array, condition: Condition) -> Any:
        weights = {"params": sae.params(pretrained)["params"] | params["encoder"]}
        codes = sae.functions.encode(weights, to_unit(images))
        return net.apply(params["head"], sae.scaled(pretrained, codes), condition.label)

    return Critic(init, logits)


def joint_critic(parts: CriticParts) -> Critic:
    """``D(x, h) = w . phi(x) + b + <phi(x), V h / s> / sqrt(d)``: d features phi of the image, and the code h beside it.

    Reals are pairs ``(x, E(x))``, fakes are pairs ``(G([h / s, noise]), h)`` with h the code of a training image. Where the
    two joint distributions agree, the generator draws images whose code is h.

    Source: Donahue et al., Adversarial feature learning, 2017, section 3 (the joint critic); Miyato and Koyama, cGANs with
    projection discriminator, 2018, eq. 4 (the inner product).
    """
    apply = applied(parts.image_net, parts.config.gan.precision)

    def init(key: jax.Array, pretrained: Pretrained) -> Any:
        image, code = (jnp.zeros(shape, jnp.float32) for shape in ((1, *parts.image_shape), (1, parts.sae.d_code)))
        return parts.image_net.init(key, image, code=code)

    def logits(params: Any, pretrained: Pretrained, images: jax.Array, condition: Condition) -> Any:
        assert condition.code is not None
        return apply(params, images, code=parts.sae.scaled_input(pretrained, condition.code))

    return Critic(init, logits)


def alone(name: str, build: Callable[[CriticParts], Critic]) -> Callable[[CriticParts], dict[str, Critic]]:
    """The critics of a discriminator that has one."""
    return lambda parts: {name: build(parts)}


def ensemble_critics(parts: CriticParts) -> dict[str, Critic]:
    """One critic on images and one on codes."""
    return {"pixels": pixel_critic(parts), "codes": code_critic(parts)}


def projected_critics(parts: CriticParts) -> dict[str, Critic]:
    """One critic for each level."""
    levels = range(parts.config.levels)
    return {f"projected{level}": projected_critic(parts, level) for level in levels}


DISCRIMINATORS: dict[str, Discriminator] = {
    "pixels": Discriminator(alone("pixels", pixel_critic), reads_sae=False),
    "codes": Discriminator(alone("codes", code_critic), codes_alone=True),
    "ensemble": Discriminator(ensemble_critics),
    "projected": Discriminator(projected_critics),
    "lossless": Discriminator(alone("lossless", lossless_critic)),
    "joint": Discriminator(alone("joint", joint_critic), reads_pairs=True),
    "init": Discriminator(alone("init", encoder_critic), normalisable=False),
}
