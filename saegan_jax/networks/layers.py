"""Convolutions as matrix products, interchangeable with Flax's native ones, and resampling by a fixed filter.

XLA's CPU convolutions lose their fast path inside ``lax.scan`` and ``vmap`` turns them into grouped convolutions, slow on
most back ends; a matrix product stays one (batched) matrix product in both. On a TPU the native ones are the faster form by the
compiler's estimate (docs/scale.md). A GPU keeps the matrix form, as nothing was measured there. The parameters are those of
``nn.Conv`` and ``nn.ConvTranspose`` (``kernel (height, width, c_in, c_out)``, ``bias (c_out,)``), so weights move between the
two forms freely.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

ConvForm = Literal["auto", "matrix", "native"]
FORMS = ("auto", "matrix", "native")
"""``auto`` is native on a TPU and matrix elsewhere, chosen by the platform that a program is lowered for."""

# For layers that a (leaky) ReLU follows. A pixel of a transposed convolution of stride 2 reads a quarter of the kernel, so that
# its true fan-in is a quarter of the one that initialisers compute.
HE = nn.initializers.he_normal()
HE_TRANSPOSED = nn.initializers.variance_scaling(4 * 2.0, "fan_in", "truncated_normal")


# With at least so many input channels, one product is made for all rows of the kernel and the results are added where rows
# overlap: a half (4x4) or a third (3x3) of the windows are copied. With fewer channels the results are larger than the windows.
FEW_CHANNELS = 8


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
    h, w = height // 2, width // 2
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Space to depth.
    x = x.reshape(b, h + 1, 2, w + 1, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h + 1, w + 1, 4 * c)
    # Row r of the kernel is 2u + p: neighbour u in the space-to-depth image, phase p inside its block; column s is 2v + q.
    # The products are of matrices with two axes: with more, the kernel's gradient would transpose all windows in memory.
    k = kernel.reshape(2, 2, 2, 2, c, -1)  # (u, p, v, q, c, o)
    if c < FEW_CHANNELS:
        windows = [x[:, u : u + h, v : v + w] for u in (0, 1) for v in (0, 1)]
        k = k.transpose(0, 2, 1, 3, 4, 5).reshape(16 * c, -1)
        return (jnp.concatenate(windows, axis=-1).reshape(-1, 16 * c) @ k).reshape(b, h, w, -1)
    columns = jnp.concatenate([x[:, :, :-1], x[:, :, 1:]], axis=-1)
    k = k.transpose(2, 1, 3, 4, 0, 5).reshape(8 * c, -1)
    y = (columns.reshape(-1, 8 * c) @ k).reshape(b, h + 1, w, 2, -1)
    return y[:, :h, :, 0] + y[:, 1:, :, 1]


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
    # The product comes first, then the sum over neighbours: every pixel is multiplied once, and only outputs are copied, which
    # have few channels where images are large. In the output with one more pixel on each side, row 2i + t is x[i] K[3 - t] plus
    # the other neighbour's part; t is 2u + p: neighbour u of the block of 2x2 outputs, phase p inside it.
    k = kernel[::-1, ::-1].reshape(2, 2, 2, 2, c, c_out).transpose(4, 0, 2, 1, 3, 5).reshape(c, 16 * c_out)
    parts = (x.reshape(-1, c) @ k).reshape(b, h, w, 2, 2, 4 * c_out)
    neighbours = [(u, v) for u in (0, 1) for v in (0, 1)]
    padded = [jnp.pad(parts[:, :, :, u, v], ((0, 0), (u, 1 - u), (v, 1 - v), (0, 0))) for u, v in neighbours]
    y = reduce(jnp.add, padded).reshape(b, h + 1, w + 1, 2, 2, c_out)
    y = y.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h + 2, 2 * w + 2, c_out)  # depth to space
    return y[:, 1:-1, 1:-1]


Convolve = Callable[[jax.Array, jax.Array], jax.Array]


def in_form(form: ConvForm, *, matrix: Convolve, native: Convolve) -> Convolve:
    """The convolution ``(x, kernel) -> y`` in one of :data:`FORMS`.

    Raises:
      ValueError: another form.
    """
    if form not in FORMS:
        raise ValueError(f"form must be 'auto', 'matrix' or 'native', got {form!r}.")
    if form == "auto":
        return partial(jax.lax.platform_dependent, tpu=native, default=matrix)
    return matrix if form == "matrix" else native


def _native_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _native_conv_transpose(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


auto_conv4x4 = in_form("auto", matrix=conv4x4, native=_native_conv)
auto_conv4x4_transpose = in_form("auto", matrix=conv4x4_transpose, native=_native_conv_transpose)


class _Strided(nn.Module):
    """Parameters and bias shared by the two strided layers."""

    features: int
    form: ConvForm = "auto"

    def _apply(
        self,
        x: jax.Array,
        kernel_init: Callable[..., jax.Array],
        matrix: Convolve,
        native: Convolve,
    ) -> jax.Array:
        convolve = in_form(self.form, matrix=matrix, native=native)
        kernel = self.param("kernel", kernel_init, (4, 4, x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return convolve(x, kernel) + bias.reshape(1, 1, 1, -1)


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


def conv3x3(x: jax.Array, kernel: jax.Array, *, groups: int = 1) -> jax.Array:
    """3x3 convolution of stride 1 with one pixel of zero padding, as one matrix product, batched over the groups.

    ``y[b, i, j, o] = sum_{r, s, c} x[b, i + r - 1, j + s - 1, g c_in / groups + c] kernel[r, s, c, o]``, where output ``o``
    belongs to group ``g = floor(o groups / c_out)``.

    Args:
      x: ``(batch, height, width, c_in)``.
      kernel: ``(3, 3, c_in / groups, c_out)``.
      groups: number of equal parts of the channels, each read by one part of the outputs only; it divides both numbers.

    Returns:
      ``(batch, height, width, c_out)``, equal to ``nn.Conv(c_out, (3, 3), padding=1, feature_group_count=groups)`` up to
      rounding.

    Raises:
      ValueError: groups that do not divide the channels, or a kernel of another shape.
    """
    b, h, w, c = x.shape
    if groups < 1 or c % groups or kernel.shape[-1] % groups:
        raise ValueError(
            f"conv3x3: groups must divide the {c} input and {kernel.shape[-1]} output channels, got groups={groups}."
        )
    if kernel.shape[:3] != (3, 3, c // groups):
        raise ValueError(
            f"conv3x3: kernel must have shape (3, 3, {c // groups}, c_out) for {c} input channels in groups={groups}, "
            f"got {kernel.shape}."
        )
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    if groups == 1 and c < FEW_CHANNELS:
        taps = jnp.concatenate([x[:, r : r + h, s : s + w] for r in range(3) for s in range(3)], axis=-1)
        return (taps.reshape(-1, 9 * c) @ kernel.reshape(9 * c, -1)).reshape(b, h, w, -1)
    # The batched product needs the groups on the first axis. They are moved there before the columns are taken, which make the
    # images three times as large.
    m = c // groups
    x = x.reshape(b, h + 2, w + 2, groups, m).transpose(3, 0, 1, 2, 4)
    columns = jnp.concatenate([x[:, :, :, s : s + w] for s in range(3)], axis=-1).reshape(groups, -1, 3 * m)
    k = kernel.reshape(3, 3, m, groups, -1).transpose(3, 1, 2, 0, 4).reshape(groups, 3 * m, -1)
    y = (columns @ k).reshape(groups, b, h + 2, w, 3, -1)
    y = y[:, :, :h, :, 0] + y[:, :, 1:-1, :, 1] + y[:, :, 2:, :, 2]
    return y.transpose(1, 2, 3, 0, 4).reshape(b, h, w, -1)


def _native_conv3x3(x: jax.Array, kernel: jax.Array, *, groups: int = 1) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=numbers, feature_group_count=groups
    )


auto_conv3x3 = in_form("auto", matrix=conv3x3, native=_native_conv3x3)


class Conv3x3(nn.Module):
    """3x3 convolution, stride 1: ``(b, h, w, c) -> (b, h, w, features)``; see :func:`conv3x3`."""

    features: int
    groups: int = 1
    form: ConvForm = "auto"
    use_bias: bool = True
    kernel_init: Callable[..., jax.Array] = HE

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        matrix, native = partial(conv3x3, groups=self.groups), partial(_native_conv3x3, groups=self.groups)
        convolve = in_form(self.form, matrix=matrix, native=native)
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1] // self.groups, self.features), jnp.float32)
        y = convolve(x, kernel)
        if not self.use_bias:
            return y
        return y + self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32).reshape(1, 1, 1, -1)


def _resample(x: jax.Array, axis: int, *, up: bool) -> jax.Array:
    """:func:`upsample` or :func:`downsample` along one axis."""
    n = x.shape[axis]
    padded = jnp.pad(x, [(int(a == axis), int(a == axis)) for a in range(x.ndim)])

    def part(start: int, step: int = 1) -> jax.Array:
        return jax.lax.slice_in_dim(padded, start, start + (n if up else n - 1), step, axis)

    if up:
        y = jnp.stack([0.75 * x + 0.25 * part(0), 0.75 * x + 0.25 * part(2)], axis + 1)
        return y.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])
    return 0.125 * (part(0, 2) + part(3, 2)) + 0.375 * (part(1, 2) + part(2, 2))


def upsample(x: jax.Array) -> jax.Array:
    """Twice the height and width by bilinear interpolation, the separable filter [1, 3, 3, 1] / 4 on pixels two apart.

    ``y[2i] = (x[i-1] + 3 x[i]) / 4`` and ``y[2i+1] = (3 x[i] + x[i+1]) / 4`` along both axes. Zeros lie outside: a constant
    image stays constant but for its outermost ring, where it is 3/4 as large, 9/16 in the corners. [1, 3, 3, 1] is the
    [1, 2, 1] that R3GAN is configured with, convolved with the nearest neighbour's [1, 1].

    Args:
      x: ``(batch, height, width, channels)``.

    Returns:
      ``(batch, 2 height, 2 width, channels)``; four times the adjoint of :func:`downsample`.

    Source: Huang et al., The GAN is dead; long live the GAN! A modern baseline GAN, 2024, and their code.
    """
    return _resample(_resample(x, 1, up=True), 2, up=True)


def downsample(x: jax.Array) -> jax.Array:
    """Half the height and width after the separable low-pass filter [1, 3, 3, 1] / 8.

    ``y[i] = (x[2i-1] + 3 x[2i] + 3 x[2i+1] + x[2i+2]) / 8`` along both axes. Zeros lie outside: a constant image stays
    constant but for its outermost ring, where it is 7/8 as large, 49/64 in the corners.

    Args:
      x: ``(batch, height, width, channels)``, height and width even.

    Returns:
      ``(batch, height / 2, width / 2, channels)``; a quarter of the adjoint of :func:`upsample`.

    Raises:
      ValueError: an odd height or width.

    Source: Huang et al., The GAN is dead; long live the GAN! A modern baseline GAN, 2024, and their code.
    """
    if x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(f"downsample: height and width must be even, got images of shape {x.shape}; pad them first.")
    return _resample(_resample(x, 1, up=False), 2, up=False)


def row_conv3x3(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """3x3 convolution with one pixel of zero padding, a whole row of the image at a time, for few channels.

    ``y[b, i, j, o] = sum_{r, s, c} x[b, t i + r - 1, t j + s - 1, c] kernel[r, s, c, o]``, t the stride. Three rows of the
    image times a banded matrix, ``(3 w c, w' o)``, in which the kernel is repeated along the diagonals: more multiplications
    than the convolution, but of a shape that matrix units are fast at, without copying pixels of a few channels one by one.

    Args:
      x: ``(batch, height, width, c_in)``.
      kernel: ``(3, 3, c_in, c_out)``.
      stride: 1 or 2.

    Returns:
      ``(batch, ceil(height / t), ceil(width / t), c_out)``, equal to ``nn.Conv(c_out, (3, 3), t, padding=1)`` up to rounding.

    Raises:
      ValueError: a kernel of another shape.
    """
    b, h, w, c = x.shape
    _check_kernel3x3("row_conv3x3", kernel, c)
    rows, columns = -(-h // stride), -(-w // stride)
    v, j, s = np.ogrid[:w, :columns, :3]
    band = _band(kernel, v == stride * j + s - 1)
    x = jnp.pad(x.reshape(b, h, w * c), ((0, 0), (1, 1), (0, 0)))
    taps = jnp.concatenate([x[:, r : r + stride * (rows - 1) + 1 : stride] for r in range(3)], axis=-1)
    return (taps @ band.reshape(3 * w * c, -1)).reshape(b, rows, columns, -1)


def row_conv3x3_transpose(x: jax.Array, kernel: jax.Array, *, size: tuple[int, int]) -> jax.Array:
    """Transposed 3x3 convolution of stride 2, a whole row at a time as in :func:`row_conv3x3`, cut to ``size``.

    ``y[b, 2i] = x[b, i-1] K[0] + x[b, i] K[2]`` and ``y[b, 2i+1] = x[b, i] K[1]`` along both axes.

    Args:
      x: ``(batch, height, width, c_in)``.
      kernel: ``(3, 3, c_in, c_out)``.
      size: height and width of the result, at most twice those of ``x``.

    Returns:
      ``(batch, *size, c_out)``: the first rows and columns of ``nn.ConvTranspose(c_out, (3, 3), (2, 2), "SAME")``.

    Raises:
      ValueError: a kernel of another shape.
    """
    b, h, w, c = x.shape
    _check_kernel3x3("row_conv3x3_transpose", kernel, c)
    rows, columns = size
    v, j, s = np.ogrid[:w, :columns, :3]
    band = _band(kernel, j == 2 * v + 2 - s)
    x = x.reshape(b, h, w * c)
    before = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    even = jnp.concatenate([before, x], axis=-1) @ jnp.concatenate([band[0], band[2]])
    y = jnp.stack([even, x @ band[1]], axis=2).reshape(b, 2 * h, columns, -1)
    return y[:, :rows]


def _band(kernel: jax.Array, hits: np.ndarray) -> jax.Array:
    """``(3, w c_in, w' c_out)``: for each row of the kernel the matrix that applies it to a whole row of the image.

    ``hits (w, w', 3)`` says which of its three columns meets input column v for output column j.
    """
    band = jnp.einsum("vjs,rsco->rvcjo", hits.astype(kernel.dtype), kernel)
    w, columns, _ = hits.shape
    return band.reshape(3, w * kernel.shape[2], columns * kernel.shape[3])


def _check_kernel3x3(name: str, kernel: jax.Array, c: int) -> None:
    if kernel.shape[:3] != (3, 3, c):
        raise ValueError(
            f"{name}: kernel must have shape (3, 3, {c}, c_out) for {c} input channels, got {kernel.shape}."
        )


class RowConv3x3(nn.Module):
    """3x3 convolution for few channels, ``(b, h, w, c) -> (b, ceil(h/t), ceil(w/t), features)``; see :func:`row_conv3x3`."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", HE, (3, 3, x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return row_conv3x3(x, kernel, stride=self.stride) + bias.reshape(1, 1, 1, -1)


class RowConvTranspose3x3(nn.Module):
    """Transposed 3x3 convolution for few channels, see :func:`row_conv3x3_transpose`.

    ``(b, h, w, c) -> (b, *size, features)``.
    """

    features: int
    size: tuple[int, int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", HE_TRANSPOSED, (3, 3, x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return row_conv3x3_transpose(x, kernel, size=self.size) + bias.reshape(1, 1, 1, -1)
