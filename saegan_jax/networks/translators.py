"""CycleGAN's image to image networks: ``(batch, height, width, channels)`` in [-1, 1]."""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from saegan_jax.networks.layers import (
    HE,
    HE_TRANSPOSED,
    RowConv3x3,
    auto_conv3x3,
    auto_conv4x4,
    auto_conv4x4_transpose,
    row_conv3x3,
)

EPSILON = 1e-5


def instance_norm(x: jax.Array) -> jax.Array:
    """Every channel of every image to mean 0 and variance 1: ``(x - mean) / sqrt(var + 1e-5)``, both over its pixels.

    Args:
      x: ``(batch, height, width, channels)``.

    Returns:
      The same shape; without learned scale or shift, as CycleGAN's own code has it.

    Source: Ulyanov, Vedaldi and Lempitsky, Instance normalization, 2016, eq. 6.
    """
    mean = x.mean(axis=(1, 2), keepdims=True)
    variance = jnp.mean((x - mean) ** 2, axis=(1, 2), keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + EPSILON)


class _Normed(nn.Module):
    """A convolution and instance normalisation; no bias, as the normalisation would subtract it."""

    features: int
    size: int
    convolve: Callable[[jax.Array, jax.Array], jax.Array]
    kernel_init: Callable[..., jax.Array] = HE

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, x.shape[-1], self.features), jnp.float32)
        return instance_norm(self.convolve(x, kernel))


class ResNetTranslator(nn.Module):
    """CycleGAN's generator: a stem, ``stages`` halvings, ``blocks`` residual blocks, as many doublings, tanh.

    A 3x3 stem of ``width`` channels, 4x4 convolutions of stride 2 that double them, residual blocks of two 3x3 convolutions,
    transposed 4x4 convolutions, a 3x3 convolution to the image; instance norm and ReLU between them. The published one has 7x7
    at both ends and 3x3 at the strides, reflection in place of zeros around the image, 64 channels and 6 or 9 blocks, for
    images of 128 and 256.

    ``mixing`` puts before every block a residual dense layer over the positions of the smallest map, the same for every
    channel: convolutions only move things a few pixels at a time, and a rotation of the whole image moves them far.

    Source: Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial networks, 2017, appendix 7.2;
    the mixing: Tolstikhin et al., MLP-Mixer, 2021, the first half of eq. 1 without its hidden layer.
    """

    width: int = 32
    stages: int = 2
    blocks: int = 6
    mixing: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        x = nn.relu(_Normed(self.width, 3, partial(row_conv3x3, stride=1), name="stem")(x))
        for stage in range(self.stages):
            x = nn.relu(_Normed(self.width << (stage + 1), 4, auto_conv4x4, name=f"down_{stage}")(x))
        features = self.width << self.stages
        for block in range(self.blocks):
            if self.mixing:
                b, h, w, c = x.shape
                positions = x.reshape(b, h * w, c).swapaxes(1, 2)
                moved = nn.Dense(h * w, use_bias=False, name=f"mixing_{block}")(positions)
                x = x + instance_norm(moved.swapaxes(1, 2).reshape(b, h, w, c))
            y = nn.relu(_Normed(features, 3, auto_conv3x3, name=f"block_{block}_0")(x))
            x = x + _Normed(features, 3, auto_conv3x3, name=f"block_{block}_1")(y)
        for stage in reversed(range(self.stages)):
            up = _Normed(self.width << stage, 4, auto_conv4x4_transpose, HE_TRANSPOSED, name=f"up_{stage}")
            x = nn.relu(up(x))
        return nn.tanh(RowConv3x3(channels, name="image")(x))


class PatchDiscriminator(nn.Module):
    """PatchGAN's critic: one logit for every patch, ``(batch, height / 2^stages, width / 2^stages)``.

    4x4 convolutions of stride 2 with leaky ReLU 0.2, the first of ``width`` channels and without normalisation, each later one
    of twice as many with instance norm; then a 3x3 convolution to one channel. With ``stages`` 2 a logit sees 18x18 pixels.

    Source: Isola et al., Image-to-image translation with conditional adversarial networks, 2017, appendix 6.1.2.
    """

    width: int = 32
    stages: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # The first layer has a bias, as no normalisation follows that would subtract it.
        kernel = self.param("kernel", HE, (4, 4, x.shape[-1], self.width), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.width,), jnp.float32)
        x = nn.leaky_relu(auto_conv4x4(x, kernel) + bias.reshape(1, 1, 1, -1), 0.2)
        for stage in range(1, self.stages):
            x = nn.leaky_relu(_Normed(self.width << stage, 4, auto_conv4x4, name=f"down_{stage}")(x), 0.2)
        return RowConv3x3(1, name="logits")(x)[..., 0]


class CodeShift(nn.Module):
    """Delta of the sparse translation: codes ``(batch, d_sae)`` to what is added to their pre-activations, same shape.

    Dense layers with ReLU; the last starts at zero, so that a translation starts as the autoencoder's reconstruction. The
    codes are divided by the root of their mean square first, as their scale depends on the autoencoder.
    """

    hidden: Sequence[int] = (256,)

    @nn.compact
    def __call__(self, codes: jax.Array) -> jax.Array:
        size = jnp.sqrt(jnp.mean(codes**2, axis=-1, keepdims=True) + 1e-6)
        x = codes / size
        for features in self.hidden:
            x = nn.relu(nn.Dense(features, kernel_init=HE)(x))
        return size * nn.Dense(codes.shape[-1], kernel_init=nn.initializers.zeros_init())(x)
