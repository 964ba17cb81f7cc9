"""The learned prior: its order, its count of active units, and that it is a distribution."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax.errors import ConfigError
from saegan_jax.priors import PRIORS, fit_learned, sample_learned
from saegan_jax.priors import learned as module

quick = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
D = 4


def params_of(d=D, n_groups=2, seed=0):
    """Parameters of which none is 0, so that a forbidden weight would show."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(
        module.init_params, jax.ShapeDtypeStruct((d,), jnp.float32), jax.ShapeDtypeStruct((n_groups, d), jnp.float32),
        jax.random.key(0),
    )  # fmt: skip
    return jax.tree.map(lambda s: jnp.asarray(0.5 * rng.normal(size=s.shape), s.dtype), shapes)


def test_no_unit_is_told_of_itself_or_of_later_ones():
    params, allowed, group = params_of(), module.masks(D), jnp.zeros(1, jnp.int32)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 1, D)), jnp.float32)
    moved = jax.jacobian(lambda x: module.logits(params, allowed, x, group)[0].sum(axis=-1))(x)  # (d, 2, 1, d)
    told = np.abs(np.asarray(moved)).sum(axis=(1, 2)) > 0
    np.testing.assert_array_equal(told, np.tri(D, k=-1, dtype=bool))


def test_offsets_are_those_of_independent_units_given_their_number():
    p = np.array([0.1, 0.5, 0.3, 0.8])
    offsets = np.asarray(module.count_offsets(jnp.asarray(p, jnp.float32)))

    def q(j, r):
        """Probability that r of the units from j on are active."""
        found = 0.0
        for on in product((0, 1), repeat=D - j):
            if sum(on) == r:
                found += np.prod([p_i if o else 1 - p_i for p_i, o in zip(p[j:], on, strict=True)])
        return found

    for j in range(D):
        for r in range(1, D - j):
            np.testing.assert_allclose(offsets[j, r], np.log(q(j + 1, r - 1) / q(j + 1, r)), rtol=1e-4)
        assert offsets[j, 0] == -50  # none is left to turn on
        assert offsets[j, D - j] == 50  # all that are left must be on


def test_probabilities_of_all_codes_with_a_number_of_active_units_sum_to_one():
    params, allowed = params_of(3), module.masks(3)
    quantiles = jnp.broadcast_to(jnp.linspace(1.0, 2.0, 9, dtype=jnp.float32)[:, None], (9, 3))
    tables = module.Tables(quantiles, module.count_offsets(jnp.array([0.2, 0.5, 0.7])))
    magnitudes = [0.0, *(1 + (np.arange(8) + 0.5) / 8)]  # off, and the middle of every level
    codes = np.array(list(product(magnitudes, repeat=3)), np.float32)
    log_p = -jax.vmap(lambda c: module.nll(params, allowed, c[None], jnp.ones(1, jnp.int32), tables))(
        jnp.asarray(codes)
    )
    active = (codes > 0).sum(axis=1)
    for number in range(4):
        np.testing.assert_allclose(np.exp(np.asarray(log_p, np.float64))[active == number].sum(), 1, rtol=1e-4)


@pytest.fixture(scope="module")
def codes():
    """Two of five units, and never 0 and 1 together but always 0 with 2; magnitudes from 1 to 2."""
    rng = np.random.default_rng(0)
    pairs = np.array([[0, 2], [1, 3], [1, 4], [3, 4]])[rng.choice(4, 600, p=[0.4, 0.3, 0.2, 0.1])]
    found = np.zeros((600, 5), np.float32)
    np.put_along_axis(found, pairs, rng.uniform(1, 2, (600, 2)).astype(np.float32), axis=1)
    return found


@pytest.fixture(scope="module")
def fitted(codes):
    return quick(partial(fit_learned, threshold=0.0, n_groups=1, steps=1000))(jnp.asarray(codes), jax.random.key(0))


def test_it_draws_the_combinations_of_the_data(codes, fitted):
    drawn = np.asarray(quick(partial(sample_learned, n=2000))(fitted, jax.random.key(1)))
    assert ((drawn > 0).sum(axis=1) == 2).all()  # as every code of the data
    wanted, found = ({tuple(np.flatnonzero(c)): 0 for c in x > 0} for x in (codes, drawn))
    share = np.mean([tuple(np.flatnonzero(c)) in wanted for c in drawn > 0])
    assert share > 0.97
    assert set(wanted) <= set(found)
    assert 1 <= drawn[drawn > 0].min() < drawn.max() <= 2
    for pair, p in (((0, 2), 0.4), ((1, 3), 0.3), ((1, 4), 0.2)):
        assert abs(np.mean((drawn[:, pair] > 0).all(axis=1)) - p) < 0.08


def test_training_finds_more_than_independent_units_do(codes, fitted):
    untrained = quick(partial(fit_learned, threshold=0.0, n_groups=1, steps=1))(jnp.asarray(codes), jax.random.key(0))
    trained = quick(partial(fit_learned, threshold=0.0, n_groups=1, steps=1000))(jnp.asarray(codes), jax.random.key(0))
    assert float(trained.held_out) < float(untrained.held_out) - 0.5


def test_codes_of_several_numbers_of_active_units_keep_their_distribution():
    rng = np.random.default_rng(0)
    number = rng.choice([0, 1, 3], 500, p=[0.2, 0.5, 0.3])
    codes = np.where(np.argsort(rng.random((500, 4)), axis=1) < number[:, None], 1.0, 0.0).astype(np.float32)
    prior = quick(partial(fit_learned, threshold=0.0, n_groups=1, steps=10))(jnp.asarray(codes), jax.random.key(0))
    drawn = np.asarray(quick(partial(sample_learned, n=2000))(prior, jax.random.key(1)))
    shares = np.bincount((drawn > 0).sum(axis=1), minlength=5) / 2000
    np.testing.assert_allclose(shares, [*(np.bincount(number, minlength=4) / 500), 0], atol=0.04)
    np.testing.assert_array_equal(np.unique(drawn), [0, 1])  # a constant magnitude stays what it is


@pytest.mark.parametrize(("settings", "field"), [({"steps": 0}, "steps"), ({"n_groups": 0}, "n_groups")])
def test_settings_that_cannot_work_are_refused(settings, field, codes):
    with pytest.raises(ConfigError, match=f"^{field} = 0 "):
        fit_learned(jnp.asarray(codes), jax.random.key(0), threshold=0.0, **settings)


def test_too_many_units_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"^d_sae = 2049 .*use the sampler clusters"):
        fit_learned(jnp.zeros((2, 2049)), jax.random.key(0), threshold=0.0)


def test_its_operations_grow_with_the_steps_and_those_of_other_priors_are_not_counted():
    operations = PRIORS["learned"].operations
    assert operations(1000, 32, steps=200) > 1.9 * operations(1000, 32, steps=100) > 0
    assert PRIORS["factorised"].operations(1000, 32) == 0
