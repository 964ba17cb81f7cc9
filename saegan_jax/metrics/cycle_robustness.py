"""How robust a cycle is: its error when the image in the middle is coarsened, which shows what is hidden in it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

BITS = (8, 6, 4, 3, 2, 1)
SIGMAS = (0.01, 0.02, 0.05, 0.1, 0.2)

Translate = Callable[[jax.Array], jax.Array]


class CycleRobustness(NamedTuple):
    """Cycle errors, mean absolute pixel error in [0, 1], means over images.

    Attributes:
      clean: scalar, with the middle image as it is.
      quantised: ``(len(bits),)``.
      noisy: ``(len(sigmas),)``.
    """

    clean: jax.Array
    quantised: jax.Array
    noisy: jax.Array


def quantise(images: jax.Array, bits: int) -> jax.Array:
    """``round(x (2^bits - 1)) / (2^bits - 1)``, halves to even: images as ``bits`` bits a pixel and channel hold them.

    Args:
      images: floats in [0, 1], any shape; values outside are clipped.
      bits: 1 to 16.

    Returns:
      The same shape.

    Raises:
      ValueError: ``bits`` out of range, or integer images.
    """
    if not 1 <= bits <= 16:
        raise ValueError(f"bits = {bits} cannot be used: it must lie between 1 and 16.")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be floats in [0, 1], got {images.dtype}; divide uint8 by 255.")
    top = float(2**bits - 1)
    return jnp.round(jnp.clip(images, 0.0, 1.0) * top) / top


def paired_error(truth: jax.Array, images: jax.Array) -> jax.Array:
    """``mean |images - truth|`` over pixels and channels, per example ``(batch,)``; both ``(batch, ...)`` in [0, 1].

    Raises:
      ValueError: shapes that differ.
    """
    if truth.shape != images.shape:
        raise ValueError(f"truth has shape {truth.shape} and images {images.shape}; they must be pairs.")
    return jnp.mean(jnp.abs(images - truth), axis=tuple(range(1, truth.ndim)))


def cycle_robustness(
    there: Translate,
    back: Translate,
    images: jax.Array,
    key: jax.Array,
    *,
    bits: Sequence[int] = BITS,
    sigmas: Sequence[float] = SIGMAS,
) -> CycleRobustness:
    """``mean |back(c(there(x))) - x|`` for coarsenings c: none, quantising to ``bits``, Gaussian noise of ``sigmas``.

    A translation that keeps what a person sees loses little by either. One that hides the source in faint patterns of the
    middle image, which a discriminator does not see, loses it at once.

    Args:
      there, back: images ``(batch, height, width, channels)`` in [0, 1] to such images.
      images: of the first domain.
      key: of the noise; the noisy image is clipped to [0, 1]. One standard normal draw serves all sigmas.
      bits: see :func:`quantise`.
      sigmas: standard deviations, >= 0, in the pixels' unit.

    Returns:
      :class:`CycleRobustness`.

    Raises:
      ValueError: a negative sigma, or bits out of range.

    Source: the hiding: Chu, Zhmoginov and Sandler, CycleGAN, a master of steganography, 2017, sections 4 and 5 (noise and
    its effect on the reconstruction).
    """
    if any(not sigma >= 0 for sigma in sigmas):
        raise ValueError(f"sigmas = {tuple(sigmas)} cannot be used: standard deviations are zero or above.")
    middle = there(images)
    noise = jax.random.normal(key, middle.shape, middle.dtype)

    def error(coarse: jax.Array) -> jax.Array:
        return paired_error(images, back(coarse)).mean()

    none = jnp.zeros((0,), middle.dtype)
    quantised = [error(quantise(middle, b)) for b in bits]
    noisy = [error(jnp.clip(middle + sigma * noise, 0.0, 1.0)) for sigma in sigmas]
    return CycleRobustness(
        clean=error(middle),
        quantised=jnp.stack(quantised) if quantised else none,
        noisy=jnp.stack(noisy) if noisy else none,
    )
