"""Coherence and one-to-one matching of dictionaries against cases worked by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax.metrics import coherence, dictionary_match

rng = np.random.default_rng(0)


def test_coherence_by_hand() -> None:
    # Cosines: 0.6 between rows 0 and 1, -0.8 between 1 and 2, 0 between 0 and 2.
    got = coherence(jnp.array([[2.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, -5.0, 0.0]]))
    assert got.largest == pytest.approx(0.8, abs=1e-6)
    assert got.mean == pytest.approx((0.6 + 0.8 + 0.8) / 3, abs=1e-6)
    assert got.largest.dtype == got.mean.dtype == jnp.float32


def test_coherence_of_orthogonal_copied_and_empty_atoms() -> None:
    assert coherence(3 * jnp.eye(4)) == (0, 0)
    largest, mean = coherence(jnp.array([[1.0, 2.0], [-2.0, -4.0], [0.0, 0.0]]))
    assert largest == pytest.approx(1, abs=1e-6)
    assert largest <= 1
    assert mean == pytest.approx(2 / 3, abs=1e-6)
    assert coherence(jnp.zeros((3, 2))) == (0, 0)
    assert jnp.isnan(jnp.stack(coherence(jnp.array([[1.0, jnp.inf], [2.0, 3.0], [1.0, 1.0]])))).all()


def test_coherence_at_any_scale_under_jit_and_vmap() -> None:
    W = jnp.asarray(rng.normal(size=(3, 9, 5)), jnp.float32)
    scale = jnp.asarray(10.0 ** rng.uniform(-30, 30, size=(3, 9, 1)), jnp.float32)
    unit = np.asarray(W) / np.linalg.norm(W, axis=-1, keepdims=True)
    cosine = np.abs(unit @ unit.swapaxes(1, 2)) * (1 - np.eye(9))
    got = jax.jit(jax.vmap(coherence))(W * scale)
    np.testing.assert_allclose(got.largest, cosine.max((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(got.mean, cosine.max(2).mean(1), rtol=1e-5)


def test_coherence_rejects_what_has_no_pairs() -> None:
    for shape in ((4,), (1, 4), (2, 2, 2)):
        with pytest.raises(ValueError, match="W_dec"):
            coherence(jnp.ones(shape))
    assert coherence(jnp.ones((2, 4))).largest == pytest.approx(1)


def test_match_by_hand() -> None:
    W_a = np.array([[1.0, 0.0], [0.0, 2.0]])
    W_b = np.array([[0.0, -3.0], [0.6, 0.8]])
    got = dictionary_match(W_a, W_b)
    assert got.assignment.tolist() == [1, 0]
    np.testing.assert_allclose(got.matched_cosine, [0.6, 1.0])
    assert got.mean_cosine == pytest.approx(0.8)
    # Signed: 0.6 - 1 that way round, 0 + 0.8 the other.
    got = dictionary_match(W_a, W_b, signed=True)
    assert got.assignment.tolist() == [0, 1]
    np.testing.assert_allclose(got.matched_cosine, [0.0, 0.8])


def test_matching_is_optimal_where_taking_the_best_pair_first_is_not() -> None:
    # Cosines [[0.8, 0.28], [1, 0.8]]: greedy takes the 1 and is left with 0.28, the other assignment has 0.8 twice.
    W_a, W_b = np.array([[0.8, 0.6], [1.0, 0.0]]), np.array([[1.0, 0.0], [0.8, -0.6]])
    got = dictionary_match(W_a, W_b)
    assert got.assignment.tolist() == [0, 1]
    np.testing.assert_allclose(got.matched_cosine, [0.8, 0.8])


def test_matching_is_the_best_of_all_permutations() -> None:
    for signed in (False, True):
        W_a, W_b = rng.normal(size=(2, 5, 3))
        cosine = W_a @ W_b.T / np.linalg.norm(W_a, axis=1)[:, None] / np.linalg.norm(W_b, axis=1)[None]
        cosine = cosine if signed else np.abs(cosine)
        best = max(np.mean([cosine[i, p[i]] for i in range(5)]) for p in itertools.permutations(range(5)))
        assert dictionary_match(W_a, W_b, signed=signed).mean_cosine == pytest.approx(best)


def test_match_ignores_order_sign_and_scale() -> None:
    W = rng.normal(size=(12, 7))
    order = rng.permutation(12)
    changed = (W * rng.choice([-1, 1], (12, 1)) * 10.0 ** rng.uniform(-200, 200, (12, 1)))[order]
    got = dictionary_match(W, changed)
    assert got.mean_cosine == pytest.approx(1, abs=1e-12)
    assert got.assignment.tolist() == np.argsort(order).tolist()
    assert dictionary_match(W, changed, signed=True).mean_cosine < 0.9


def test_unmatched_atoms_of_the_truth_count_zero() -> None:
    W = np.eye(4)
    got = dictionary_match(W, W[[2, 0]])
    assert got.assignment.tolist() == [1, -1, 0, -1]
    assert got.matched_cosine.tolist() == [1, 0, 1, 0]
    assert got.mean_cosine == 0.5
    assert dictionary_match(W[[2, 0]], W).mean_cosine == 1
    assert dictionary_match(W, np.zeros((4, 4))).mean_cosine == 0


def test_bad_dictionaries_are_named() -> None:
    good = rng.normal(size=(3, 4))
    for bad in (good[0], good[:0], good[None], np.full((3, 4), np.nan), np.full((3, 4), np.inf)):
        with pytest.raises(ValueError, match="W_a"):
            dictionary_match(bad, good)
        with pytest.raises(ValueError, match="W_b"):
            dictionary_match(good, bad)
    with pytest.raises(ValueError, match="4 columns and W_b 2"):
        dictionary_match(good, good[:, :2])
