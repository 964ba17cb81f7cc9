"""Shapes, ranges and parameters of the networks, and their formulas on small ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import normal, random_params

from saegan_jax.algorithms.gan import GANConfig, image_networks
from saegan_jax.errors import ConfigError
from saegan_jax.networks.autoencoders import SparseAutoencoder, symmetric_uniform
from saegan_jax.networks.discriminators import (
    CodeDiscriminator,
    DCGANDiscriminator,
    MLPDiscriminator,
    UnrolledDiscriminator,
)
from saegan_jax.networks.generators import CodeGenerator, DCGANGenerator, MLPGenerator, UnrolledGenerator
from saegan_jax.networks.layers import Conv4x4, ConvTranspose4x4
from saegan_jax.networks.residual import ResidualDiscriminator


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def dense(params, name, x):
    return np.asarray(x) @ np.asarray(params["params"][name]["kernel"]) + np.asarray(params["params"][name]["bias"])


@pytest.mark.parametrize(
    "generator",
    [
        MLPGenerator((4, 8, 3), (6,)),
        DCGANGenerator((4, 8, 3), width=2),
        DCGANGenerator((4, 8, 3), width=2, stages=1),
        UnrolledGenerator((4, 8, 3), width=2),
    ],
    ids=["mlp", "dcgan", "dcgan-1", "unrolled"],
)
def test_generator_draws_images_between_minus_one_and_one(generator):
    z = 20 * normal(5, 7)
    images = np.asarray(jax.jit(generator.apply)(random_params(generator, z), z))
    assert images.shape == (5, 4, 8, 3)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1
    # It uses the range on both sides, and latents matter.
    assert images.min() < -0.5
    assert images.max() > 0.5
    assert (images.std(axis=0) > 0).mean() > 0.95  # all but what tanh saturates


@pytest.mark.parametrize(
    "critic",
    [
        MLPDiscriminator((6,)),
        DCGANDiscriminator(width=2),
        DCGANDiscriminator(width=2, stages=1, hidden=(5,)),
        UnrolledDiscriminator(width=2),
        CodeDiscriminator((6,), width=2),
    ],
    ids=["mlp", "dcgan", "dcgan-1-hidden", "unrolled", "codes"],
)
def test_discriminator_gives_one_logit_per_image_from_that_image_alone(critic):
    x = normal(5, 4, 8, 3)
    params = random_params(critic, x)
    logits, jacobian = jax.jit(lambda x: (critic.apply(params, x), jax.jacrev(lambda x: critic.apply(params, x))(x)))(x)
    assert logits.shape == (5,)
    assert logits.dtype == jnp.float32
    # The gradient penalties rely on it: the Jacobian is block-diagonal over examples.
    own = np.abs(np.asarray(jacobian)).sum(axis=(2, 3, 4))
    assert (np.diag(own) > 0).all()
    np.testing.assert_array_equal(own - np.diag(np.diag(own)), 0)


def test_mlp_generator_by_hand():
    net, z = MLPGenerator((2, 3, 1), (6,)), normal(5, 7)
    params = random_params(net, z)
    want = np.tanh(dense(params, "Dense_1", leaky(dense(params, "Dense_0", z)))).reshape(5, 2, 3, 1)
    np.testing.assert_allclose(jax.jit(net.apply)(params, z), want, rtol=1e-5, atol=1e-6)


def test_mlp_discriminator_by_hand():
    net, x = MLPDiscriminator((6, 4)), normal(5, 2, 3, 2)
    params = random_params(net, x)
    hidden = leaky(dense(params, "Dense_1", leaky(dense(params, "Dense_0", np.reshape(x, (5, -1))))))
    want = dense(params, "Dense_2", hidden)[:, 0]
    np.testing.assert_allclose(jax.jit(net.apply)(params, x), want, rtol=1e-5, atol=1e-6)


def test_code_discriminator_by_hand():
    """Codes of one image as they are; those of positions through one shared layer first."""
    net, x, z = CodeDiscriminator((6,), width=2), normal(5, 2, 3, 4), normal(5, 4)
    at, alone = random_params(net, x), random_params(net, z)
    assert at["params"]["Dense_0"]["kernel"].shape == (2 * 3 * 2, 6)
    assert set(alone["params"]) == {"Dense_0", "Dense_1"}
    logits, one = jax.jit(lambda: (net.apply(at, x), net.apply(alone, z)))()
    positions = leaky(dense(at, "position", x)).reshape(5, -1)
    want = dense(at, "Dense_1", leaky(dense(at, "Dense_0", positions)))[:, 0]
    np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-5)
    want = dense(alone, "Dense_1", leaky(dense(alone, "Dense_0", z)))[:, 0]
    np.testing.assert_allclose(one, want, rtol=1e-4, atol=1e-5)


def test_code_generator_by_hand():
    """The 4 largest of 7 rectified outputs, and all positive ones where there are fewer."""
    net, z = CodeGenerator(7, 4, (6,)), normal(40, 3)
    params = random_params(net, z)
    a = dense(params, "Dense_1", leaky(dense(params, "Dense_0", z)))
    want = np.where((a > 0) & (a >= np.sort(a, axis=1)[:, -4:-3]), a, 0)
    assert set((want > 0).sum(axis=1)) >= {3, 4}
    assert ((a > 0).sum(axis=1) > 4).any()
    np.testing.assert_allclose(jax.jit(net.apply)(params, z), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "critic",
    [
        MLPDiscriminator((6,), scale=20.0),
        DCGANDiscriminator(width=2, stages=1, hidden=(5,)),
        UnrolledDiscriminator(width=2),
        ResidualDiscriminator(width=8, stages=1, group_size=4),
    ],
    ids=["mlp", "dcgan", "unrolled", "residual"],
)
def test_side_joins_where_the_image_has_become_a_vector(critic):
    x, side = normal(5, 4, 4, 1), normal(5, 3)

    def shapes(*more):
        return jax.tree.map(jnp.shape, jax.eval_shape(critic.init, jax.random.key(0), x, None, *more)["params"])

    plain, wider = shapes(), shapes(side)
    # The first layer that reads vectors has 3 more inputs, at their end; all else is as without.
    wide = [name for name in plain if plain[name] != wider[name]]
    assert len(wide) == 1
    n, d = plain[wide[0]]["kernel"]
    assert wider[wide[0]]["kernel"] == (n + 3, d)
    assert plain.keys() == wider.keys()
    rng = np.random.default_rng(0)
    draw = lambda s: jnp.asarray(0.3 * rng.normal(size=s), jnp.float32)  # noqa: E731
    params = {"params": jax.tree.map(draw, wider, is_leaf=lambda s: isinstance(s, tuple))}
    kernel = params["params"][wide[0]]["kernel"]
    blind = {"params": params["params"] | {wide[0]: params["params"][wide[0]] | {"kernel": kernel.at[n:].set(0)}}}
    cut = {"params": params["params"] | {wide[0]: params["params"][wide[0]] | {"kernel": kernel[:n]}}}
    logits, without, alone = jax.jit(
        lambda: (critic.apply(params, x, None, side), critic.apply(blind, x, None, side), critic.apply(cut, x))
    )()
    np.testing.assert_allclose(without, alone, rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(logits) - without).min() > 1e-3
    if critic == MLPDiscriminator((6,), scale=20.0):  # of images alone
        seen = np.concatenate([20 * np.asarray(x).reshape(5, -1), side], axis=1)
        want = dense(params, "Dense_1", leaky(dense(params, "Dense_0", seen)))[:, 0]
        np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-4)


def test_settings_of_one_network_alone(key):
    """`d_hidden` is the discriminator's, empty for a linear one; `mix` the generator's first layer."""
    images, z = jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 7))

    def kernels(**settings):
        nets = image_networks(GANConfig(**settings), (4, 4, 1))
        trees = jax.eval_shape(nets.generator.init, key, z), jax.eval_shape(nets.discriminator.init, key, images)
        return [{name: layer["kernel"].shape for name, layer in tree["params"].items()} for tree in trees]

    generator = {"Dense_0": (7, 5), "Dense_1": (5, 16)}
    assert kernels(hidden=(5,)) == [generator, {"Dense_0": (16, 5), "Dense_1": (5, 1)}]
    two = {"Dense_0": (16, 3), "Dense_1": (3, 2), "Dense_2": (2, 1)}
    assert kernels(hidden=(5,), d_hidden=(3, 2)) == [generator, two]
    assert kernels(hidden=(5,), d_hidden=()) == [generator, {"Dense_0": (16, 1)}]
    mixed, unmixed = (kernels(network="dcgan", width=2, mix=mix) for mix in (9, 0))
    assert mixed[0] == unmixed[0] | {"Dense_0": (7, 9), "Dense_1": (9, 8)}
    assert unmixed[0]["Dense_0"] == (7, 16)
    assert mixed[1] == unmixed[1]
    for field, settings in (("d_hidden", {"d_hidden": (3, 0)}), ("mix", {"mix": -1})):
        with pytest.raises(ConfigError, match=rf"^{field} = "):
            GANConfig(**settings)


def test_no_hidden_layer_is_one_dense_map():
    generator, critic, z, x = MLPGenerator((2, 3, 1), ()), MLPDiscriminator(()), normal(5, 7), normal(5, 2, 3, 1)
    g, d = random_params(generator, z), random_params(critic, x)
    assert list(g["params"]) == list(d["params"]) == ["Dense_0"]
    images, logits = jax.jit(lambda: (generator.apply(g, z), critic.apply(d, x)))()
    np.testing.assert_allclose(images, np.tanh(dense(g, "Dense_0", z)).reshape(5, 2, 3, 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, dense(d, "Dense_0", np.reshape(x, (5, -1)))[:, 0], rtol=1e-5, atol=1e-6)


def test_dcgan_widths(key):
    """`width` channels next to the image in both networks, multiples of it further in."""
    g = jax.eval_shape(DCGANGenerator((8, 4, 3), width=5).init, key, jnp.zeros((1, 7)))["params"]
    assert {name: layer["kernel"].shape for name, layer in g.items()} == {
        "Dense_0": (7, 8 * 5),
        "Dense_1": (8 * 5, 2 * 1 * 4 * 5),
        "ConvTranspose4x4_0": (4, 4, 4 * 5, 5),
        "ConvTranspose4x4_1": (4, 4, 5, 3),
    }
    d = jax.eval_shape(DCGANDiscriminator(width=5).init, key, jnp.zeros((1, 8, 4, 3)))["params"]
    assert {name: layer["kernel"].shape for name, layer in d.items()} == {
        "Conv4x4_0": (4, 4, 3, 5),
        "Conv4x4_1": (4, 4, 5, 10),
        "Dense_0": (2 * 1 * 10, 1),
    }


def test_dcgan_widths_of_other_stages(key):
    g = jax.eval_shape(DCGANGenerator((8, 16, 3), width=5, stages=3).init, key, jnp.zeros((1, 7)))["params"]
    assert {name: layer["kernel"].shape for name, layer in g.items()} == {
        "Dense_0": (7, 8 * 5),
        "Dense_1": (8 * 5, 1 * 2 * 8 * 5),
        "ConvTranspose4x4_0": (4, 4, 8 * 5, 2 * 5),
        "ConvTranspose4x4_1": (4, 4, 2 * 5, 5),
        "ConvTranspose4x4_2": (4, 4, 5, 3),
    }
    critic = DCGANDiscriminator(width=5, stages=3, n_classes=4, hidden=(9, 6))
    x, label = jnp.zeros((1, 8, 16, 3)), jnp.zeros(1, jnp.int32)
    d = jax.eval_shape(critic.init, key, x, label)["params"]
    assert {name: layer["kernel"].shape for name, layer in d.items()} == {
        "Conv4x4_0": (4, 4, 3, 5),
        "Conv4x4_1": (4, 4, 5, 10),
        "Conv4x4_2": (4, 4, 10, 20),
        "Dense_0": (1 * 2 * 20, 9),
        "Dense_1": (9, 6),
        "Dense_2": (6, 1),
        "classes": (6, 4),
    }


def test_unrolled_networks_are_the_published_ones(key):
    """28x28x3 with 256 latents: widths 64, 32, 16, 8 in the generator, and in its critic of a quarter 2, 4, 8."""
    g = jax.eval_shape(UnrolledGenerator((28, 28, 3), width=8).init, key, jnp.zeros((1, 256)))["params"]
    assert {name: layer["kernel"].shape for name, layer in g.items()} == {
        "Dense_0": (256, 4 * 4 * 64),
        "RowConvTranspose3x3_0": (3, 3, 64, 32),
        "RowConvTranspose3x3_1": (3, 3, 32, 16),
        "RowConvTranspose3x3_2": (3, 3, 16, 8),
        "RowConv3x3_0": (3, 3, 8, 3),
    }
    d = jax.eval_shape(UnrolledDiscriminator(width=2).init, key, jnp.zeros((1, 28, 28, 3)))["params"]
    assert {name: layer["kernel"].shape for name, layer in d.items()} == {
        "RowConv3x3_0": (3, 3, 3, 2),
        "RowConv3x3_1": (3, 3, 2, 4),
        "RowConv3x3_2": (3, 3, 4, 8),
        "Dense_0": (4 * 4 * 8, 1),
    }


@pytest.mark.parametrize(
    ("critic", "last", "n"),
    [(MLPDiscriminator((6,), 3), "Dense_1", 6), (DCGANDiscriminator(2, stages=1, n_classes=3), "Dense_0", 8)],
    ids=["mlp", "dcgan"],
)
def test_classes_enter_the_critic_by_projection(critic, last, n):
    """w.h + b + v_label.h: with the hidden features from the difference between two kernels of the last layer."""
    x, label = normal(5, 4, 4, 1), jnp.asarray([2, 0, 1, 1, 2], jnp.int32)
    shapes = jax.eval_shape(critic.init, jax.random.key(0), x, label)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.asarray(0.4 * rng.normal(size=s.shape), s.dtype), shapes)
    assert params["params"]["classes"]["kernel"].shape[1] == 3
    apply = jax.jit(critic.apply)

    def features():
        zero = jax.tree.map(jnp.zeros_like, {name: params["params"][name] for name in (last, "classes")})
        rows = []
        d = zero[last]["kernel"].shape[0]
        for unit in range(d):
            kernel = jnp.asarray(np.eye(d, dtype=np.float32)[:, unit : unit + 1])
            one = {"params": {**params["params"], **zero, last: {**zero[last], "kernel": kernel}}}
            rows.append(np.asarray(apply(one, x, label)))
        return np.stack(rows, axis=1)

    h = features()
    w, b, v = params["params"][last]["kernel"], params["params"][last]["bias"], params["params"]["classes"]["kernel"]
    want = h @ np.asarray(w)[:, 0] + float(b[0]) + np.sum(h * np.asarray(v)[:, np.asarray(label)].T, axis=1)
    np.testing.assert_allclose(apply(params, x, label), want, rtol=1e-4, atol=1e-5)
    assert not np.allclose(apply(params, x, jnp.roll(label, 1)), want, atol=1e-2)


@pytest.mark.parametrize(("n_classes", "given"), [(3, None), (0, jnp.zeros(2, jnp.int32))], ids=["none", "too many"])
def test_classes_and_labels_go_together(n_classes, given, key):
    critic = MLPDiscriminator((), n_classes)
    with pytest.raises(ValueError, match=f"n_classes={n_classes} and got .* classes and labels go together"):
        jax.eval_shape(critic.init, key, jnp.zeros((2, 4)), given)


def test_scale_divides_what_is_drawn_and_multiplies_what_is_read():
    z, x = normal(5, 7), normal(5, 2, 3, 1)
    g, d = random_params(MLPGenerator((2, 3, 1), (6,)), z), random_params(MLPDiscriminator((6,)), x)
    plain = jnp.arctanh(jax.jit(MLPGenerator((2, 3, 1), (6,)).apply)(g, z))
    scaled = jnp.arctanh(jax.jit(MLPGenerator((2, 3, 1), (6,), scale=20.0).apply)(g, z))
    np.testing.assert_allclose(20 * scaled, plain, rtol=1e-3, atol=1e-4)
    fine = jax.jit(MLPDiscriminator((6,), scale=20.0).apply)(d, x / 20)
    np.testing.assert_allclose(fine, jax.jit(MLPDiscriminator((6,)).apply)(d, x), rtol=1e-4, atol=1e-5)


def test_hidden_layers_start_with_the_variance_that_a_rectifier_needs(key):
    """2 / fan-in (He et al., 2015), where an output of a transposed convolution sees 4 of the 16 taps of its kernel."""
    x = jnp.zeros((1, 4, 4, 24))
    layers = {
        "conv": (Conv4x4(24), x, 16 * 24),
        "transposed": (ConvTranspose4x4(24), x, 4 * 24),
        "critic": (MLPDiscriminator((96,)), x, 4 * 4 * 24),
        "generator": (MLPGenerator((1, 1, 1), (96,)), jnp.zeros((1, 96)), 96),
    }
    params = jax.jit(lambda: {name: m.init(key, x)["params"] for name, (m, x, _) in layers.items()})()
    for name, (_, _, fan_in) in layers.items():
        kernel = np.asarray(params[name].get("Dense_0", params[name])["kernel"], np.float64)
        # About 9,000 weights or more: their variance is known to 1.5 %.
        assert abs(kernel.var() * fan_in / 2 - 1) < 0.06, name


@pytest.mark.parametrize("tied", [False, True])
def test_autoencoder_parameters_have_the_shared_names(tied, key):
    params = jax.eval_shape(SparseAutoencoder(d_in=6, d_sae=4, tied=tied).init, key, jnp.zeros((1, 6)))
    want = {"W_enc": (6, 4), "b_enc": (4,), "W_dec": (4, 6), "b_dec": (6,)}
    if tied:
        del want["W_dec"]
    assert jax.tree.map(jnp.shape, params) == {"params": want}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("centred", [False, True])
def test_autoencoder_by_hand(centred, tied):
    net, x = SparseAutoencoder(d_in=6, d_sae=4, centred=centred, tied=tied, sigmoid_output=centred), normal(5, 6)
    params = random_params(net, x)
    p = {name: np.asarray(value, np.float64) for name, value in params["params"].items()}
    seen = np.asarray(x) - p["b_dec"] if centred else np.asarray(x)
    a = seen @ p["W_enc"] + p["b_enc"]
    codes = np.maximum(a, 0)
    x_hat = codes @ (p["W_enc"].T if tied else p["W_dec"]) + p["b_dec"]
    x_hat = 1 / (1 + np.exp(-x_hat)) if centred else x_hat
    # pre_activations and decode are the halves of the whole.
    whole, first = jax.jit(lambda: (net.apply(params, x), net.apply(params, x, method="pre_activations")))()
    decoded = jax.jit(lambda codes: net.apply(params, codes, method="decode"))(whole[1])
    for got, want in zip((*whole, first, decoded), (x_hat, codes, a, a, x_hat), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    _, through, _ = net.apply(params, x, jnp.tanh)
    np.testing.assert_allclose(through, np.tanh(a), rtol=1e-5, atol=1e-6)


def test_autoencoder_initial_values(key):
    uniform = {"encoder_init": symmetric_uniform, "decoder_init": symmetric_uniform}
    net = SparseAutoencoder(d_in=30, d_sae=20, initial_bias=-2.5, extra_params=(("threshold", 0.5),), **uniform)
    p = jax.jit(net.init)(key, jnp.zeros((1, 30)))["params"]
    np.testing.assert_array_equal(p["b_enc"], -2.5)
    np.testing.assert_array_equal(p["threshold"], np.full(20, 0.5))
    np.testing.assert_array_equal(p["b_dec"], 0)
    r = (6 / 51) ** 0.5
    for name in ("W_enc", "W_dec"):
        w = np.asarray(p[name])
        assert np.abs(w).max() <= r
        # Uniform on (-r, r): standard deviation r / sqrt(3), within its sampling error at 600 draws.
        assert abs(w.std() / (r / 3**0.5) - 1) < 0.08
        assert abs(w.mean()) < 4 * w.std() / 600**0.5
    assert not np.array_equal(p["W_enc"], p["W_dec"].T)
    p = jax.jit(SparseAutoencoder(d_in=30, d_sae=20).init)(key, jnp.zeros((1, 30)))["params"]
    np.testing.assert_allclose(np.linalg.norm(p["W_enc"], axis=0), 1, rtol=1e-6)
    np.testing.assert_array_equal(p["W_dec"], p["W_enc"].T)
