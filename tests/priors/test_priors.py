"""The sparse prior: what is fitted, and that what is drawn has the law of what it was fitted to."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers import SHAPE, unit_batch

from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.algorithms.saegan import SAEGANConfig, fit_pretrained, saegan
from saegan_jax.errors import ConfigError
from saegan_jax.priors import (
    MIN_SCALE,
    PRIORS,
    SAMPLERS,
    BootstrapPrior,
    ClusterPrior,
    CopulaPrior,
    FactorisedPrior,
    LearnedPrior,
    Prior,
    fit_bootstrap,
    fit_clusters,
    fit_copula,
    fit_factorised,
    fit_prior,
    sample_factorised,
    sample_prior,
)
from saegan_jax.priors.base import magnitudes_at
from saegan_jax.priors.copula import _correlation_root, _tetrachoric
from saegan_jax.priors.k_means import k_means

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
        chex.assert_trees_all_close(jax.tree.map(lambda a, i=i: a[i], fitted), alone, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(drawn[i], draw(alone, keys[i]), rtol=1e-5, atol=1e-6)


def test_jit_agrees_with_a_plain_call(prior):
    np.testing.assert_allclose(
        draw.__wrapped__(prior, jax.random.key(7)), draw(prior, jax.random.key(7)), rtol=1e-5, atol=1e-6
    )


KINDS = dict(zip(SAMPLERS, (FactorisedPrior, CopulaPrior, ClusterPrior, BootstrapPrior, LearnedPrior), strict=True))
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # quicker to compile
sample = jit(sample_prior, static_argnames=("sampler", "n"))


def fitting(sampler, **settings):
    return jit(functools.partial(fit_prior, sampler, threshold=THRESHOLD, **{"n_clusters": 3, **settings}))


def co_activation(codes):
    on = (codes > THRESHOLD).astype(np.float64)
    return on.T @ on / len(on)


def error_of_co_activation(codes, drawn):
    """Largest over pairs of different units."""
    difference = np.abs(co_activation(codes) - co_activation(drawn))
    return (difference - np.diag(np.diag(difference))).max()


@pytest.fixture(scope="module")
def correlated():
    """Units 0 to 2 tend to be on together, 3 only without 0, 4 always, 5 never; off is not zero."""
    rng = np.random.default_rng(1)
    shared = rng.random((N, 1)) < 0.3
    on = np.concatenate([np.where(shared, rng.random((N, 3)) < 0.9, rng.random((N, 3)) < 0.05), shared, shared], axis=1)
    on = np.pad(on, ((0, 0), (0, 1)))
    on[:, 3] = ~on[:, 0] & (rng.random(N) < 0.5)
    on[:, 4] = True
    magnitude = np.where(on, 0.2 + rng.beta(2, 5, (N, 6)) + 0.3 * shared, rng.uniform(0, 0.09, (N, 6)))
    return magnitude.astype(np.float32)


@pytest.fixture(scope="module")
def fitted(correlated):
    return {s: fitting(s)(jnp.asarray(correlated), jax.random.key(0)) for s in SAMPLERS}


@pytest.fixture(scope="module")
def drawn_by(fitted):
    return {s: np.asarray(sample(s, prior, jax.random.key(5), n=N)) for s, prior in fitted.items()}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_keeps_the_marginal_laws(correlated, fitted, drawn_by, sampler):
    prior, drawn = fitted[sampler], drawn_by[sampler]
    assert type(prior) is KINDS[sampler]
    np.testing.assert_allclose(prior.scale, np.sqrt((correlated.astype(np.float64) ** 2).mean(axis=0)), rtol=1e-5)
    assert drawn.shape == (N, 6)
    assert drawn.dtype == np.float32
    active, on = correlated > THRESHOLD, drawn > 0
    assert (drawn[on] > THRESHOLD).all()
    p = active.mean(axis=0)
    assert (np.abs(on.mean(axis=0) - p) <= 4 * np.sqrt(p * (1 - p) / N)).all()
    assert on[:, 4].all()
    assert not on[:, 5].any()
    for j in range(5):
        want, got = correlated[active[:, j], j], drawn[on[:, j], j]
        # Within clusters there are other tables; their law over all clusters is tabulated less finely.
        assert abs(got.mean() - want.mean()) < 4 * want.std() * np.sqrt(1 / len(got) + 1 / len(want))
        assert scipy.stats.ks_2samp(want, got).pvalue > 1e-3
        assert want.min() <= got.min() < got.max() <= want.max()


def test_what_is_active_together(correlated, drawn_by):
    """Independent units miss it, the others do not."""
    noise = 4 * 0.5 / np.sqrt(N)
    errors = {sampler: error_of_co_activation(correlated, drawn) for sampler, drawn in drawn_by.items()}
    assert errors["factorised"] > 4 * noise
    for sampler in ("copula", "clusters", "bootstrap", "learned"):
        assert errors[sampler] < noise, (sampler, errors)


def test_draws_of_every_sampler_depend_on_the_key(fitted, drawn_by):
    for sampler, prior in fitted.items():
        np.testing.assert_array_equal(sample(sampler, prior, jax.random.key(5), n=N), drawn_by[sampler])
        assert not np.array_equal(sample(sampler, prior, jax.random.key(6), n=N), drawn_by[sampler])
    direct = draw(fitted["factorised"], jax.random.key(5))
    np.testing.assert_allclose(drawn_by["factorised"], direct, rtol=1e-6)


def test_correlations_solve_the_orthant_probability():
    """Against scipy's bivariate normal distribution function, which knows nothing of the integral."""
    p = np.array([0.02, 0.3, 0.5, 0.9])
    h = scipy.stats.norm.isf(p)
    want = np.array([[1, 0.6, -0.2, 0.3], [0.6, 1, 0.95, -0.7], [-0.2, 0.95, 1, 0.0], [0.3, -0.7, 0.0, 1]])
    both = np.zeros((4, 4))
    for i, j in zip(*np.triu_indices(4, 1), strict=True):
        covariance = [[1, want[i, j]], [want[i, j], 1]]
        both[i, j] = both[j, i] = scipy.stats.multivariate_normal.cdf([-h[i], -h[j]], cov=covariance)
    excess = np.where(both > 0, both - np.outer(p, p), 0)
    tetrachoric = jit(functools.partial(_tetrachoric, n=10**6))
    got = tetrachoric(jnp.asarray(p, jnp.float32), jnp.asarray(excess, jnp.float32))
    np.testing.assert_allclose(got, want, atol=2e-3)
    # What no correlation reaches is nearly 1 or -1; a pair without excess has none.
    excess = np.zeros((4, 4), np.float32)
    excess[0, 1] = excess[1, 0] = -0.3
    extreme = np.asarray(tetrachoric(jnp.asarray([0.5, 0.5, 0.0, 1.0]), excess))
    np.testing.assert_allclose(extreme[:2, :2], [[1, -1], [-1, 1]], atol=1e-3)
    np.testing.assert_array_equal(extreme[2:], np.eye(4)[2:])


def test_the_root_is_that_of_a_near_correlation_matrix():
    """One that is valid comes back; one that is not becomes the nearest, by Higham's own example."""
    valid = jnp.asarray([[1, 0.5, 0.2], [0.5, 1, -0.3], [0.2, -0.3, 1]])
    correlation_root = jit(_correlation_root)
    root = correlation_root(valid)
    np.testing.assert_allclose(root @ root.T, valid, atol=1e-5)
    root = correlation_root(jnp.asarray([[1.0, 1, 0], [1, 1, 1], [0, 1, 1]]))
    nearest = [[1, 0.7607, 0.1573], [0.7607, 1, 0.7607], [0.1573, 0.7607, 1]]
    np.testing.assert_allclose(root @ root.T, nearest, atol=2e-3)
    np.testing.assert_allclose(jnp.linalg.norm(root, axis=1), 1, rtol=1e-5)


def test_pairs_too_rare_to_judge_are_taken_for_independent():
    """60 units of density .02 in 100 examples: that hardly any two meet is chance, and no reason for correlations of -1."""
    codes = np.zeros((100, 60), np.float32)
    rng = np.random.default_rng(0)
    for j in range(60):
        codes[rng.choice(100, 2, replace=False), j] = 0.5
    prior = jit(functools.partial(fit_copula, threshold=THRESHOLD))(codes)
    correlation = np.asarray(prior.root @ prior.root.T)
    met = (codes.T @ codes) > 0
    assert not met.all()
    assert np.abs(correlation[~met]).max() < 0.3


def two_kinds(n=1000):
    """One kind of code has one active unit, the other four, and they share none."""
    rng = np.random.default_rng(2)
    first = rng.random(n) < 0.25
    on = np.where(first[:, None], np.eye(5)[0], 1 - np.eye(5)[0]).astype(bool)
    return np.where(on, rng.uniform(0.5, 1.0, (n, 5)), 0).astype(np.float32), first.mean()


def test_clusters_keep_two_kinds_of_code_apart():
    codes, share = two_kinds()
    prior = fitting("clusters", n_clusters=2)(codes, jax.random.key(0))
    np.testing.assert_allclose(np.sort(prior.weight), [share, 1 - share], rtol=1e-6)
    np.testing.assert_array_equal(np.sort(prior.density.sum(axis=1)), [1, 4])
    l0 = (np.asarray(sample("clusters", prior, jax.random.key(1), n=N)) > 0).sum(axis=1)
    assert set(l0) == {1, 4}
    assert abs((l0 == 1).mean() - share) < 4 * np.sqrt(share * (1 - share) / N)


def test_more_clusters_than_codes_leave_some_empty():
    codes = np.repeat(np.float32([[0.5, 0.0], [0.0, 0.9]]), 10, axis=0)
    prior = fitting("clusters", n_clusters=5)(codes, jax.random.key(0))
    assert np.count_nonzero(prior.weight) == 2
    assert np.isfinite(prior.density).all()
    drawn = np.asarray(sample("clusters", prior, jax.random.key(1), n=100))
    assert {tuple(row) for row in drawn} == {tuple(row) for row in codes}


def test_magnitudes_at_the_ends_of_a_table_and_between():
    quantiles = jnp.array([[0.0], [1.0], [5.0], [70.0], [80.0], [90.0]])
    rank = jnp.array([[0.0], [0.75], [1.0]])
    first = magnitudes_at(quantiles, rank, n_quantiles=3)
    assert first[:, 0].tolist() == [0, 3, 5]
    assert magnitudes_at(quantiles, rank, first=jnp.full((3, 1), 3), n_quantiles=3)[:, 0].tolist() == [70, 85, 90]


def test_k_means_finds_separated_groups_from_any_start():
    rng = np.random.default_rng(0)
    centres = np.float32([[0, 0], [10, 0], [0, 10], [10, 10]])
    x = np.repeat(centres, 50, axis=0) + rng.normal(size=(200, 2)).astype(np.float32)
    starts = jit(jax.vmap(lambda key: k_means(jnp.asarray(x), key, n_clusters=4)))(
        jax.random.split(jax.random.key(0), 20)
    )
    right = [all(len(set(group)) == 1 for group in np.asarray(one).reshape(4, 50)) for one in starts]
    assert np.mean(right) >= 0.9  # drawn with the square of the distance, two centres in one group are rare


def test_bootstrap_draws_rows_of_the_data(correlated):
    kept = np.where(correlated > THRESHOLD, correlated, 0)
    rows = {row.tobytes() for row in kept}
    prior = fitting("bootstrap", limit=500)(correlated, jax.random.key(0))
    assert prior.codes.shape == (500, 6)
    assert prior.count == 500
    assert len({row.tobytes() for row in np.asarray(prior.codes)}) == 500  # without replacement
    drawn = np.asarray(sample("bootstrap", prior, jax.random.key(1), n=N))
    assert {row.tobytes() for row in drawn} <= rows
    # Fewer codes than rows: the padding is never drawn.
    few = fitting("bootstrap", limit=500)(correlated[:3], jax.random.key(0))
    assert few.codes.shape == (500, 6)
    drawn = np.asarray(sample("bootstrap", few, jax.random.key(1), n=N))
    assert {row.tobytes() for row in drawn} == {row.tobytes() for row in kept[:3]}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_shapes_do_not_depend_on_the_number_of_codes(sampler):
    """A run is restored into the shapes of a prior fitted to one image."""
    key = jax.random.key(0)
    one, many = (
        jax.eval_shape(lambda codes: fit_prior(sampler, codes, key, threshold=0.0), jnp.zeros((n, 6))) for n in (1, 10)
    )
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), one) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), many
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_ensemble_fits_and_draws_as_its_members_alone(correlated, sampler):
    halves = np.concatenate([correlated.reshape(2, N // 2, 6), np.zeros((1, N // 2, 6), np.float32)])
    keys = jax.random.split(jax.random.key(3), 3)

    def fit_and_draw(codes, key):
        prior = fit_prior(sampler, codes, key, threshold=THRESHOLD, n_clusters=3, limit=64, n_groups=3, steps=40)
        return prior.scale, sample_prior(sampler, prior, key, 200)

    scale, drawn = jit(jax.vmap(fit_and_draw))(halves, keys)
    single = jit(fit_and_draw)
    # A member without any active unit is fitted and drawn too.
    np.testing.assert_array_equal(drawn[2], np.zeros((200, 6)))
    np.testing.assert_array_equal(scale[2], np.float32(MIN_SCALE))
    for i in range(2):
        alone_scale, alone = single(halves[i], keys[i])
        np.testing.assert_allclose(scale[i], alone_scale, rtol=1e-5)
        # Eigenvectors may differ in rounding, and with them whether a unit at its threshold is on.
        assert np.isclose(drawn[i], alone, rtol=1e-3, atol=1e-3).mean() > (0.99 if sampler == "copula" else 0.9999)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "gaussian"}, "sampler = 'gaussian'.*factorised, copula, clusters, bootstrap"),
        ({"codes": jnp.zeros(4)}, r"shape \(n, d_sae\).*flatten"),
        ({"codes": jnp.zeros((0, 3))}, "n >= 1"),
        ({"threshold": -0.1}, "threshold = -0.1"),
        ({"n_quantiles": 1}, "n_quantiles = 1"),
        ({"sampler": "clusters", "n_quantiles": 1}, "n_quantiles = 1"),
        ({"sampler": "clusters", "n_clusters": 0}, "n_clusters = 0"),
        ({"sampler": "bootstrap", "limit": 0}, "limit = 0"),
        ({"n_parts": 3}, "no prior has a setting n_parts; choose from n_quantiles, n_clusters, limit"),
    ],
)
def test_bad_settings_are_named(changes, message):
    given = {"sampler": "copula", "codes": jnp.zeros((4, 3)), "key": jax.random.key(0), "threshold": 0.1}
    with pytest.raises(ValueError, match=message):
        fit_prior(**{**given, **changes})


@pytest.mark.parametrize("fit_one", [fit_factorised, fit_copula, fit_clusters, fit_bootstrap])
@pytest.mark.parametrize("shape", [(5,), (5, 2, 3), (0, 3)])
def test_codes_that_are_no_matrix_raise(fit_one, shape):
    with pytest.raises(ValueError, match=r"codes must have shape \(n, d_sae\).*flatten"):
        fit_one(jnp.zeros(shape), jax.random.key(0), threshold=THRESHOLD)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_another_sampler_fitted_is_refused(fitted, sampler):
    other = SAMPLERS[SAMPLERS.index(sampler) - 1]
    with pytest.raises(ValueError, match=f"{KINDS[other].__name__} is no {KINDS[sampler].__name__}"):
        sample_prior(sampler, fitted[other], jax.random.key(0), 3)
    with pytest.raises(ValueError, match="sampler = 'gaussian'"):
        sample_prior("gaussian", fitted[sampler], jax.random.key(0), 3)


def fit_constant(codes, key, *, threshold, factor=1.0):
    """Always the same code: the mean of those above the threshold."""
    return {"code": factor * jnp.where(codes > threshold, codes, 0.0).mean(axis=0), "scale": jnp.ones(codes.shape[1])}


def sample_constant(fitted, key, n):
    return jnp.broadcast_to(fitted["code"], (n, *fitted["code"].shape))


CONSTANT_PRIOR = Prior(fit=fit_constant, sample=sample_constant)


def test_a_registered_prior_is_fitted_and_drawn_from(monkeypatch):
    monkeypatch.setitem(PRIORS, "constant", CONSTANT_PRIOR)
    codes, key = jnp.asarray([[0.05, 1.0], [0.5, 3.0]]), jax.random.key(0)
    # The settings of others are left out, its own one arrives.
    fitted = fit_prior("constant", codes, key, threshold=THRESHOLD, n_clusters=3, factor=2.0)
    np.testing.assert_allclose(sample_prior("constant", fitted, key, 3), np.tile([0.5, 4.0], (3, 1)))
    assert isinstance(fit_prior("factorised", codes, key, threshold=THRESHOLD, factor=2.0), FactorisedPrior)


def test_a_gan_trains_on_a_registered_prior(monkeypatch):
    monkeypatch.setitem(PRIORS, "constant", CONSTANT_PRIOR)
    config = SAEGANConfig(
        sampler="constant",
        discriminator="pixels",
        sae=SAEConfig(d_sae=5, k=2),
        gan=GANConfig(hidden=(4,), d_noise=3, batch_size=6, steps=2),
    )
    images = unit_batch(6)
    with pytest.raises(ConfigError, match=r"sampler = 'normal'.*bootstrap, learned, constant"):
        dataclasses.replace(config, sampler="normal")
    params = jax.jit(sae(config.sae, image_shape=SHAPE).init)(jax.random.key(0)).params
    pretrained = fit_pretrained(config, params, images.image, jax.random.key(1))
    assert set(pretrained.prior) == {"code", "scale"}
    algorithm = saegan(config, image_shape=SHAPE)
    step, state = jit(algorithm.step), jit(algorithm.init)(jax.random.key(2), pretrained)
    for _ in range(2):
        state, info = step(state, images)
    assert state.step == 2
    chex.assert_tree_all_finite((state.params, info))
