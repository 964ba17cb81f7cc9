"""Ranges and dtypes of images: what pixels are stored as, what systems take, and what generators and critics work in."""

import jax
import jax.numpy as jnp


def to_unit_float(images: jax.Array) -> jax.Array:
    """uint8 pixels as float32 in [0, 1].

    Raises:
      ValueError: pixels of another dtype, which would be divided by 255 again.
    """
    if images.dtype != jnp.uint8:
        raise ValueError(
            f"stored images must be uint8, 0 to 255, but these are {images.dtype}; pass floats in [0, 1] straight to a step."
        )
    return images.astype(jnp.float32) / 255


def any_to_unit_float(images: jax.Array) -> jax.Array:
    """uint8 pixels divided by 255; float32 ones as they are, in [0, 1] already.

    Raises:
      ValueError: another dtype.
    """
    return check_unit(images) if jnp.issubdtype(images.dtype, jnp.floating) else to_unit_float(images)


def check_unit(images: jax.Array) -> jax.Array:
    """``images`` themselves, of a dtype that can hold [0, 1]: a check while tracing, which costs a step nothing.

    Raises:
      ValueError: integer pixels, whose values would be taken for numbers up to 255.
    """
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images must be float32 in [0, 1], but these are {images.dtype}; divide pixels by 255 first "
            "(saegan_jax.images.to_unit_float)."
        )
    return images


def to_signed(images: jax.Array) -> jax.Array:
    """[0, 1] to [-1, 1], the range that generators draw in and critics read."""
    return 2 * images - 1


def to_unit(images: jax.Array) -> jax.Array:
    """[-1, 1] to [0, 1]."""
    return (images + 1) / 2


def flatten_images(images: jax.Array) -> jax.Array:
    """``(batch, height, width, channels) -> (batch, height * width * channels)``."""
    return images.reshape(images.shape[0], -1)
