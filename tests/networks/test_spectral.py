"""Spectral normalisation against numpy's singular values, against Flax's layer, and its gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_finite, assert_same, normal, random_params

from saegan_jax.errors import ConfigError
from saegan_jax.networks.discriminators import DCGANDiscriminator
from saegan_jax.networks.spectral import spectral_init, spectral_normalise


def tree(scale=1.0):
    """A dense and a grouped convolutional kernel with biases, nested."""
    return {
        "a": {"kernel": scale * normal(6, 4, seed=1), "bias": normal(4, seed=2)},
        "b": {"c": {"kernel": scale * normal(3, 3, 2, 4, seed=3), "bias": normal(4, seed=4)}},
    }


def norm(kernel):
    """The largest singular value in float64."""
    return np.linalg.svd(np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]), compute_uv=False)[0]


def unit(x):
    return x / np.linalg.norm(x)


def test_vectors_have_unit_length_and_the_kernels_names(key):
    vectors = spectral_init(tree(), key)
    assert jax.tree.map(jnp.shape, vectors) == {"a": {"kernel": (4,)}, "b": {"c": {"kernel": (4,)}}}
    a, b = vectors["a"]["kernel"], vectors["b"]["c"]["kernel"]
    np.testing.assert_allclose([jnp.linalg.norm(a), jnp.linalg.norm(b)], 1, rtol=1e-6)
    assert not np.allclose(a, b)
    # The order of the dictionaries does not matter: restored parameters may come in another.
    turned = dict(reversed(tree().items()))
    assert_same(spectral_init(turned, key), vectors)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_converges_to_the_largest_singular_value(key, scale):
    params = tree(scale)
    normalised, vectors = jax.jit(lambda p: spectral_normalise(p, spectral_init(p, key), iterations=200))(params)
    for before, after in ((params["a"], normalised["a"]), (params["b"]["c"], normalised["b"]["c"])):
        np.testing.assert_allclose(after["kernel"], before["kernel"] / norm(before["kernel"]), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(after["bias"], before["bias"])
    # The vector is the right singular one of W (left one in the paper, whose W is transposed).
    top = np.linalg.svd(np.asarray(params["a"]["kernel"], np.float64))[2][0]
    np.testing.assert_allclose(np.abs(np.asarray(vectors["a"]["kernel"]) @ top), 1, rtol=1e-5)


def test_iterations_add_up_over_calls(key):
    params = tree()
    vectors = spectral_init(params, key)
    once, step = spectral_normalise(params, vectors, iterations=3), vectors
    for _ in range(3):
        result, step = spectral_normalise(params, step)
    assert_close((result, step), once, rtol=1e-6, atol=1e-6)
    # They matter: a single one has not converged.
    early, _ = spectral_normalise(params, vectors)
    assert norm(early["a"]["kernel"]) > 1.01 > norm(once[0]["a"]["kernel"])


def test_one_iteration_by_definition(key):
    params = tree()
    vectors = spectral_init(params, key)
    normalised, new = spectral_normalise(params, vectors)
    w = np.asarray(params["b"]["c"]["kernel"], np.float64).reshape(18, 4)
    v = unit(w @ np.asarray(vectors["b"]["c"]["kernel"], np.float64))
    u = unit(w.T @ v)
    np.testing.assert_allclose(new["b"]["c"]["kernel"], u, rtol=1e-5, atol=1e-6)
    want = (w / (v @ w @ u)).reshape(3, 3, 2, 4)
    np.testing.assert_allclose(normalised["b"]["c"]["kernel"], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [nn.Dense(4), nn.Conv(4, (3, 3))], ids=["dense", "conv"])
def test_equals_the_flax_layer(layer, key):
    x = normal(2, 5, 5, 3)
    reference = nn.SpectralNorm(layer)
    variables = reference.init(key, x, update_stats=False)
    (params,) = variables["params"].values()
    (u,) = (
        (s for path, s in variables["batch_stats"]["SpectralNorm_0"].items() if path.endswith("/u"))
        if ("SpectralNorm_0" in variables["batch_stats"])
        else (s for path, s in variables["batch_stats"].items() if path.endswith("/u"))
    )
    want, _ = reference.apply(variables, x, update_stats=True, mutable=["batch_stats"])
    normalised, _ = spectral_normalise(params, {"kernel": u.reshape(-1)})
    np.testing.assert_allclose(layer.apply({"params": normalised}, x), want, rtol=1e-5, atol=1e-5)


def test_gradient_at_convergence_is_that_of_the_normalised_matrix(key):
    """Central differences in float64 of <C, W / sigma(W)>, with sigma from numpy."""
    w, c = np.asarray(normal(6, 4, seed=5), np.float64), np.asarray(normal(6, 4, seed=6), np.float64)
    params = {"kernel": jnp.asarray(w, jnp.float32)}
    _, vectors = spectral_normalise(params, spectral_init(params, key), iterations=200)
    c32 = jnp.asarray(c, jnp.float32)
    got = jax.grad(lambda p: jnp.sum(c32 * spectral_normalise(p, vectors)[0]["kernel"]))(params)["kernel"]
    want, h = np.zeros_like(w), 1e-6
    for i in np.ndindex(w.shape):
        e = np.zeros_like(w)
        e[i] = h
        want[i] = (np.sum(c * (w + e) / norm(w + e)) - np.sum(c * (w - e) / norm(w - e))) / (2 * h)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_no_gradient_reaches_or_passes_the_vectors(key):
    """Far from convergence too: v and u are constants in the gradient with respect to W."""
    params = {"kernel": normal(6, 4, seed=5)}
    vectors, c = spectral_init(params, key), normal(6, 4, seed=6)

    def loss(params, vectors):
        return jnp.sum(c * spectral_normalise(params, vectors)[0]["kernel"])

    got, to_vectors = jax.grad(loss, argnums=(0, 1))(params, vectors)
    np.testing.assert_array_equal(to_vectors["kernel"], 0)
    w = np.asarray(params["kernel"], np.float64)
    v = unit(w @ np.asarray(vectors["kernel"], np.float64))
    u = unit(w.T @ v)
    sigma = v @ w @ u
    want = (c - np.sum(c * w) / sigma * np.outer(v, u)) / sigma
    np.testing.assert_allclose(got["kernel"], want, rtol=1e-4, atol=1e-5)
    # Nor does one pass through the new vectors.
    through = jax.grad(lambda p: jnp.sum(spectral_normalise(p, vectors)[1]["kernel"]))(params)
    np.testing.assert_array_equal(through["kernel"], 0)


def test_a_kernel_of_zeros_stays_and_keeps_its_vector(key):
    params = {"kernel": jnp.zeros((6, 4)), "bias": normal(4)}
    vectors = spectral_init(params, key)

    def loss(params):
        normalised, new = spectral_normalise(params, vectors, iterations=2)
        return jnp.sum(normal(6, 4) * normalised["kernel"]), (normalised, new)

    gradients, (normalised, new) = jax.grad(loss, has_aux=True)(params)
    assert_finite(gradients)
    assert np.abs(gradients["kernel"]).min() > 0
    assert_same(normalised, params)
    assert_same(new, vectors)


def test_vmap_over_networks_equals_a_loop():
    critic, x = DCGANDiscriminator(width=2), normal(3, 8, 8, 1)
    members = [random_params(critic, x, seed=seed)["params"] for seed in range(3)]
    keys = jax.random.split(jax.random.key(1), 3)

    def run(params, key):
        normalised, vectors = spectral_normalise(params, spectral_init(params, key), iterations=2)
        return critic.apply({"params": normalised}, x), vectors

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    got = jax.jit(jax.vmap(run))(stacked, keys)
    alone = jax.jit(run)
    for i, (params, k) in enumerate(zip(members, keys, strict=True)):
        assert_close(jax.tree.map(lambda a, i=i: a[i], got), alone(params, k), rtol=1e-4, atol=1e-5)


def test_bad_input_raises(key):
    params = tree()
    vectors = spectral_init(params, key)
    with pytest.raises(ConfigError, match="iterations = 0"):
        spectral_normalise(params, vectors, iterations=0)
    with pytest.raises(ValueError, match=r"vectors must be those of spectral_init"):
        spectral_normalise(params["a"], vectors)
    with pytest.raises(ValueError, match=r"vectors must be those of spectral_init"):
        spectral_normalise(params, jax.tree.map(lambda u: u[:3], vectors))
    for call in (lambda p: spectral_init(p, key), lambda p: spectral_normalise(p, {})):
        with pytest.raises(ValueError, match='named "kernel"'):
            call({"W_enc": normal(3, 2)})
