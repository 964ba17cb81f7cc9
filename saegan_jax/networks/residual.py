"""The residual generator and critic of R3GAN: no normalisation, grouped convolutions, resampling by interpolation."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from saegan_jax.errors import require, require_positive
from saegan_jax.networks.discriminators import beside, head
from saegan_jax.networks.layers import Conv3x3, ConvForm, downsample, upsample

_SLOPE = 0.2
_LAYERS = 3  # linear layers in a block
# The paper's code draws every kernel from a normal distribution of variance gain^2 / fan-in; 1 where no activation follows.
_PLAIN = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


def _widths(width: int, stages: int) -> list[int]:
    """Channels at each resolution, the image's first."""
    return [width * 2 ** min(stage, 3) for stage in range(stages + 1)]


def _check(
    field: str, shape: tuple[int, ...], width: int, stages: int, blocks: int, expansion: int, group: int
) -> None:
    require_positive(width=width, blocks=blocks, expansion=expansion, group_size=group)
    require(stages >= 0, "stages", stages, "give the number of halvings, 0 or more.")
    require(
        shape[0] % 2**stages == 0 and shape[1] % 2**stages == 0,
        field, shape, f"height and width must be divisible by 2^stages = {2**stages}; pad the images or take fewer stages.",
    )  # fmt: skip


class ResidualBlock(nn.Module):
    """``x + W3 lrelu(W2 * lrelu(W1 x + b1) + b2)``: 1x1, grouped 3x3 and 1x1 convolutions, leaky ReLU 0.2.

    W1 widens the channels ``expansion`` times, an inverted bottleneck; W2 sees them in groups of ``group_size``, or all at
    once where they are fewer; W3, without a bias, narrows them again. W3 starts at zero, so that the block starts as the
    identity, and W1 and W2 at He's scale times ``depth^(-1/(2m - 2))`` with m = 3 layers (Fixup): the function that the
    network computes then moves by as much in a step however many blocks it has.

    Raises (at init and apply):
      ConfigError: a ``group_size`` that neither divides the inner channels nor is at least as large.

    Source: Huang et al., The GAN is dead; long live the GAN! A modern baseline GAN, 2024; Zhang et al., Fixup
    initialization: residual learning without normalization, 2019.
    """

    depth: int
    expansion: int = 2
    group_size: int = 16
    conv_form: ConvForm = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        inner = channels * self.expansion
        require(
            self.group_size >= inner or inner % self.group_size == 0,
            "group_size", self.group_size, f"it must divide the {inner} channels inside a block, or be at least as large.",
        )  # fmt: skip
        gain = 2 / (1 + _SLOPE**2) * self.depth ** (-2 / (2 * _LAYERS - 2))
        init = nn.initializers.variance_scaling(gain, "fan_in", "normal")
        groups = max(1, inner // self.group_size)
        y = nn.leaky_relu(nn.Dense(inner, kernel_init=init)(x), _SLOPE)
        y = nn.leaky_relu(Conv3x3(inner, groups, self.conv_form, kernel_init=init)(y), _SLOPE)
        return x + nn.Dense(channels, use_bias=False, kernel_init=nn.initializers.zeros_init())(y)


class DepthwiseProduct(nn.Module):
    """``y[b, c] = sum_{i, j} x[b, i, j, c] kernel[i, j, 0, c]``: ``(batch, h, w, c)`` to ``(batch, c)``.

    A depthwise convolution whose window is the whole image; ``kernel (h, w, 1, c)`` as ``nn.Conv`` has it.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", _PLAIN, (*x.shape[1:3], 1, x.shape[3]), jnp.float32)
        return (x * kernel.reshape(1, *x.shape[1:])).sum(axis=(1, 2))


class ResidualGenerator(nn.Module):
    """Latents ``(batch, d_latent)`` to images ``(batch, height, width, channels)``: R3GAN's generator.

    The lowest resolution is a learned array of ``(height, width, channels) / 2^stages`` whose channels are multiplied by a
    linear map of z, without a bias. Each resolution has ``blocks`` residual blocks; a 1x1 convolution (where the number of
    channels changes) and interpolation lead to the next; a 1x1 convolution makes the image. There are ``width`` channels
    next to the image and twice as many at each lower resolution, up to 8 width.

    There is no tanh, as in the paper: images are meant for (-1, 1) but may leave it, so whoever stores or shows them clips
    them to it.

    Raises (at init and apply):
      ConfigError: a side of ``image_shape`` not divisible by ``2^stages``, or a number that is not positive.

    Source: Huang et al., The GAN is dead; long live the GAN! A modern baseline GAN, 2024, section 3.2 and their code.
    """

    image_shape: tuple[int, int, int]
    width: int = 32
    stages: int = 2
    blocks: int = 1
    expansion: int = 2
    group_size: int = 16
    conv_form: ConvForm = "auto"

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        sizes = (self.width, self.stages, self.blocks, self.expansion, self.group_size)
        _check("image_shape", self.image_shape, *sizes)
        height, width, channels = self.image_shape
        widths = _widths(self.width, self.stages)
        depth = self.blocks * len(widths)
        basis_shape = (height >> self.stages, width >> self.stages, widths[-1])
        basis = self.param("basis", nn.initializers.normal(1.0), basis_shape, jnp.float32)
        scale = nn.Dense(widths[-1], use_bias=False, kernel_init=_PLAIN)(z)
        x = basis.reshape(1, *basis_shape) * scale.reshape(-1, 1, 1, widths[-1])
        for stage, features in reversed(list(enumerate(widths))):
            if x.shape[-1] != features:
                # Before the resampling, where it is a quarter of the work.
                x = nn.Dense(features, use_bias=False, kernel_init=_PLAIN)(x)
            if stage < self.stages:
                x = upsample(x)
            for _ in range(self.blocks):
                x = ResidualBlock(depth, self.expansion, self.group_size, self.conv_form)(x)
        return nn.Dense(channels, use_bias=False, kernel_init=_PLAIN)(x)


class ResidualDiscriminator(nn.Module):
    """Images ``(batch, height, width, channels)`` to logits ``(batch,)``: R3GAN's critic, the generator's mirror.

    A 1x1 convolution reads the image; each resolution has ``blocks`` residual blocks; interpolation and a 1x1 convolution
    (where the number of channels changes) lead to the next; at the lowest one each channel's product with a learned image
    gives one feature, and the features the logit. Channels as in :class:`ResidualGenerator`. With classes, ``label
    (batch,)`` int32 enters by projection (:func:`saegan_jax.networks.discriminators.head`).

    Raises (at init and apply):
      ConfigError: an image side not divisible by ``2^stages``, or a number that is not positive.
      ValueError: a label without classes, or classes without a label.

    Source: Huang et al., The GAN is dead; long live the GAN! A modern baseline GAN, 2024, section 3.2 and their code.
    """

    width: int = 32
    stages: int = 2
    blocks: int = 1
    expansion: int = 2
    group_size: int = 16
    conv_form: ConvForm = "auto"
    n_classes: int = 0

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, side: jax.Array | None = None, code: jax.Array | None = None
    ) -> jax.Array:
        _check("image shape", x.shape[1:], self.width, self.stages, self.blocks, self.expansion, self.group_size)
        widths = _widths(self.width, self.stages)
        depth = self.blocks * len(widths)
        x = nn.Dense(self.width, use_bias=False, kernel_init=_PLAIN)(x)
        for stage, features in enumerate(widths):
            if stage:
                x = downsample(x)
            if x.shape[-1] != features:
                x = nn.Dense(features, use_bias=False, kernel_init=_PLAIN)(x)
            for _ in range(self.blocks):
                x = ResidualBlock(depth, self.expansion, self.group_size, self.conv_form)(x)
        return head(beside(DepthwiseProduct()(x), side), label, self.n_classes, code)
