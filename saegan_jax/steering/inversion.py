"""Latent inversion: the latents of which a generator draws an image that was given."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from saegan_jax.algorithms.optimisers import apply_gradients


class Inverted(NamedTuple):
    """What `invert` returns.

    Attributes:
      latent: ``(starts, ...)``, where the descent from each start ended.
      error: ``(starts,)``, root mean square difference of pixels there.
      errors: ``(steps, starts)``, the same before each step.
    """

    latent: jax.Array
    error: jax.Array
    errors: jax.Array


def rms_error(images: jax.Array, target: jax.Array) -> jax.Array:
    """``sqrt(mean (images - target)^2)`` over pixels and channels: ``(n, h, w, c)`` and ``(h, w, c)`` to ``(n,)``."""
    if images.shape[1:] != target.shape:
        raise ValueError(f"target must have the shape of an image, {images.shape[1:]}, got {target.shape}.")
    return jnp.sqrt(jnp.mean((images - target[None]) ** 2, axis=(1, 2, 3)))


def invert(
    draw: Callable[[jax.Array], jax.Array], target: jax.Array, start: jax.Array, *, steps: int, learning_rate: float
) -> Inverted:
    """Adam on ``||draw(z) - target||^2`` from several starts at once; the rate falls to 0 as a cosine.

    The latent is free: nothing keeps it where the prior draws. Compare its norm with that of drawn latents.

    Args:
      draw: ``draw(z) -> (n, height, width, channels)`` in [0, 1] of latents ``(n, ...)``, each image of its own latent alone.
      target: ``(height, width, channels)`` in [0, 1].
      start: ``(starts, ...)`` latents.
      steps: of the descent.
      learning_rate: of Adam, at the first step.

    Returns:
      See :class:`Inverted`.

    Raises:
      ValueError: a target of another shape than the images.

    Source: Lipton and Tripathi, Precise recovery of latent vectors from generative adversarial networks, 2017.
    """
    optimiser = optax.adam(learning_rate)
    rates = 0.5 * (1 + jnp.cos(jnp.pi * jnp.arange(steps, dtype=start.dtype) / steps))

    def loss(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        images = draw(z)
        error = rms_error(images, target)
        return jnp.sum(jnp.mean((images - target[None]) ** 2, axis=(1, 2, 3))), error  # the root has no slope at 0

    def step(carry: tuple[jax.Array, Any], rate: jax.Array) -> tuple[tuple[jax.Array, Any], jax.Array]:
        gradient, error = jax.grad(loss, has_aux=True)(carry[0])
        return apply_gradients(optimiser, gradient, carry[1], carry[0], rate=rate), error

    (latent, _), errors = jax.lax.scan(step, (start, optimiser.init(start)), rates)
    return Inverted(latent, rms_error(draw(latent), target), errors)
