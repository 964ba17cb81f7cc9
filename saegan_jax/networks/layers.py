"""Stride-2 convolutions as matrix products, interchangeable with Flax's native ones.

XLA's CPU convolutions lose their fast path inside ``lax.scan`` and ``vmap`` turns them into grouped convolutions, slow on
most back ends; a matrix product stays one (batched) matrix product in both. The parameters are those of ``nn.Conv`` and
``nn.ConvTranspose`` (``kernel (4, 4, c_in, c_out)``, ``bias (c_out,)``), so weights move between the two forms freely.
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

ConvForm = Literal["matrix", "native"]

# For layers below a (leaky) ReLU. A pixel of a transposed convolution of stride 2 sees a quarter of the kernel's rows, so that
# its true fan-in is a quarter of the one that initialisers compute.
HE = nn.initializers.he_normal()
HE_TRANSPOSED = nn.initializers.variance_scaling(4 * 2.0, "fan_in", "truncated_normal")


def _windows(x: jax.Array) -> jax.Array:
    """All 2x2 neighbourhoods, ``(b, h, w, c) -> (b, h-1, w-1, 4c)``, ordered (row, column, channel)."""
    h, w = x.shape[1] - 1, x.shape[2] - 1
    return jnp.concatenate([x[:, u : u + h, v : v + w] for u in (0, 1) for v in (0, 1)], axis=-1)


def conv4x4(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """4x4 convolution of stride 2 with one pixel of zero padding, as one matrix product.

    ``y[b, i, j, o] = sum_{r, s, c} x[b, 2i + r - 1, 2j + s - 1, c] kernel[r, s, c, o]``

    Args:
      x: ``(batch, height, width, c_in)``, height and width even.
      kernel: ``(4, 4, c_in, c_out)``.

    Returns:
      ``(batch, height / 2, width / 2, c_out)``, equal to ``nn.Conv(c_out, (4, 4), 2, padding=1)`` up to rounding.

    Raises:
      ValueError: an odd height or width, or a kernel of another shape.
    """
    b, height, width, c = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"conv4x4: height and width must be even, got images of shape {x.shape}; pad them first.")
    if kernel.shape[:3] != (4, 4, c):
        raise ValueError(
            f"conv4x4: kernel must have shape (4, 4, {c}, c_out) for {c} input channels, got {kernel.shape}."
        )
    h, w = height // 2 + 1, width // 2 + 1
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = x.reshape(b, h, 2, w, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, 4 * c)  # space to depth
    # Row r of the kernel is 2u + p: neighbour u in the space-to-depth image, phase p inside its block.
    k = kernel.reshape(2, 2, 2, 2, c, -1).transpose(0, 2, 1, 3, 4, 5).reshape(16 * c, -1)
    return _windows(x) @ k


def conv4x4_transpose(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed 4x4 convolution of stride 2, the mirror of :func:`conv4x4`, as one matrix product.

    ``y[b, 2i] = x[b, i-1] K[0] + x[b, i] K[2]`` and ``y[b, 2i+1] = x[b, i] K[1] + x[b, i+1] K[3]`` along both axes.

    Args:
      x: ``(batch, height, width, c_in)``.
      kernel: ``(4, 4, c_in, c_out)``.

    Returns:
      ``(batch, 2 height, 2 width, c_out)``, equal to ``nn.ConvTranspose(c_out, (4, 4), (2, 2), padding="SAME")`` up to
      rounding.

    Raises:
      ValueError: a kernel of another shape.
    """
    b, h, w, c = x.shape
    if kernel.shape[:3] != (4, 4, c):
        raise ValueError(
            f"conv4x4_transpose: kernel must have shape (4, 4, {c}, c_out) for {c} input channels, got {kernel.shape}."
        )
    c_out = kernel.shape[3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Window i holds x[i-1], x[i] and makes the odd output 2i-1 (rows 1, 3 of the kernel) and the even one 2i (rows 0, 2).
    k = kernel.reshape(2, 2, 2, 2, c, c_out)[:, ::-1, :, ::-1]
    k = k.transpose(0, 2, 4, 1, 3, 5).reshape(4 * c, 4 * c_out)
    y = (_windows(x) @ k).reshape(b, h + 1, w + 1, 2, 2, c_out)
    y = y.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h + 2, 2 * w + 2, c_out)  # depth to space
    return y[:, 1:-1, 1:-1]


def _native_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _native_conv_transpose(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


class _Strided(nn.Module):
    """Parameters and bias shared by the two strided layers."""

    features: int
    form: ConvForm = "matrix"

    def _apply(
        self,
        x: jax.Array,
        kernel_init: Callable[..., jax.Array],
        matrix: Callable[..., jax.Array],
        native: Callable[..., jax.Array],
    ) -> jax.Array:
        if self.form not in ("matrix", "native"):
            raise ValueError(f"form must be 'matrix' or 'native', got {self.form!r}.")
        kernel = self.param("kernel", kernel_init, (4, 4, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        y = (matrix if self.form == "matrix" else native)(x, kernel)
        return y + bias.reshape(1, 1, 1, -1)


class Conv4x4(_Strided):
    """4x4 convolution, stride 2: ``(b, h, w, c) -> (b, h/2, w/2, features)``; see :func:`conv4x4`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self._apply(x, HE, conv4x4, _native_conv)


class ConvTranspose4x4(_Strided):
    """Transposed 4x4 convolution, stride 2: ``(b, h, w, c) -> (b, 2h, 2w, features)``; see :func:`conv4x4_transpose`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self._apply(x, HE_TRANSPOSED, conv4x4_transpose, _native_conv_transpose)
