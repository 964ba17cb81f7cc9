"""Kernel distance by hand and against scikit-learn's kernel."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel

from saegan_jax.metrics import kernel, kernel_distance

rng = np.random.default_rng(0)


def by_sklearn(x: np.ndarray, y: np.ndarray) -> float:
    within = []
    for one in (x, y):
        k = polynomial_kernel(one, one, degree=3, gamma=1 / one.shape[1], coef0=1)
        within.append(k[~np.eye(len(one), dtype=bool)].mean())
    return float(sum(within) - 2 * polynomial_kernel(x, y, degree=3, gamma=1 / x.shape[1], coef0=1).mean())


def test_by_hand() -> None:
    # d = 1: within real k(0, 1) = 1, within fake k(1, 2) = 27, across 1, 1, 8 and 27.
    assert kernel_distance([[0.0], [1.0]], [[1.0], [2.0]]) == pytest.approx(1 + 27 - 2 * 37 / 4)
    # d = 2: x . y / 2 + 1 is 1 within and 1.5 or 1 across.
    assert kernel_distance(np.eye(2), np.eye(2)) == pytest.approx(1 + 1 - 2 * (2 * 1.5**3 + 2) / 4)


@pytest.mark.parametrize("block", [1, 200, 4_000_000])
def test_agrees_with_an_independent_implementation(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "BLOCK", block)
    x, y = rng.normal(size=(53, 7)), 1.3 * rng.normal(size=(31, 7)) + 0.2
    assert kernel_distance(x, y) == pytest.approx(by_sklearn(x, y), rel=1e-10)
    assert kernel_distance(y, x) == pytest.approx(kernel_distance(x, y), rel=1e-10)
    assert kernel_distance(x.astype(np.float32), y.astype(np.float32)) == pytest.approx(by_sklearn(x, y), rel=1e-4)


def test_unbiased_at_any_count() -> None:
    # Equal distributions: mean 0, unlike the version with the diagonal, which has about E k(x, x) / n = 8 / n more.
    for n in (5, 40):
        values = [kernel_distance(*rng.normal(size=(2, n, 4))) for _ in range(400)]
        assert abs(np.mean(values)) < 4 * np.std(values) / 20
        assert min(values) < 0 < max(values)
        assert 4 * np.std(values) / 20 < 2 / n
    apart = [
        kernel_distance(rng.normal(size=(n, 4)), rng.normal(size=(n, 4)) + 1) for n in (20, 200) for _ in range(200)
    ]
    few, many = apart[:200], apart[200:]
    assert np.mean(few) == pytest.approx(np.mean(many), abs=4 * np.std(few) / np.sqrt(200))
    assert np.mean(many) > 1


def test_bad_features_are_named() -> None:
    good = rng.normal(size=(5, 3))
    for bad in (good[:1], good[0], good[:, :0], good * np.nan, good * np.inf, good * 1e60):
        with pytest.raises(ValueError, match="real_features"):
            kernel_distance(bad, good)
        with pytest.raises(ValueError, match="fake_features"):
            kernel_distance(good, bad)
    with pytest.raises(ValueError, match="3 columns and fake_features 2"):
        kernel_distance(good, good[:, :2])
    with pytest.raises(ValueError, match="in 1 of 5 rows"):
        kernel_distance(np.where(good == good.max(), np.nan, good), good)
