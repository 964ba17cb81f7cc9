"""The parts in which adversarial systems differ: a game, and how a generator and a critic are made from Flax modules."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from saegan_jax.algorithms.gan.config import Precision
from saegan_jax.algorithms.nets import Nets
from saegan_jax.images import to_signed, to_unit


class Condition(NamedTuple):
    """What a critic is given beside an image; each is None where the game has none.

    Attributes:
      label: ``(batch,)`` int32, the class.
      code: ``(batch, d_code)`` float32, the sparse code that goes with the image.
    """

    label: jax.Array | None = None
    code: jax.Array | None = None


Logits = Callable[[Any, Any, jax.Array, Condition], jax.Array]


def signed_images(pretrained: Any, images: jax.Array) -> jax.Array:
    """:attr:`Game.to_critic_space` of a game that is played in pixels: [0, 1] to [-1, 1]."""
    return to_signed(images)


def unit_images(pretrained: Any, generated: jax.Array) -> jax.Array:
    """:attr:`Game.to_image` of a game that is played in pixels: [-1, 1] to [0, 1]."""
    return to_unit(generated)


class Game(NamedTuple):
    """What a generator makes and what critics read, as pure functions.

    ``label`` is ``(batch,)`` int32 where the system is conditional, else None. ``pretrained`` is what the state holds and
    never changes, ``()`` where there is none. Critic space is what ``generate`` makes and critics read: images in [-1, 1],
    unless ``to_critic_space`` and ``to_image`` say otherwise.

    Attributes:
      init: ``init(key, pretrained) -> Nets`` of parameters.
      latent: ``latent(pretrained, key, n) -> (n, d_latent)``.
      generate: ``generate(generator_params, pretrained, latent, label) -> (n, ...)`` in critic space.
      critics: named functions ``logits(discriminator_params, pretrained, x, condition) -> (batch,)``; their losses and
        penalties are summed.
      generator_extra: ``generator_extra(pretrained, latent, generated) -> scalar`` added to the generator's loss, or None.
      to_critic_space: ``to_critic_space(pretrained, images)``, of real images in [0, 1].
      to_image: ``to_image(pretrained, generated) -> images`` in [0, 1], for samples; values may lie slightly outside.
      in_pixels: whether critic space is that of images, so that augmentation can be applied.
      latent_of: ``latent_of(pretrained, key, codes) -> (n, d_latent)`` for given codes ``(n, d_code)``, as the autoencoder
        makes them; None where the generator reads none.
      real_codes: ``real_codes(pretrained, key, images) -> (n, d_code)`` of reals in [0, 1], where critics read pairs of image
        and code; a generator then learns from ``latent_of`` codes of training images. None elsewhere.
      pair_codes: ``pair_codes(codes) -> (real_codes, fake_codes)``: from the codes of the reals, what is read beside each, and
        what the fake that it is paired with is made from.
    """

    init: Callable[[jax.Array, Any], Nets]
    latent: Callable[[Any, jax.Array, int], jax.Array]
    generate: Callable[[Any, Any, jax.Array, jax.Array | None], jax.Array]
    critics: Mapping[str, Logits]
    generator_extra: Callable[[Any, jax.Array, jax.Array], jax.Array] | None = None
    to_critic_space: Callable[[Any, jax.Array], jax.Array] = signed_images
    to_image: Callable[[Any, jax.Array], jax.Array] = unit_images
    in_pixels: bool = True
    latent_of: Callable[[Any, jax.Array, jax.Array], jax.Array] | None = None
    real_codes: Callable[[Any, jax.Array, jax.Array], jax.Array] | None = None
    pair_codes: Callable[[jax.Array], tuple[jax.Array, jax.Array]] = lambda codes: (codes, codes)


def init_params(module: nn.Module, key: jax.Array, shape: tuple[int, ...], *, n_classes: int = 0) -> Any:
    """Parameters of ``module`` for an input of ``shape``, and a label where there are classes."""
    label = (jnp.zeros(shape[:1], jnp.int32),) if n_classes else ()
    return module.init(key, jnp.zeros(shape, jnp.float32), *label)


def gaussian_latent(n_dims: int) -> Callable[[Any, jax.Array, int], jax.Array]:
    """``latent(pretrained, key, n) -> (n, n_dims)`` standard normal."""
    return lambda pretrained, key, n: jax.random.normal(key, (n, n_dims), jnp.float32)


def _to_bfloat16(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def applied(module: nn.Module, precision: Precision) -> Callable[..., jax.Array]:
    """``module.apply`` computing in ``precision``: float32 in, float32 out, and float32 gradients of the parameters."""
    if precision == "float32":
        return module.apply  # type: ignore[return-value]

    def apply(params: Any, *inputs: jax.Array | None, **named: jax.Array) -> jax.Array:
        out: jax.Array = module.apply(_to_bfloat16(params), *_to_bfloat16(inputs), **_to_bfloat16(named))  # type: ignore[assignment]
        return out.astype(jnp.float32)

    return apply


def generated(apply: Callable[..., jax.Array], *, n_classes: int) -> Callable[..., jax.Array]:
    """``generate(params, pretrained, latent, label)``: the label as one-hot beside the latent; the first layer embeds it."""

    def generate(params: Any, pretrained: Any, latent: jax.Array, label: jax.Array | None) -> jax.Array:
        if label is not None:
            latent = jnp.concatenate([latent, jax.nn.one_hot(label, n_classes, dtype=latent.dtype)], axis=-1)
        return apply(params, latent)

    return generate
