"""Losses of CycleGAN beside the adversarial one: L1 per example, mean over pixels and channels."""

from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike

from saegan_jax.losses._arrays import floatings


def cycle_consistency(x: ArrayLike, x_cycled: ArrayLike) -> Array:
    """``mean_pixels |G_BA(G_AB(x)) - x|``, per example. A mean, as the published weight of 10 expects.

    Args: x (batch, ...) images; x_cycled, the same images there and back. Returns: (batch,), in the images' unit.
    Raises: ValueError for integer or empty arrays and for shapes that differ.
    Source: Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial networks, 2017, eq. 2.
    """
    x, x_cycled = floatings(x=x, x_cycled=x_cycled, min_ndim=1)
    return jnp.mean(jnp.abs(x_cycled - x), axis=tuple(range(1, x.ndim)))


def identity_mapping(y: ArrayLike, y_mapped: ArrayLike) -> Array:
    """``mean_pixels |G_AB(y) - y|``, per example, for y already in domain B; the published weight is 5.

    Args: y (batch, ...) images of the target domain; y_mapped, what the generator into that domain makes of them.
    Returns: (batch,), in the images' unit. Raises: ValueError for integer or empty arrays and for shapes that differ.
    Source: Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial networks, 2017, section
    5.2.
    """
    y, y_mapped = floatings(y=y, y_mapped=y_mapped, min_ndim=1)
    return jnp.mean(jnp.abs(y_mapped - y), axis=tuple(range(1, y.ndim)))
