"""Divergences of variational models against quadrature and sampling; saturated gates; the cycle losses' hand values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from saegan_jax import losses

UNITS = [
    (0.0, 1.0, 0.3, 0.1),
    (1.5, 0.2, 0.9, 0.05),
    (-0.7, 2.0, 0.02, 0.5),
    (0.1, 0.9, 0.5, 0.5),
]  # mu, s, gamma, alpha


def logit(p):
    return np.log(p) - np.log1p(-p)


def slab_by_quadrature(mu, s):
    q, p = stats.norm(mu, s), stats.norm()
    return integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), mu - 12 * s, mu + 12 * s, epsabs=1e-12)[0]


@pytest.mark.parametrize(("mu", "s", "gamma", "alpha"), UNITS)
def test_divergences_equal_quadrature(mu, s, gamma, alpha):
    mean, log_variance, gate = (jnp.array([v], jnp.float32) for v in (mu, 2 * np.log(s), logit(gamma)))
    slab = slab_by_quadrature(mu, s)
    np.testing.assert_allclose(losses.gaussian_kl(mean, log_variance), slab, rtol=1e-5, atol=1e-7)
    # Against the mixture's density with respect to Lebesgue measure plus an atom at 0.
    want = gamma * (slab + np.log(gamma / alpha)) + (1 - gamma) * np.log((1 - gamma) / (1 - alpha))
    got = losses.spike_and_slab_kl(mean, log_variance, gate, alpha=alpha)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("mu", "s", "gamma", "alpha"), UNITS)
def test_spike_and_slab_equals_sampling(mu, s, gamma, alpha):
    rng, n = np.random.default_rng(0), 400_000
    on = rng.random(n) < gamma
    z = mu + s * rng.normal(size=n)
    slab = np.log(gamma / alpha) + stats.norm.logpdf(z, mu, s) - stats.norm.logpdf(z)
    ratio = np.where(on, slab, np.log((1 - gamma) / (1 - alpha)))
    got = losses.spike_and_slab_kl(
        *(jnp.array([v], jnp.float32) for v in (mu, 2 * np.log(s), logit(gamma))), alpha=alpha
    )
    error = 4.5 * ratio.std() / np.sqrt(n) + 1e-6
    assert abs(float(got[0]) - ratio.mean()) < error
    assert error < 0.02


def test_no_divergence_from_the_prior_itself():
    zero = jnp.zeros((2, 3))
    np.testing.assert_array_equal(losses.gaussian_kl(zero, zero), 0.0)
    gate = jnp.full((2, 3), logit(0.05), jnp.float32)
    np.testing.assert_allclose(losses.spike_and_slab_kl(zero, zero, gate, alpha=0.05), 0.0, atol=1e-6)
    # Near the prior s^2 - 1 - log s^2 is (log s^2)^2 / 2, which plain exp would round away in float32.
    near = losses.gaussian_kl(jnp.zeros(1), jnp.full(1, 1e-3))
    np.testing.assert_allclose(near, 0.25e-6, rtol=1e-3)


@pytest.mark.parametrize(("gate", "want"), [(-200.0, -np.log1p(-0.05)), (200.0, 0.5 - np.log(0.05)), (-1e30, None)])
def test_saturated_gates_stay_finite(gate, want):
    mean, log_variance, gates = jnp.ones(3), jnp.zeros(3), jnp.full(3, gate)

    def loss(*a):
        return losses.spike_and_slab_kl(*a, alpha=0.05).sum()

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1, 2))(mean, log_variance, gates)
    np.testing.assert_allclose(value, 3 * (want if want is not None else -np.log1p(-0.05)), rtol=1e-6)
    assert all(np.isfinite(g).all() for g in gradients)


def test_elbo_is_a_bound_to_be_maximised():
    # x ~ N(z, 1), z ~ N(0, 1): at the true posterior N(x/2, 1/2) the bound is log N(x; 0, 2).
    x = jnp.array([[0.3], [-1.2]])
    mean, log_variance = x / 2, jnp.full((2, 1), np.log(0.5), jnp.float32)
    log_likelihood = -0.5 * ((x - mean) ** 2 + 0.5 + np.log(2 * np.pi))
    evidence = stats.norm.logpdf(np.asarray(x)[:, 0], 0, np.sqrt(2))
    np.testing.assert_allclose(losses.elbo(log_likelihood, losses.gaussian_kl(mean, log_variance)), evidence, rtol=1e-6)
    off = -0.5 * ((x - mean - 0.5) ** 2 + 0.5 + np.log(2 * np.pi))
    worse = losses.elbo(off, losses.gaussian_kl(mean + 0.5, log_variance))
    assert np.all(worse < evidence)
    np.testing.assert_allclose(losses.elbo(jnp.array([1.0]), jnp.array([[2.0, 3.0]]), beta=0.1), [0.5], rtol=1e-6)


def test_cycle_losses_are_means_per_example():
    x = jnp.zeros((2, 2, 2, 1))
    y = x.at[0, 0, 0, 0].set(-2.0).at[1].set(0.25)
    np.testing.assert_allclose(losses.cycle_consistency(x, y), [0.5, 0.25])
    np.testing.assert_allclose(losses.identity_mapping(x, y), [0.5, 0.25])
