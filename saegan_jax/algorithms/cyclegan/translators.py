"""The kinds of translator: what is trained in each direction, and how it makes one image from another.

A kind is one builder and one line of :data:`TRANSLATORS`. Images are in [-1, 1] throughout.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from saegan_jax.activations import topk
from saegan_jax.algorithms.cyclegan.config import DIRECTIONS, CycleGANConfig, Kind
from saegan_jax.algorithms.sae import VARIANTS, Autoencoder, SAEConfig, autoencoder
from saegan_jax.errors import require
from saegan_jax.images import to_signed, to_unit
from saegan_jax.networks.translators import CodeShift, ResNetTranslator

ImageShape = tuple[int, int, int]


class Translator(NamedTuple):
    """How one kind translates, as pure functions of generator parameters and the state's pre-trained ones.

    Attributes:
      init: ``init(key, pretrained) -> generator params``.
      translate: ``translate(params, pretrained, images, direction) -> images``.
      codes: ``codes(params, pretrained, images, direction) -> (batch, d_sae)``, or None.
    """

    init: Callable[[jax.Array, Any], Any]
    translate: Callable[[Any, Any, jax.Array, str], jax.Array]
    codes: Callable[[Any, Any, jax.Array, str], jax.Array] | None


class Builder(Protocol):
    """Makes a :class:`Translator` for images of one shape.

    Raises:
      ConfigError: images that the networks cannot translate, or an autoencoder that has no such codes.
      ValueError: no ``sae`` where one is needed.
    """

    def __call__(self, config: CycleGANConfig, *, image_shape: ImageShape, sae: SAEConfig | None) -> Translator: ...


def require_halvings(field: str, n: int, image_shape: ImageShape) -> None:
    """Raise :class:`saegan_jax.errors.ConfigError` unless both sides of the images can be halved ``n`` times."""
    height, width, _ = image_shape
    divides = height % 2**n == 0 and width % 2**n == 0
    require(divides, field, n, f"{height}x{width} images cannot be halved {n} times; use fewer stages.")


def plain(config: CycleGANConfig, *, image_shape: ImageShape, sae: SAEConfig | None) -> Translator:
    """A residual network for each direction; ``sae`` is not read."""
    require_halvings("stages", config.stages, image_shape)
    network = ResNetTranslator(config.width, config.stages, config.blocks, config.mixing)
    return Translator(
        init=partial(init_plain, network, image_shape), translate=partial(translate_plain, network), codes=None
    )


def init_plain(network: ResNetTranslator, image_shape: ImageShape, key: jax.Array, pretrained: Any) -> Any:
    """``{"ab": ..., "ba": ...}``, new parameters for each direction.

    Raises:
      ValueError: parameters of an autoencoder, which this kind does not have.
    """
    if pretrained is not None:
        raise ValueError("kind='plain' has no autoencoder: call init(key) without pretrained, or use kind='sparse'.")
    one = jnp.zeros((1, *image_shape), jnp.float32)
    return {name: network.init(k, one) for name, k in zip(DIRECTIONS, jax.random.split(key), strict=True)}


def translate_plain(
    network: ResNetTranslator, params: Any, pretrained: Any, images: jax.Array, direction: str
) -> jax.Array:
    """``G_direction(x)``."""
    translated: Any = network.apply(params[direction], images)
    return translated


class SparseParts(NamedTuple):
    """What the sparse kind is made of.

    Attributes:
      config: see :class:`CycleGANConfig`.
      sae: settings of the autoencoder.
      autoencoder: its functions.
      shift: the network Delta.
    """

    config: CycleGANConfig
    sae: SAEConfig
    autoencoder: Autoencoder
    shift: CodeShift


def sparse(config: CycleGANConfig, *, image_shape: ImageShape, sae: SAEConfig | None) -> Translator:
    """``G_AB(x) = Dec_B(TopK(E(x) + Delta_AB(TopK(E(x)))))``, E(x) the pre-activations of one autoencoder of both domains."""
    if sae is None:
        raise ValueError("kind='sparse' needs sae, the settings of the autoencoder whose codes it translates by.")
    fix = "the code of a translation has k active units; use 'topk'."
    require(VARIANTS[sae.variant].k_per_example, "sae.variant", sae.variant, fix)
    fix = "a translation takes one code per image; set it to 0."
    require(sae.patch_size == 0, "sae.patch_size", sae.patch_size, fix)
    fix = "each domain trains a decoder apart from the encoder; set it to False."
    require(not sae.tied, "sae.tied", sae.tied, fix)
    parts = SparseParts(config, sae, autoencoder(sae, image_shape=image_shape), CodeShift(config.shift_hidden))
    return Translator(
        init=partial(init_sparse, parts), translate=partial(translate_sparse, parts), codes=partial(sparse_codes, parts)
    )


def init_sparse(parts: SparseParts, key: jax.Array, pretrained: Any) -> Any:
    """``{"ab": {"shift": ..., "decoder": ...}, "ba": ..., "encoder": ...}``: copies of the weights that train on.

    Raises:
      ValueError: no parameters of the autoencoder.
    """
    if pretrained is None:
        raise ValueError(
            "kind='sparse' needs pretrained, the trained parameters of the autoencoder: call init(key, pretrained)."
        )
    weights = pretrained["params"]
    params: dict[str, Any] = {}
    for name, k in zip(DIRECTIONS, jax.random.split(key), strict=True):
        params[name] = {"shift": parts.shift.init(k, jnp.zeros((1, parts.sae.d_sae), jnp.float32))}
        if parts.config.decoder == "refined":
            params[name]["decoder"] = {weight: jnp.copy(weights[weight]) for weight in ("W_dec", "b_dec")}
    if parts.config.encoder == "trained":
        params["encoder"] = {weight: jnp.copy(weights[weight]) for weight in ("W_enc", "b_enc")}
    return params


def with_trained(pretrained: Any, trained: dict[str, jax.Array]) -> Any:
    """The autoencoder's parameters, held constant, with those in their place that train on.

    The gradient stops at the parameters and not at the codes: a cycle needs it through the encoder.
    """
    return {"params": {**jax.lax.stop_gradient(pretrained["params"]), **trained}}


def sparse_codes(parts: SparseParts, params: Any, pretrained: Any, images: jax.Array, direction: str) -> jax.Array:
    """``TopK(E(x) + Delta(TopK(E(x))))``, ``(batch, d_sae)``."""
    encoder = with_trained(pretrained, params.get("encoder", {}))
    pre_activations = parts.autoencoder.pre_activations(encoder, to_unit(images))
    change: Any = parts.shift.apply(params[direction]["shift"], topk(pre_activations, parts.sae.k))
    return topk(pre_activations + change, parts.sae.k)


def translate_sparse(parts: SparseParts, params: Any, pretrained: Any, images: jax.Array, direction: str) -> jax.Array:
    """``Dec(codes)``, cut to the range of images."""
    decoder = with_trained(pretrained, params[direction].get("decoder", {}))
    y = parts.autoencoder.decode(decoder, sparse_codes(parts, params, pretrained, images, direction))
    # The other direction must translate an image back, and an image lies in the range. The gradient passes where a pixel is
    # cut off: without it such a pixel could never return.
    return to_signed(y + jax.lax.stop_gradient(jnp.clip(y, 0.0, 1.0) - y))


TRANSLATORS: dict[Kind, Builder] = {"plain": plain, "sparse": sparse}
