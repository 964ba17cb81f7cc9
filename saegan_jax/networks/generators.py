"""Generators: latent vectors ``(batch, d_latent)`` to images ``(batch, height, width, channels)`` in (-1, 1)."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from saegan_jax.networks.layers import HE, ConvForm, ConvTranspose4x4, RowConv3x3, RowConvTranspose3x3


class MLPGenerator(nn.Module):
    """Dense layers with leaky ReLU 0.2, then tanh of ``1 / scale`` of the last; no hidden layer makes it a single dense map."""

    image_shape: tuple[int, int, int]
    hidden: Sequence[int] = (256, 256)
    scale: float = 1.0

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        height, width, channels = self.image_shape
        for features in self.hidden:
            z = nn.leaky_relu(nn.Dense(features, kernel_init=HE)(z), 0.2)
        z = nn.Dense(height * width * channels)(z) / self.scale
        return nn.tanh(z).reshape(-1, height, width, channels)


class DCGANGenerator(nn.Module):
    """Transposed convolutions above two dense layers, as DCGAN (Radford et al., 2016) without batch normalisation.

    The discriminator's gradient penalties take over what batch normalisation was there for, and images stay independent.
    The first dense layer mixes the latents (8 width units); the second makes the smallest image, with ``2^stages width``
    channels, and each of the ``stages`` doubles it: to ``2^(stages-2) width`` channels first, then half as many each time.
    """

    image_shape: tuple[int, int, int]
    width: int = 32
    conv_form: ConvForm = "matrix"
    stages: int = 2

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        height, width, channels = self.image_shape
        rows, columns, features = height >> self.stages, width >> self.stages, self.width << self.stages
        x = nn.leaky_relu(nn.Dense(8 * self.width, kernel_init=HE)(z), 0.2)
        x = nn.leaky_relu(nn.Dense(rows * columns * features, kernel_init=HE)(x), 0.2)
        x = x.reshape(-1, rows, columns, features)
        for stage in reversed(range(self.stages - 1)):
            x = nn.leaky_relu(ConvTranspose4x4(self.width << stage, form=self.conv_form)(x), 0.2)
        return nn.tanh(ConvTranspose4x4(channels, form=self.conv_form)(x))


class UnrolledGenerator(nn.Module):
    """A dense layer to 4x4, three transposed 3x3 convolutions of stride 2, ReLU, a 3x3 convolution and tanh.

    Channels (8, 4, 2, 1) width. The tiny generator of the Stacked MNIST test in Metz et al., Unrolled generative
    adversarial networks (2017), appendix, with width 8, without batch normalisation. Images are cut to their size at each
    stage: 4, 7, 14, 28.
    """

    image_shape: tuple[int, int, int]
    width: int = 8

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        sizes = [self.image_shape[:2]]
        for _ in range(3):
            height, width = sizes[0]
            sizes.insert(0, (-(-height // 2), -(-width // 2)))
        (rows, columns), *later = sizes
        x = nn.relu(nn.Dense(rows * columns * 8 * self.width, kernel_init=HE)(z))
        x = x.reshape(-1, rows, columns, 8 * self.width)
        for factor, size in zip((4, 2, 1), later, strict=True):
            x = nn.relu(RowConvTranspose3x3(factor * self.width, size)(x))
        return nn.tanh(RowConv3x3(self.image_shape[2])(x))
