"""Stacked images: several at random, one a channel, so that the number of modes is known and large."""

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.base import Batch, Examples
from saegan_jax.images import to_unit_float


def stacks(key: jax.Array, data: Examples, *, n: int, stack: int = 3) -> jax.Array:
    """Which images to stack: ``(n, stack)`` int32, each drawn uniformly and independently from ``data``."""
    return jax.random.randint(key, (n, stack), 0, data.label.shape[0])


def stacked(data: Examples, index: jax.Array, *, num_classes: int = 10) -> Batch:
    """The stacks that ``index`` names.

    Args:
      data: ``image (m, height, width, 1)`` uint8 and ``label (m,)`` int32.
      index: ``(n, stack)``, see :func:`stacks`.
      num_classes: of ``data``.

    Returns:
      ``image (n, height, width, stack)`` float32 in [0, 1], channel c the c-th image; ``label (n,)`` int32, the classes as
      digits of one number, the first channel's the highest: ``num_classes ** stack`` modes.

    Source: Metz et al., Unrolled generative adversarial networks, 2017, section 3.3.1.
    """
    image = to_unit_float(jnp.moveaxis(data.image[index][..., 0], 1, -1))
    place = num_classes ** jnp.arange(index.shape[1] - 1, -1, -1)
    return Batch(image, jnp.sum(data.label[index] * place.reshape(1, -1), axis=1))
