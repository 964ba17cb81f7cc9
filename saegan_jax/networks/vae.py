"""The two halves of a variational autoencoder: images to posteriors, latents to the logits of pixels."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax

from saegan_jax.networks.layers import HE


class VAEEncoder(nn.Module):
    """Dense layers with leaky ReLU 0.2 on images in [-1, 1], then one linear head for each parameter of the posterior.

    ``(batch, height, width, channels)`` in [0, 1] to ``heads`` arrays ``(batch, d_latent)``.
    """

    d_latent: int
    heads: int
    hidden: Sequence[int] = (256,)

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, ...]:
        x = 2 * images.reshape(images.shape[0], -1) - 1
        for features in self.hidden:
            x = nn.leaky_relu(nn.Dense(features, kernel_init=HE)(x), 0.2)
        return tuple(nn.Dense(self.d_latent, name=f"head_{i}")(x) for i in range(self.heads))


class VAEDecoder(nn.Module):
    """Dense layers with leaky ReLU 0.2: ``(batch, d_latent)`` to logits ``(batch, height, width, channels)``."""

    image_shape: tuple[int, int, int]
    hidden: Sequence[int] = (256,)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        for features in self.hidden:
            z = nn.leaky_relu(nn.Dense(features, kernel_init=HE)(z), 0.2)
        return nn.Dense(math.prod(self.image_shape))(z).reshape(-1, *self.image_shape)
