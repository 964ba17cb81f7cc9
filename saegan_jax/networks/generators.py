"""Generators: latent vectors ``(batch, d_latent)`` to images ``(batch, height, width, channels)`` in (-1, 1), or to codes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import flax.linen as nn
import jax

from saegan_jax.activations import topk
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


class CodeGenerator(nn.Module):
    """Dense layers with leaky ReLU 0.2, then the ``k`` largest of the rectified outputs: sparse codes ``(batch, d_sae)``."""

    d_sae: int
    k: int
    hidden: Sequence[int] = (256, 256)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        for features in self.hidden:
            z = nn.leaky_relu(nn.Dense(features, kernel_init=HE)(z), 0.2)
        return topk(nn.Dense(self.d_sae, kernel_init=HE)(z), self.k)


class DCGANGenerator(nn.Module):
    """Transposed convolutions above two dense layers, as DCGAN (Radford et al., 2016) without batch normalisation.

    The discriminator's gradient penalties stabilise the training in its stead, and images stay independent of each other.
    The first dense layer mixes the latents (``mix`` units, by default 8 width); the second makes the smallest image, with
    ``2^stages width`` channels, and each of the ``stages`` doubles it: to ``2^(stages-2) width`` channels first, then half as
    many each time.
    """

    image_shape: tuple[int, int, int]
    width: int = 32
    conv_form: ConvForm = "auto"
    stages: int = 2
    mix: int = 0

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        height, width, channels = self.image_shape
        rows, columns, features = height >> self.stages, width >> self.stages, self.width << self.stages
        x = nn.leaky_relu(nn.Dense(self.mix or 8 * self.width, kernel_init=HE)(z), 0.2)
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


@contextmanager
def rewritten_inputs(rewrite: Callable[[str, jax.Array], jax.Array]) -> Iterator[None]:
    """While open, every layer of a network that is called reads ``rewrite(name, x)`` instead of its input ``x``.

    A layer is a submodule of the network itself, not of another one, under the name that Flax gave it; so the input of the
    layer after a dense one is what left that one's activation function. Takes effect on what is traced inside, hence not on a
    compiled function that was traced before.

    Args:
      rewrite: called once per call of a layer, in their order, with its name and its first argument ``(batch, ...)``; returns
        an array of the same shape, or the array itself.
    """

    def interceptor(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        path = context.module.path
        if context.method_name == "__call__" and len(path) == 1:
            args = (rewrite(path[0], args[0]), *args[1:])
        return call(*args, **kwargs)

    with nn.intercept_methods(interceptor):
        yield
