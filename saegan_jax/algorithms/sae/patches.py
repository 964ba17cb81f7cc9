"""Images as the patches that a convolutional autoencoder encodes, and back."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax.errors import require
from saegan_jax.images import flatten_images
from saegan_jax.spmd import varying_alike

ImageShape = tuple[int, int, int]


class Patches(NamedTuple):
    """How images become what the network encodes.

    Attributes:
      cut: ``(batch, height, width, channels)`` to ``(batch, [rows, columns,] d_in)``.
      join: back, where each pixel is the mean of the patches that cover it.
      d_in: inputs of the network: pixels of the image or patch, times channels.
      positions: shape between batch and units: ``()``, or with patches ``(rows, columns)``.
    """

    cut: Callable[[jax.Array], jax.Array]
    join: Callable[[jax.Array], jax.Array]
    d_in: int
    positions: tuple[int, ...]


def patches(image_shape: ImageShape, *, patch_size: int, stride: int) -> Patches:
    """Square patches of ``patch_size``, ``stride`` apart, of an image padded with zeros; with size 0 the whole image as one.

    Raises:
      ConfigError: an image that the stride does not divide, or that holds no such patch.
    """
    height, width, channels = image_shape
    if patch_size == 0:
        return Patches(flatten_images, partial(_unflatten, image_shape), math.prod(image_shape), ())
    require(
        height % stride == 0 and width % stride == 0 and patch_size <= min(height, width),
        "stride",
        stride,
        f"it must divide both sides of the {height}x{width} images, which must hold a patch of patch_size={patch_size}.",
    )
    cut = partial(_cut, patch_size, stride)
    positions = height // stride, width // stride
    return Patches(cut, partial(_join, cut, image_shape), patch_size**2 * channels, positions)


def _unflatten(image_shape: ImageShape, x: jax.Array) -> jax.Array:
    return x.reshape(-1, *image_shape)


def _cut(patch_size: int, stride: int, images: jax.Array) -> jax.Array:
    rows, columns = images.shape[1] // stride, images.shape[2] // stride
    pad = (patch_size - stride) // 2
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    pixels = [
        padded[:, u : u + stride * (rows - 1) + 1 : stride, v : v + stride * (columns - 1) + 1 : stride]
        for u in range(patch_size)
        for v in range(patch_size)
    ]
    return jnp.concatenate(pixels, axis=-1)


def _join(cut: Callable[[jax.Array], jax.Array], image_shape: ImageShape, x: jax.Array) -> jax.Array:
    return _total(cut, image_shape, x) / _total(cut, image_shape, jnp.ones((1, *x.shape[1:]), x.dtype))


def _total(cut: Callable[[jax.Array], jax.Array], image_shape: ImageShape, x: jax.Array) -> jax.Array:
    """The sum of the patches that cover each pixel."""
    # Of zeros and not of a shape, as a cotangent must vary over the same mapped axes as what it belongs to.
    images = varying_alike(jnp.zeros((x.shape[0], *image_shape), x.dtype), x)[0]
    return jax.vjp(cut, images)[1](x)[0]
