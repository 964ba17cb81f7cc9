"""R3GAN's networks: shapes, the identity at the start, gradients, and their parts by definition."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, normal, numpy_leaves, random_params

from saegan_jax.errors import ConfigError
from saegan_jax.networks.residual import DepthwiseProduct, ResidualBlock, ResidualDiscriminator, ResidualGenerator
from saegan_jax.networks.spectral import spectral_init

SMALL = {"width": 2, "stages": 1, "blocks": 1, "group_size": 4}


def generator(shape=(4, 8, 3), **kwargs):
    return ResidualGenerator(shape, **{**SMALL, **kwargs})


def critic(**kwargs):
    return ResidualDiscriminator(**{**SMALL, **kwargs})


@pytest.mark.parametrize(
    ("shape", "stages", "width", "blocks"), [((8, 8, 1), 1, 4, 1), ((28, 28, 1), 2, 32, 1), ((64, 64, 3), 4, 8, 2)]
)
def test_shapes(key, shape, stages, width, blocks):
    g = ResidualGenerator(shape, width=width, stages=stages, blocks=blocks)
    d = ResidualDiscriminator(width=width, stages=stages, blocks=blocks)
    z, x = jax.ShapeDtypeStruct((3, 7), jnp.float32), jax.ShapeDtypeStruct((3, *shape), jnp.float32)
    images, logits = (jax.eval_shape(lambda z, m=m: m.init_with_output(key, z)[0], z) for m, z in ((g, z), (d, x)))
    assert (images.shape, images.dtype) == ((3, *shape), jnp.float32)
    assert (logits.shape, logits.dtype) == ((3,), jnp.float32)


def test_parameters(key):
    """`width` channels next to the image, twice as many at each lower resolution, at most eight times as many."""
    g = jax.tree.map(
        jnp.shape, jax.eval_shape(generator((32, 64, 3), stages=4, blocks=2).init, key, jnp.zeros((1, 7)))
    )["params"]
    assert g.pop("basis") == (2, 4, 16)
    blocks = [g.pop(f"ResidualBlock_{i}") for i in range(10)]
    for c, block in zip((16, 16, 16, 16, 8, 8, 4, 4, 2, 2), blocks, strict=True):
        assert block == {
            "Dense_0": {"kernel": (c, 2 * c), "bias": (2 * c,)},
            "Conv3x3_0": {"kernel": (3, 3, 4, 2 * c), "bias": (2 * c,)},
            "Dense_1": {"kernel": (2 * c, c)},
        }
    # From z, three changes of width (none between the two lowest resolutions), to the image.
    want = [(7, 16), (16, 8), (8, 4), (4, 2), (2, 3)]
    assert g == {f"Dense_{i}": {"kernel": shape} for i, shape in enumerate(want)}
    d = jax.tree.map(jnp.shape, jax.eval_shape(critic(stages=4, blocks=2).init, key, jnp.zeros((1, 32, 64, 3))))[
        "params"
    ]
    assert [d.pop(f"ResidualBlock_{i}") for i in range(10)] == blocks[::-1]
    assert d.pop("DepthwiseProduct_0") == {"kernel": (2, 4, 1, 16)}
    assert d.pop("Dense_4") == {"kernel": (16, 1), "bias": (1,)}
    assert d == {f"Dense_{i}": {"kernel": shape} for i, shape in enumerate([(3, 2), (2, 4), (4, 8), (8, 16)])}


def test_block_by_hand():
    block, x = ResidualBlock(depth=3, expansion=3, group_size=2), normal(2, 3, 4, 2)
    params = random_params(block, x)
    p, names = params["params"], ("Dense_0", "Conv3x3_0", "Dense_1")
    first, last = nn.Dense(6), nn.Dense(2, use_bias=False)
    middle = nn.Conv(6, (3, 3), padding=1, feature_group_count=3)
    want = x
    for layer, name in zip((first, middle, last), names, strict=True):
        want = layer.apply({"params": p[name]}, want)
        want = nn.leaky_relu(want, 0.2) if layer is not last else x + want
    assert_close(block.apply(params, x), want, rtol=1e-5, atol=1e-5)


def test_a_block_starts_as_the_identity_with_the_scale_of_its_depth(key):
    x = normal(2, 3, 4, 64)
    for depth in (1, 16):
        y, params = ResidualBlock(depth, group_size=16).init_with_output(key, x)
        np.testing.assert_array_equal(y, x)
        p = params["params"]
        for name, fan_in in (("Dense_0", 64), ("Conv3x3_0", 9 * 16)):
            kernel = np.asarray(p[name]["kernel"], np.float64)
            # depth^(-1/4) in standard deviation; 8,192 weights or more tell the variance to 1.6 %.
            want = 2 / 1.04 / fan_in / depth**0.5
            assert abs(kernel.var() / want - 1) < 0.06, (name, depth)


def test_few_channels_make_one_group(key):
    x = jnp.zeros((1, 4, 4, 4))
    for group_size, seen in ((16, 8), (8, 8), (4, 4)):
        params = jax.eval_shape(ResidualBlock(1, group_size=group_size).init, key, x)["params"]
        assert params["Conv3x3_0"]["kernel"].shape == (3, 3, seen, 8)


def test_depthwise_product_is_a_depthwise_convolution_over_the_whole_image():
    x = normal(3, 2, 4, 5)
    params = random_params(DepthwiseProduct(), x)
    reference = nn.Conv(5, (2, 4), padding="VALID", feature_group_count=5, use_bias=False)
    want = reference.apply(params, x).reshape(3, 5)
    assert_close(DepthwiseProduct().apply(params, x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "shape"), [(generator(), (5, 7)), (critic(), (5, 4, 8, 3))], ids=["generator", "critic"]
)
class TestNetworks:
    def test_every_parameter_learns(self, network, shape, key):
        """At the start only what lies behind the zeros gets no gradient; after one step nothing does."""
        x = normal(*shape)

        @jax.jit
        def two_steps():
            params = network.init(key, x)
            target = network.apply(params, normal(*shape, seed=1)) + 1
            gradient = jax.grad(lambda p: jnp.mean((network.apply(p, x) - target) ** 2))
            first = gradient(params)
            return first, gradient(jax.tree.map(lambda p, g: p - 0.1 * g, params, first))

        still = [
            {path for path, g in numpy_leaves(gradients).items() if not np.abs(g).max() > 0}
            for gradients in two_steps()
        ]
        inside = {f"['ResidualBlock_{i}']['{layer}']" for i in range(2) for layer in ("Dense_0", "Conv3x3_0")}
        assert still[0] == {f"['params']{name}['{leaf}']" for name in inside for leaf in ("kernel", "bias")}
        assert still[1] == set()

    def test_examples_do_not_mix(self, network, shape):
        x = normal(*shape)
        params = random_params(network, x)
        y, other = jax.jit(lambda: [network.apply(params, x) for x in (x, x.at[2].add(1.0))])()
        changed = np.abs(np.asarray(y - other)).reshape(5, -1).max(axis=1) > 0
        assert list(changed) == [False, False, True, False, False]
        # Nor is an example the same as another.
        assert np.asarray(y).reshape(5, -1).std(axis=0).min() > 0

    def test_matrix_and_native_form_agree(self, network, shape):
        x = normal(*shape)
        params = random_params(network, x)

        @jax.jit
        def run(params):
            out = []
            for form in ("matrix", "native"):
                y, pullback = jax.vjp(network.clone(conv_form=form).apply, params, x)
                out.append((y, pullback(normal(*y.shape, seed=3))))
            return out

        got, want = run(params)
        assert_close(got, want, rtol=1e-3, atol=1e-3)

    def test_vmap_over_parameters_equals_a_loop(self, network, shape):
        x = normal(*shape)
        members = [random_params(network, x, seed=seed) for seed in range(3)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
        got = jax.jit(jax.vmap(lambda p: network.apply(p, x)))(stacked)
        alone = jax.jit(network.apply)
        assert_close(got, jnp.stack([alone(p, x) for p in members]), rtol=1e-4, atol=1e-4)


def test_classes_enter_by_projection():
    net, x, label = critic(n_classes=4), normal(5, 4, 8, 3), jnp.array([0, 3, 1, 1, 2])
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, label)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.asarray(0.3 * rng.normal(size=s.shape), s.dtype), shapes)
    logits = [np.asarray(jax.jit(net.apply)(params, x, label)) for label in (label, jnp.zeros_like(label))]
    assert [a == b for a, b in zip(*logits, strict=True)] == [True, False, False, False, False]
    with pytest.raises(ValueError, match="n_classes=4 and got no label"):
        net.apply(params, x)


def test_every_weight_of_the_critic_is_within_reach_of_spectral_normalisation(key):
    params = jax.eval_shape(critic().init, key, jnp.zeros((1, 4, 8, 3)))["params"]
    vectors = jax.eval_shape(spectral_init, params, key)
    assert {p for p in numpy_paths(params) if "bias" not in p} == set(numpy_paths(vectors))


def numpy_paths(tree):
    return [jax.tree_util.keystr(path) for path, _ in jax.tree.flatten_with_path(tree)[0]]


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda z, x: (generator((6, 8, 3), stages=2), z), r"image_shape.*\(6, 8, 3\).*divisible by 2\^stages = 4"),
        (lambda z, x: (generator((8, 6, 3), stages=2), z), r"image_shape.*divisible"),
        (lambda z, x: (critic(stages=3), x), r"image shape.*divisible by 2\^stages = 8"),
        (lambda z, x: (critic(group_size=3), x), r"group_size = 3.*divide the 4 channels"),
        (lambda z, x: (generator(blocks=0), z), r"blocks = 0"),
        (lambda z, x: (critic(stages=-1), x), r"stages = -1"),
    ],
)
def test_sizes_that_cannot_work_raise(build, match, key):
    net, x = build(jnp.zeros((1, 7)), jnp.zeros((1, 4, 8, 3)))
    with pytest.raises(ConfigError, match=match):
        jax.eval_shape(net.init, key, x)
