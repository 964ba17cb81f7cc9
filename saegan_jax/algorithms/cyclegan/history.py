"""A history of generated images, from which a discriminator is shown old ones half of the time."""

from functools import partial

import chex
import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class History:
    """Generated images that a discriminator has been or will be shown.

    Attributes:
      images: ``(size, height, width, channels)``.
      count: int32 scalar, how many have been stored; later slots are empty.
    """

    images: jax.Array
    count: jax.Array


def empty_history(size: int, image_shape: tuple[int, int, int]) -> History | None:
    """A history of ``size`` empty slots; None for size 0, as arrays without elements cannot be saved."""
    if size == 0:
        return None
    return History(jnp.zeros((size, *image_shape), jnp.float32), jnp.zeros((), jnp.int32))


def query(history: History | None, images: jax.Array, key: jax.Array) -> tuple[History | None, jax.Array]:
    """For each image in turn: itself, stored while slots are empty; then, with probability 1/2, a stored one in exchange.

    Args:
      history: see :class:`History`; None gives back the images.
      images: ``(batch, height, width, channels)``, of the history's image shape.
      key: image i uses ``fold_in(key, i)``.

    Returns:
      The new history, and ``(batch, height, width, channels)``.

    Source: Shrivastava et al., Learning from simulated and unsupervised images through adversarial training, 2017, section
    2.3, image by image as in CycleGAN's own code.
    """
    if history is None:
        return None, images
    chex.assert_shape(images, (None, *history.images.shape[1:]))
    return jax.lax.scan(partial(_exchange, key), history, (images, jnp.arange(images.shape[0])))


def _exchange(
    key: jax.Array, history: History, image_and_index: tuple[jax.Array, jax.Array]
) -> tuple[History, jax.Array]:
    """One step of :func:`query`'s scan."""
    image, index = image_and_index
    size = history.images.shape[0]
    coin_key, slot_key = jax.random.split(jax.random.fold_in(key, index))
    filling = history.count < size
    swap = ~filling & jax.random.bernoulli(coin_key)
    slot = jnp.where(filling, history.count, jax.random.randint(slot_key, (), 0, size))
    old = history.images[slot]
    stored = history.images.at[slot].set(jnp.where(filling | swap, image, old))
    return History(stored, history.count + filling.astype(jnp.int32)), jnp.where(swap, old, image)
