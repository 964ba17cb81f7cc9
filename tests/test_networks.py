"""Shapes, ranges and parameters of the networks, and their formulas on small ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import normal, random_params

from saegan_jax.networks.autoencoders import SparseAutoencoder
from saegan_jax.networks.discriminators import DCGANDiscriminator, MLPDiscriminator
from saegan_jax.networks.generators import DCGANGenerator, MLPGenerator
from saegan_jax.networks.layers import Conv4x4, ConvTranspose4x4


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def dense(params, name, x):
    return np.asarray(x) @ np.asarray(params["params"][name]["kernel"]) + np.asarray(params["params"][name]["bias"])


@pytest.mark.parametrize(
    "generator", [MLPGenerator((4, 8, 3), (6,)), DCGANGenerator((4, 8, 3), width=2)], ids=["mlp", "dcgan"]
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
    assert images.std(axis=0).min() > 0


@pytest.mark.parametrize("critic", [MLPDiscriminator((6,)), DCGANDiscriminator(width=2)], ids=["mlp", "dcgan"])
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
@pytest.mark.parametrize("variant", ["kl", "l1"])
def test_autoencoder_by_hand(variant, tied):
    net, x = SparseAutoencoder(d_in=6, d_sae=4, variant=variant, tied=tied), normal(5, 6)
    params = random_params(net, x)
    p = {name: np.asarray(value, np.float64) for name, value in params["params"].items()}
    logits = np.asarray(x) @ p["W_enc"] + p["b_enc"]
    codes = 1 / (1 + np.exp(-logits)) if variant == "kl" else np.maximum(logits, 0)
    x_hat = codes @ (p["W_enc"].T if tied else p["W_dec"]) + p["b_dec"]
    # encode and decode are the halves of the whole.
    whole, encoded = jax.jit(lambda: (net.apply(params, x), net.apply(params, x, method="encode")))()
    decoded = jax.jit(lambda codes: net.apply(params, codes, method="decode"))(encoded)
    for got, want in zip((*whole, encoded, decoded), (x_hat, codes, logits, codes, x_hat), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_autoencoder_initial_values(key):
    net = SparseAutoencoder(d_in=30, d_sae=20, initial_logit=-2.5)
    p = jax.jit(net.init)(key, jnp.zeros((1, 30)))["params"]
    np.testing.assert_array_equal(p["b_enc"], -2.5)
    np.testing.assert_array_equal(p["b_dec"], 0)
    r = (6 / 51) ** 0.5
    for name in ("W_enc", "W_dec"):
        w = np.asarray(p[name])
        assert np.abs(w).max() <= r
        # Uniform on (-r, r): standard deviation r / sqrt(3), within its sampling error at 600 draws.
        assert abs(w.std() / (r / 3**0.5) - 1) < 0.08
        assert abs(w.mean()) < 4 * w.std() / 600**0.5
    assert not np.array_equal(p["W_enc"], p["W_dec"].T)
