"""Frechet distance against closed forms and an independent implementation; class balance by hand."""

import math

import numpy as np
import pytest
import scipy.linalg

from saegan_jax.metrics import class_balance_kl, frechet_distance

rng = np.random.default_rng(0)


def exact_gaussian(n: int, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """A sample whose mean and unbiased covariance are the given ones, not only in expectation."""
    noise = rng.normal(size=(n, len(mean)))
    noise -= noise.mean(0)
    whitened = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise.T).reshape(len(mean), -1))).T
    return mean + whitened @ np.linalg.cholesky(covariance).T


def by_sqrtm(real: np.ndarray, fake: np.ndarray) -> float:
    s_r, s_f = np.cov(real.T), np.cov(fake.T)
    root = scipy.linalg.sqrtm(s_r @ s_f).real
    return float(((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(s_r + s_f - 2 * root))


def random_covariance(d: int) -> np.ndarray:
    a = rng.normal(size=(d, d))
    return a @ a.T + 0.1 * np.eye(d)


def test_closed_form_for_commuting_covariances() -> None:
    # Diagonal covariances: ||m_r - m_f||^2 + sum_j (s_j - t_j)^2.
    s, t, shift = np.array([1.0, 2.0, 0.5]), np.array([3.0, 1.0, 0.5]), np.array([1.0, -2.0, 0.0])
    real, fake = exact_gaussian(50, np.zeros(3), np.diag(s**2)), exact_gaussian(80, shift, np.diag(t**2))
    assert frechet_distance(real, fake) == pytest.approx(5 + 4 + 1 + 0, rel=1e-10)


def test_one_dimension() -> None:
    real, fake = (
        exact_gaussian(9, np.array([2.0]), np.array([[4.0]])),
        exact_gaussian(5, np.array([-1.0]), np.array([[9.0]])),
    )
    assert frechet_distance(real, fake) == pytest.approx(9 + 1, rel=1e-10)


def test_agrees_with_an_independent_implementation() -> None:
    real = rng.normal(size=(300, 12)) @ random_covariance(12)
    fake = rng.normal(size=(211, 12)) @ random_covariance(12) + 1
    assert frechet_distance(real, fake) == pytest.approx(by_sqrtm(real, fake), rel=1e-9)


def test_zero_for_the_same_set_symmetric_and_fewer_rows_than_columns() -> None:
    x, y = rng.normal(size=(20, 40)) * 100, rng.normal(size=(15, 40)) * 100 + 7
    assert 0 <= frechet_distance(x, x) < 1e-16 * (x**2).sum()
    assert 0 <= frechet_distance(x, x[::-1]) < 1e-16 * (x**2).sum()
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)
    # Rank-deficient sets, through the eigenvalues of the product in place of a square root of it.
    values = np.linalg.eigvals(np.cov(x.T) @ np.cov(y.T))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T))
    expected -= 2 * np.sqrt(np.maximum(values.real, 0)).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)


def test_small_differences_are_not_lost_in_rounding() -> None:
    # Covariances I and (1 + e)^2 I: distance d e^2, far below the 1e-16 * trace that cancellation would leave.
    e, x = 1e-9, exact_gaussian(40, np.zeros(6), np.eye(6))
    assert frechet_distance(x, x * (1 + e)) == pytest.approx(6 * e**2, rel=1e-5)


def test_rotation_and_translation_invariance_and_scaling() -> None:
    x, y = rng.normal(size=(60, 8)) @ random_covariance(8), rng.normal(size=(70, 8)) + 1
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    distance = frechet_distance(x, y)
    assert frechet_distance(x @ rotation + 3, y @ rotation + 3) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * distance, rel=1e-9)


def test_bad_features_are_named() -> None:
    good = rng.normal(size=(5, 3))
    for bad in (
        good[:1],
        good[0],
        np.where(good == good.max(), np.nan, good),
        np.where(good == good.max(), np.inf, good),
    ):
        with pytest.raises(ValueError, match="real_features"):
            frechet_distance(bad, good)
        with pytest.raises(ValueError, match="fake_features"):
            frechet_distance(good, bad)
    with pytest.raises(ValueError, match="one feature network"):
        frechet_distance(good, good[:, :2])


def test_class_balance_by_hand() -> None:
    assert class_balance_kl([0, 1, 2, 3], num_classes=4) == 0
    assert class_balance_kl([2, 2, 2], num_classes=4) == pytest.approx(math.log(4))
    assert class_balance_kl([0, 0, 0, 1], num_classes=2) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert class_balance_kl([0, 0, 0, 1], num_classes=2, reference=[0.75, 0.25]) == 0
    assert class_balance_kl([0, 1], num_classes=2, reference=[1, 0]) == math.inf
    assert class_balance_kl([0, 0], num_classes=2, reference=[1, 0]) == 0


def test_class_balance_rejects_what_is_no_distribution() -> None:
    for labels in ([], [0.5], [[0]], [-1], [3]):
        with pytest.raises(ValueError, match="predicted_labels"):
            class_balance_kl(np.array(labels), num_classes=3)
    for reference in ([0.5, 0.5], [0.5, 0.6, 0.1], [1.5, -0.5, 0.0]):
        with pytest.raises(ValueError, match="reference"):
            class_balance_kl([0], num_classes=3, reference=reference)
