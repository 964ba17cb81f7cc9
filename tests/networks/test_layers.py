"""The matrix forms of the strided convolutions against Flax's layers, against XLA's convolutions and by definition."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, normal, random_params

from saegan_jax.networks.discriminators import DCGANDiscriminator
from saegan_jax.networks.generators import DCGANGenerator
from saegan_jax.networks.layers import (
    Conv3x3,
    Conv4x4,
    ConvTranspose4x4,
    RowConv3x3,
    RowConvTranspose3x3,
    conv3x3,
    conv4x4,
    conv4x4_transpose,
    downsample,
    upsample,
)

# (height, width, c_in, c_out): smallest, odd channels and not square, one row of outputs.
SHAPES = [(2, 2, 1, 1), (6, 10, 3, 5), (2, 8, 5, 2)]
LAYERS = {
    "conv": (Conv4x4, lambda n: nn.Conv(n, (4, 4), strides=(2, 2), padding=1)),
    "transpose": (ConvTranspose4x4, lambda n: nn.ConvTranspose(n, (4, 4), strides=(2, 2), padding="SAME")),
}


def inputs(shape, *, batch=2):
    h, w, c_in, c_out = shape
    kernel, bias = normal(4, 4, c_in, c_out, seed=1), normal(c_out, seed=2)
    return normal(batch, h, w, c_in, seed=3), {"params": {"kernel": kernel, "bias": bias}}


def value_and_gradients(module, params, x):
    """The output, and the gradients of a fixed random functional of it with respect to parameters and input."""
    y, pullback = jax.vjp(module.apply, params, x)
    return y, pullback(normal(*y.shape, seed=4))


def compare(got_module, want_module, params, x):
    """Values and gradients of two modules with the same parameters."""
    got, want = jax.jit(lambda p, x: [value_and_gradients(m, p, x) for m in (got_module, want_module)])(params, x)
    assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["matrix", "native"])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_flax_layer_in_value_and_gradient(kind, shape, form):
    layer, reference = LAYERS[kind]
    x, params = inputs(shape)
    ours, theirs = layer(shape[3], form=form), reference(shape[3])
    # The same parameter tree, so that weights move freely.
    for module in (ours, theirs):
        assert jax.tree.map(jnp.shape, jax.eval_shape(module.init, jax.random.key(0), x)) == jax.tree.map(
            jnp.shape, params
        )
    compare(ours, theirs, params, x)


def test_conv_by_definition():
    x, params = inputs((4, 6, 3, 2))
    kernel, x64 = np.asarray(params["params"]["kernel"], np.float64), np.asarray(x, np.float64)
    want = np.zeros((2, 2, 3, 2))
    for i, j, r, s in np.ndindex(2, 3, 4, 4):
        row, column = 2 * i + r - 1, 2 * j + s - 1
        if 0 <= row < 4 and 0 <= column < 6:
            want[:, i, j] += x64[:, row, column] @ kernel[r, s]
    np.testing.assert_allclose(conv4x4(x, params["params"]["kernel"]), want, rtol=1e-5, atol=1e-5)


def test_transpose_by_definition_also_for_odd_sizes():
    x, params = inputs((3, 5, 3, 2))
    kernel, x64 = np.asarray(params["params"]["kernel"], np.float64), np.asarray(x, np.float64)
    # Along one axis: outputs 2i, 2i+1 take (input offset, row of the kernel) pairs.
    taps = {0: ((-1, 0), (0, 2)), 1: ((0, 1), (1, 3))}
    want = np.zeros((2, 6, 10, 2))
    for i, j, p, q in np.ndindex(3, 5, 2, 2):
        for di, r in taps[p]:
            for dj, s in taps[q]:
                if 0 <= i + di < 3 and 0 <= j + dj < 5:
                    want[:, 2 * i + p, 2 * j + q] += x64[:, i + di, j + dj] @ kernel[r, s]
    np.testing.assert_allclose(conv4x4_transpose(x, params["params"]["kernel"]), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_vmap_over_weights(kind):
    layer, reference = LAYERS[kind]
    x, params = inputs((4, 6, 3, 2))
    scales = (1.0, -0.5, 2.0)
    stacked = jax.tree.map(lambda p: jnp.stack([c * p for c in scales]), params)
    got = jax.jit(jax.vmap(lambda p: value_and_gradients(layer(2), p, x)))(stacked)
    alone = jax.jit(lambda p: value_and_gradients(reference(2), p, x))
    for i, c in enumerate(scales):
        want = alone(jax.tree.map(lambda p, c=c: c * p, params))
        assert_close(jax.tree.map(lambda a, i=i: a[i], got), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 5, 4, 3), (1, 4, 5, 3)])
def test_odd_size_raises(shape):
    with pytest.raises(ValueError, match=r"must be even.*pad them"):
        conv4x4(jnp.zeros(shape), jnp.zeros((4, 4, 3, 2)))


@pytest.mark.parametrize("kernel", [(4, 4, 2, 5), (3, 3, 3, 5), (4, 2, 3, 5)])
@pytest.mark.parametrize("function", [conv4x4, conv4x4_transpose])
def test_kernel_of_another_shape_raises(function, kernel):
    with pytest.raises(ValueError, match=r"kernel must have shape \(4, 4, 3, c_out\)"):
        function(jnp.zeros((1, 4, 4, 3)), jnp.zeros(kernel))


@pytest.mark.parametrize("layer", [Conv4x4, ConvTranspose4x4])
def test_unknown_form_raises(layer, key):
    with pytest.raises(ValueError, match="'auto', 'matrix' or 'native', got 'fft'"):
        layer(2, form="fft").init(key, jnp.zeros((1, 4, 4, 3)))


@pytest.mark.parametrize("layer", [Conv4x4(2), ConvTranspose4x4(2), Conv3x3(2)])
def test_the_platform_of_a_program_decides_the_form(layer, key):
    """A program for a TPU can be made without one."""
    x = jnp.zeros((1, 4, 4, 3))
    traced = jax.jit(jax.grad(lambda params, x: jnp.sum(layer.apply(params, x)))).trace(layer.init(key, x), x)
    native = {
        name: "convolution" in traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda", "tpu")
    }
    assert native == {"cpu": False, "cuda": False, "tpu": True}


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (lambda form: DCGANGenerator((8, 12, 3), width=2, conv_form=form), (2, 5)),
        (lambda form: DCGANDiscriminator(width=3, conv_form=form), (2, 8, 12, 3)),
    ],
    ids=["generator", "discriminator"],
)
def test_dcgan_is_the_same_function_in_both_forms(network, shape):
    x = normal(*shape, seed=5)
    compare(network("matrix"), network("native"), random_params(network("matrix"), x), x)


# (shape, groups): a single pixel, odd sizes and not square, two groups of unequal inputs and outputs, depthwise.
GROUPED = [((1, 1, 2, 3), 1), ((5, 4, 3, 2), 1), ((4, 5, 4, 6), 2), ((3, 4, 4, 4), 4)]


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("form", ["matrix", "native"])
@pytest.mark.parametrize(("shape", "groups"), GROUPED)
def test_3x3_equals_the_flax_layer_in_value_and_gradient(shape, groups, form, use_bias, key):
    h, w, c_in, c_out = shape
    x, params = inputs((h, w, c_in, c_out))
    params = {"params": {"kernel": normal(3, 3, c_in // groups, c_out, seed=1), "bias": params["params"]["bias"]}}
    if not use_bias:
        del params["params"]["bias"]
    ours = Conv3x3(c_out, groups, form, use_bias=use_bias)
    theirs = nn.Conv(c_out, (3, 3), padding=1, feature_group_count=groups, use_bias=use_bias)
    for module in (ours, theirs):
        assert jax.tree.map(jnp.shape, jax.eval_shape(module.init, key, x)) == jax.tree.map(jnp.shape, params)
    compare(ours, theirs, params, x)


@pytest.mark.parametrize("groups", [1, 2])
def test_3x3_under_vmap_over_weights(groups):
    x, kernels = normal(2, 4, 5, 4), normal(3, 3, 3, 4 // groups, 6, seed=1)

    def run(layer, kernel):
        return value_and_gradients(layer, {"params": {"kernel": kernel}}, x)

    reference = nn.Conv(6, (3, 3), padding=1, feature_group_count=groups, use_bias=False)
    got = jax.jit(jax.vmap(lambda k: run(Conv3x3(6, groups, use_bias=False), k)))(kernels)
    alone = jax.jit(lambda k: run(reference, k))
    for i, kernel in enumerate(kernels):
        assert_close(jax.tree.map(lambda a, i=i: a[i], got), alone(kernel), rtol=1e-4, atol=1e-4)


def test_3x3_bad_input_raises(key):
    x = jnp.zeros((1, 4, 4, 4))
    for kernel, groups in (((3, 3, 4, 3), 2), ((3, 3, 1, 3), 3), ((3, 3, 4, 2), 0)):
        with pytest.raises(ValueError, match=f"groups must divide the 4 input .*got groups={groups}"):
            conv3x3(x, jnp.zeros(kernel), groups=groups)
    for kernel in ((3, 3, 4, 2), (4, 4, 2, 2)):
        with pytest.raises(ValueError, match=r"kernel must have shape \(3, 3, 2, c_out\)"):
            conv3x3(x, jnp.zeros(kernel), groups=2)
    with pytest.raises(ValueError, match="'auto', 'matrix' or 'native', got 'fft'"):
        Conv3x3(2, form="fft").init(key, x)


@pytest.mark.parametrize("shape", [(1, 1, 2, 3), (6, 4, 3, 2), (5, 8, 2, 3)])
@pytest.mark.parametrize(
    ("layer", "reference"),
    [
        (lambda n, h, w: RowConv3x3(n), lambda n: nn.Conv(n, (3, 3), padding=1)),
        (lambda n, h, w: RowConv3x3(n, stride=2), lambda n: nn.Conv(n, (3, 3), strides=2, padding=1)),
        (
            lambda n, h, w: RowConvTranspose3x3(n, (2 * h, 2 * w)),
            lambda n: nn.ConvTranspose(n, (3, 3), strides=(2, 2), padding="SAME"),
        ),
    ],
    ids=["same", "half", "transpose"],
)
def test_row_layers_equal_the_flax_layers_in_value_and_gradient(layer, reference, shape, key):
    x, params = inputs(shape)
    params["params"]["kernel"] = params["params"]["kernel"][:3, :3]
    ours = layer(shape[3], *shape[:2])
    assert jax.tree.map(jnp.shape, jax.eval_shape(ours.init, key, x)) == jax.tree.map(jnp.shape, params)
    compare(ours, reference(shape[3]), params, x)


def test_row_transpose_is_cut_to_its_size():
    x, params = inputs((4, 3, 3, 2))
    params["params"]["kernel"] = params["params"]["kernel"][:3, :3]
    whole = jax.jit(RowConvTranspose3x3(2, (8, 6)).apply)(params, x)
    cut = jax.jit(RowConvTranspose3x3(2, (7, 5)).apply)(params, x)
    np.testing.assert_allclose(cut, whole[:, :7, :5], rtol=1e-5, atol=1e-5)


def by_matrix(x, m, n):
    """The rows of each image times ``m`` and its columns times ``n``, in float64."""
    return np.einsum("ih,jw,bhwc->bijc", m, n, np.asarray(x, np.float64))


def low_pass(n):
    """[1, 3, 3, 1] / 8 at every second position of 2n numbers, ``(n, 2n)``."""
    m = np.zeros((n, 2 * n + 2))
    for i in range(n):
        m[i, 2 * i : 2 * i + 4] = np.array([1, 3, 3, 1]) / 8
    return m[:, 1:-1]


def test_resampling_by_definition():
    fine, coarse = normal(2, 6, 10, 3), normal(2, 3, 5, 3, seed=1)
    np.testing.assert_allclose(downsample(fine), by_matrix(fine, low_pass(3), low_pass(5)), rtol=1e-5, atol=1e-6)
    # The adjoint, twice as large along each axis.
    want = by_matrix(coarse, 2 * low_pass(3).T, 2 * low_pass(5).T)
    np.testing.assert_allclose(upsample(coarse), want, rtol=1e-5, atol=1e-6)


def test_resampling_is_bilinear_interpolation_inside():
    coarse = normal(2, 4, 5, 3)
    want = jax.image.resize(coarse, (2, 8, 10, 3), "bilinear")
    np.testing.assert_allclose(upsample(coarse)[:, 1:-1, 1:-1], want[:, 1:-1, 1:-1], rtol=1e-5, atol=1e-5)
    fine = normal(2, 8, 10, 3)
    want = jax.image.resize(fine, (2, 4, 5, 3), "bilinear", antialias=True)
    np.testing.assert_allclose(downsample(fine)[:, 1:-1, 1:-1], want[:, 1:-1, 1:-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("resample", "edge"), [(upsample, 3 / 4), (downsample, 7 / 8)])
def test_resampling_keeps_a_constant_but_for_the_outermost_ring(resample, edge):
    y = np.asarray(resample(jnp.full((1, 8, 10, 2), 0.5)))
    ring = [np.pad(np.ones(n - 2), 1, constant_values=edge) for n in y.shape[1:3]]
    np.testing.assert_allclose(y, np.broadcast_to(0.5 * np.outer(*ring)[None, :, :, None], y.shape), rtol=1e-6)


def test_downsampling_an_odd_side_raises():
    for shape in ((1, 5, 4, 1), (1, 4, 5, 1)):
        with pytest.raises(ValueError, match=r"downsample: .*must be even"):
            downsample(jnp.zeros(shape))
