"""Random changes of images, each image its own: shifts for classifiers, differentiable ones for the critics of GANs."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from saegan_jax.errors import require_choice

Augmentation = Literal["color", "translation", "cutout"]
POLICIES: tuple[Augmentation, ...] = get_args(Augmentation)


def _crop(images: jax.Array, offsets: jax.Array, margins: tuple[int, int]) -> jax.Array:
    """Each image's window of its own size at ``offsets (batch, 2)`` in the image padded with zeros by ``margins``."""
    padded = jnp.pad(images, ((0, 0), (margins[0], margins[0]), (margins[1], margins[1]), (0, 0)))

    def crop(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], jnp.zeros_like(offset[0])), images.shape[1:])

    return jax.vmap(crop)(padded, offsets)


def random_shift(key: jax.Array, images: jax.Array, *, max_shift: int) -> jax.Array:
    """Moves each image by its own uniform whole-pixel offset in ``[-max_shift, max_shift]`` along both axes.

    Args:
      key: typed PRNG key.
      images: ``(batch, height, width, channels)``.
      max_shift: largest offset, >= 0.

    Returns:
      ``(batch, height, width, channels)``; pixels moved in from outside are 0.
    """
    offsets = jax.random.randint(key, (images.shape[0], 2), 0, 2 * max_shift + 1)
    return _crop(images, offsets, (max_shift, max_shift))


def _color(key: jax.Array, images: jax.Array) -> jax.Array:
    brightness, saturation, contrast = jax.random.uniform(key, (3, images.shape[0], 1, 1, 1), images.dtype)
    images = images + (brightness - 0.5)
    if images.shape[-1] > 1:
        grey = images.mean(axis=-1, keepdims=True)
        images = (images - grey) * (2 * saturation) + grey
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return (images - mean) * (contrast + 0.5) + mean


def _translation(key: jax.Array, images: jax.Array) -> jax.Array:
    n, height, width, _ = images.shape
    margins = (height // 8, width // 8)
    keys = jax.random.split(key)
    offsets = [jax.random.randint(k, (n,), 0, 2 * m + 1) for k, m in zip(keys, margins, strict=True)]
    return _crop(images, jnp.stack(offsets, axis=1), margins)


def _cutout(key: jax.Array, images: jax.Array) -> jax.Array:
    def keep(key: jax.Array, side: int) -> jax.Array:
        """Whether a pixel along one axis lies outside the square, ``(batch, side)``."""
        size = side // 2
        # The authors' range of centres, which makes each image side symmetric for even and odd squares alike.
        start = jax.random.randint(key, (images.shape[0], 1), 0, side + 1 - size % 2) - size // 2
        pixel = jnp.arange(side).reshape(1, -1)
        return (pixel < start) | (pixel >= start + size)

    rows, columns = (keep(k, side) for k, side in zip(jax.random.split(key), images.shape[1:3], strict=True))
    mask = rows[:, :, None, None] | columns[:, None, :, None]
    return jnp.where(mask, images, jnp.zeros_like(images))


def diff_augment(key: jax.Array, images: jax.Array, *, policy: Sequence[str]) -> jax.Array:
    """Differentiable augmentation: the critic sees real and generated images only through it, and gradients pass.

    Each image gets its own draw of every change in the policy, in the policy's order:

    - ``"color"``: adds a constant from U(-1/2, 1/2); multiplies each pixel's distance to the mean of its channels by U(0, 2)
      (not for one channel, where it changes nothing); multiplies the distance to the image's mean by U(1/2, 3/2).
    - ``"translation"``: moves by whole pixels, uniform within an eighth of each side, rounded down.
    - ``"cutout"``: sets a rectangle of half of each side to 0; its centre is uniform, so it may reach over the border.

    Pixels moved in from outside are 0 too, mid-grey in [-1, 1], as in the authors' code. On a black background (-1) the
    grey bands and squares do not look like data. That is no error, since real and generated images get the same ones, but
    where this is not wanted, augment ``images + 1`` and take 1 away again: 0 is then black.

    Args:
      key: typed PRNG key.
      images: ``(batch, height, width, channels)`` in [-1, 1].
      policy: names of the changes; empty for none.

    Returns:
      ``(batch, height, width, channels)``; ``"color"`` may leave [-1, 1], and nothing is clipped.

    Raises:
      ConfigError: an unknown name in the policy.

    Source: Zhao et al., Differentiable augmentation for data-efficient GAN training, 2020, section 3 and their code.
    """
    changes: dict[str, Callable[[jax.Array, jax.Array], jax.Array]]
    changes = {"color": _color, "translation": _translation, "cutout": _cutout}
    for name in policy:
        require_choice("policy", name, POLICIES)
    for i, name in enumerate(policy):
        images = changes[name](jax.random.fold_in(key, i), images)
    return images
