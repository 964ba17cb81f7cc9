"""Likelihoods of pixels, each a function of the decoder's logits; a new one is a function and a line in ``LIKELIHOODS``."""

from collections.abc import Callable

import jax
import optax


def bernoulli(logits: jax.Array, images: jax.Array, *, noise: float) -> jax.Array:
    """``x log p + (1 - x) log(1 - p)``, ``p = sigmoid(logits)``, per pixel, nats: no density of x between 0 and 1."""
    return -optax.sigmoid_binary_cross_entropy(logits, images)


def gaussian(logits: jax.Array, images: jax.Array, *, noise: float) -> jax.Array:
    """``-1/2 ((x - p) / noise)^2 - 1/2 log(2 pi noise^2)``, ``p = sigmoid(logits)``, per pixel, nats."""
    return jax.scipy.stats.norm.logpdf(images, jax.nn.sigmoid(logits), noise)


LIKELIHOODS: dict[str, Callable[..., jax.Array]] = {"bernoulli": bernoulli, "gaussian": gaussian}
