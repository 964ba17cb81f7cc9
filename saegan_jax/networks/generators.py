"""Generators: latent vectors ``(batch, d_latent)`` to images ``(batch, height, width, channels)`` in (-1, 1)."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from saegan_jax.networks.layers import HE, ConvForm, ConvTranspose4x4


class MLPGenerator(nn.Module):
    """Dense layers with leaky ReLU 0.2, then tanh; no hidden layer makes it a single dense map."""

    image_shape: tuple[int, int, int]
    hidden: Sequence[int] = (256, 256)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        height, width, channels = self.image_shape
        for features in self.hidden:
            z = nn.leaky_relu(nn.Dense(features, kernel_init=HE)(z), 0.2)
        return nn.tanh(nn.Dense(height * width * channels)(z)).reshape(-1, height, width, channels)


class DCGANGenerator(nn.Module):
    """Two transposed convolutions above two dense layers, as DCGAN (Radford et al., 2016) without batch normalisation.

    The discriminator's gradient penalties take over what batch normalisation was there for, and images stay independent.
    The first dense layer mixes the latents (8 width units), the second makes 4 width channels at a quarter of the size.
    """

    image_shape: tuple[int, int, int]
    width: int = 32
    conv_form: ConvForm = "matrix"

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        height, width, channels = self.image_shape
        rows, columns = height // 4, width // 4
        x = nn.leaky_relu(nn.Dense(8 * self.width, kernel_init=HE)(z), 0.2)
        x = nn.leaky_relu(nn.Dense(rows * columns * 4 * self.width, kernel_init=HE)(x), 0.2)
        x = x.reshape(-1, rows, columns, 4 * self.width)
        x = nn.leaky_relu(ConvTranspose4x4(self.width, form=self.conv_form)(x), 0.2)
        return nn.tanh(ConvTranspose4x4(channels, form=self.conv_form)(x))
