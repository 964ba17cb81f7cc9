"""The sparse prior: what is fitted, and that what is drawn has the law of what it was fitted to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers import assert_close

from saegan_jax.priors import MIN_SCALE, FactorisedPrior, fit_factorised, sample_factorised

THRESHOLD = 0.1
N = 4000
DENSITY = np.array([0.05, 0.3, 0.5, 1.0, 0.2, 0.0])
fit = jax.jit(functools.partial(fit_factorised, threshold=THRESHOLD))
CONSTANT, ALWAYS, NEVER = 4, 3, 5


@jax.jit
def draw(prior, key):
    return sample_factorised(prior, key, N)


@pytest.fixture(scope="module")
def codes():
    """Codes with a law per unit; those that are off are not zero but below the threshold, as sigmoid codes are."""
    rng = np.random.default_rng(0)
    magnitude = np.stack(
        [
            rng.uniform(0.2, 0.9, N),
            rng.beta(2, 5, N) * 0.8 + 0.11,
            np.where(rng.random(N) < 0.5, rng.uniform(0.15, 0.25, N), rng.uniform(0.8, 0.95, N)),  # two modes
            rng.uniform(0.3, 0.4, N),
            np.full(N, 0.7),
            np.full(N, 0.5),
        ],
        axis=1,
    )
    on = rng.random((N, 6)) < DENSITY
    return np.where(on, magnitude, rng.uniform(0, 0.09, (N, 6))).astype(np.float32)


@pytest.fixture(scope="module")
def prior(codes):
    return fit(jnp.asarray(codes))


@pytest.fixture(scope="module")
def drawn(prior):
    return np.asarray(draw(prior, jax.random.key(7)))


def test_fit_recovers_density_quantiles_and_scale(codes, prior):
    active = codes > THRESHOLD
    np.testing.assert_allclose(prior.density, active.mean(axis=0), rtol=1e-6)
    levels = np.linspace(0, 1, 33)
    for j in range(NEVER):
        want = np.quantile(codes[active[:, j], j].astype(np.float64), levels)
        np.testing.assert_allclose(prior.quantiles[:, j], want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(prior.scale, np.sqrt((codes.astype(np.float64) ** 2).mean(axis=0)), rtol=1e-5)


def test_fit_with_few_active_examples():
    """One active example: all quantiles are it. Two: they are interpolated between."""
    codes = np.zeros((7, 2), np.float32)
    codes[3, 0], codes[2, 1], codes[5, 1] = 0.6, 0.2, 1.0
    prior = jax.jit(lambda c: fit_factorised(c, threshold=THRESHOLD, n_quantiles=5))(codes)
    np.testing.assert_allclose(prior.quantiles[:, 0], 0.6, rtol=1e-6)
    np.testing.assert_allclose(prior.quantiles[:, 1], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)
    np.testing.assert_allclose(prior.density, [1 / 7, 2 / 7], rtol=1e-6)


def test_quantiles_do_not_lose_digits_on_many_examples():
    """Interpolation weights must not be rounded at the size of n: 5 active among 300,000 examples."""
    active = [0.2, 0.3, 0.5, 0.8, 0.9]
    prior = fit(np.pad(np.array(active, np.float32), (0, 299_995)).reshape(-1, 1))
    np.testing.assert_allclose(prior.quantiles[:, 0], np.quantile(active, np.linspace(0, 1, 33)), rtol=1e-5)


def test_never_active_unit(codes, prior, drawn):
    assert prior.density[NEVER] == 0
    np.testing.assert_array_equal(prior.quantiles[:, NEVER], 0)
    np.testing.assert_array_equal(drawn[:, NEVER], 0)
    # A dead unit's root mean square is 0: what networks divide by has a floor.
    assert fit(jnp.zeros((5, 1))).scale[0] == np.float32(MIN_SCALE)


def test_drawn_codes_have_the_training_density_and_exact_zeros(codes, drawn):
    active = codes > THRESHOLD
    p = active.mean(axis=0)
    on = drawn > 0
    error = 4 * np.sqrt(p * (1 - p) / N)
    assert (np.abs(on.mean(axis=0) - p) <= error).all()
    # Off is exactly zero, never a small number; on is above the threshold.
    assert (drawn[on] > THRESHOLD).all()
    assert (drawn[~on] == 0).all()
    np.testing.assert_allclose(
        on.sum(axis=1).mean(), active.sum(axis=1).mean(), atol=4 * np.sqrt((p * (1 - p)).sum() / N)
    )


def test_drawn_magnitudes_have_the_training_law(codes, drawn):
    for j in (0, 1, 2, ALWAYS):
        want, got = codes[codes[:, j] > THRESHOLD, j], drawn[drawn[:, j] > 0, j]
        assert abs(got.mean() - want.mean()) < 4 * want.std() * np.sqrt(1 / len(got) + 1 / len(want))
        assert scipy.stats.ks_2samp(want, got).pvalue > 1e-3
        assert want.min() <= got.min() < got.max() <= want.max()


def test_constant_magnitudes_stay_constant(drawn):
    on = drawn[:, CONSTANT] > 0
    assert on.any()
    np.testing.assert_allclose(drawn[on, CONSTANT], 0.7, rtol=1e-6)


def test_units_and_examples_are_independent(drawn):
    random_units = drawn[:, [0, 1, 2, ALWAYS, CONSTANT]]
    for a in (random_units, (random_units > 0)[:, [0, 1, 2, 4]].astype(float)):
        correlation = np.corrcoef(a, rowvar=False) - np.eye(a.shape[1])
        assert np.abs(correlation).max() < 4.5 / np.sqrt(N)
    # Neighbouring examples too.
    assert abs(np.corrcoef(drawn[:-1, ALWAYS], drawn[1:, ALWAYS])[0, 1]) < 4.5 / np.sqrt(N)


def test_draws_depend_on_the_key_alone(prior, drawn):
    np.testing.assert_array_equal(draw(prior, jax.random.key(7)), drawn)
    assert not np.array_equal(draw(prior, jax.random.key(8)), drawn)


def test_vmap_agrees_with_single_calls(codes):
    """As in an ensemble, where every member has its own prior."""
    halves = jnp.asarray(codes).reshape(2, N // 2, 6)
    fitted = jax.jit(jax.vmap(functools.partial(fit_factorised, threshold=THRESHOLD)))(halves)
    assert isinstance(fitted, FactorisedPrior)
    keys = jax.random.split(jax.random.key(3), 2)
    drawn = jax.jit(jax.vmap(draw))(fitted, keys)
    for i in range(2):
        alone = fit(halves[i])
        assert_close(jax.tree.map(lambda a, i=i: a[i], fitted), alone, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(drawn[i], draw(alone, keys[i]), rtol=1e-5, atol=1e-6)


def test_jit_agrees_with_a_plain_call(prior):
    np.testing.assert_allclose(
        draw.__wrapped__(prior, jax.random.key(7)), draw(prior, jax.random.key(7)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3)])
def test_codes_that_are_no_matrix_raise(shape):
    with pytest.raises(ValueError, match=r"shape \(n, d_sae\).*flatten"):
        fit_factorised(jnp.zeros(shape), threshold=THRESHOLD)
