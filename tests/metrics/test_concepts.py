"""Effect sizes and intervals of features: by hand, against statsmodels' or SciPy's numbers, and by how often they cover."""

import numpy as np
import pytest
import scipy.stats

from saegan_jax.metrics.concepts import (
    conformal_p_values,
    difference_interval,
    superiority,
    superiority_interval,
    wilson_interval,
)

Z = 1.959963984540054
rng = np.random.default_rng(0)


def test_wilson_is_scipys():
    counts, n = np.array([0, 1, 7, 49, 50]), 50
    low, high = wilson_interval(counts, n, z=Z)
    for i, k in enumerate(counts):
        expected = scipy.stats.binomtest(int(k), n).proportion_ci(method="wilson")
        np.testing.assert_allclose([low[i], high[i]], [expected.low, expected.high], rtol=1e-9, atol=1e-15)
    assert low[0] == 0
    assert high[-1] == 1


def test_the_difference_is_newcombes():
    # Table II of the source, method 10: 56/70 - 48/80, and 10/10 - 0/20.
    low, high = difference_interval([48, 0], [56, 10], n_real=80, n_fake=70, z=Z)
    assert (round(float(low[0]), 4), round(float(high[0]), 4)) == (0.0524, 0.3339)
    low, high = difference_interval(0, 10, n_real=20, n_fake=10, z=Z)
    assert (round(float(low), 4), round(float(high), 4)) == (0.6791, 1.0)


@pytest.mark.parametrize(("p_real", "p_fake"), [(0.02, 0.02), (0.1, 0.02), (0.3, 0.5)])
def test_the_interval_of_a_difference_covers(p_real, p_fake):
    n_real, n_fake, trials = 150, 100, 4000
    real, fake = rng.binomial(n_real, p_real, trials), rng.binomial(n_fake, p_fake, trials)
    low, high = difference_interval(real, fake, n_real=n_real, n_fake=n_fake, z=Z)
    covered = np.mean((low <= p_fake - p_real) & (p_fake - p_real <= high))
    assert 0.93 < covered < 0.985


def test_superiority_by_hand_and_by_scipy():
    assert superiority([1, 2], [3]) == 1
    assert superiority([3], [1, 2]) == 0
    assert superiority([1, 2, 2], [2]) == pytest.approx((1 + 0.5 + 0.5) / 3)
    real, fake = rng.integers(0, 9, 40), rng.integers(2, 9, 30)
    expected = scipy.stats.mannwhitneyu(fake, real).statistic / (40 * 30)
    assert superiority(real, fake) == pytest.approx(expected)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_the_interval_of_superiority_covers(shift):
    truth, hits, trials = scipy.stats.norm.cdf(shift / np.sqrt(2)), 0, 600
    values = [superiority(rng.normal(size=40), rng.normal(size=25) + shift) for _ in range(trials)]
    low, high = superiority_interval(values, 40, 25, z=Z)
    hits = np.mean((low <= truth) & (truth <= high))
    assert 0.92 < hits <= 0.99
    assert (low <= values).all()
    assert (values <= high).all()


def test_superiority_does_not_collapse_where_sets_do_not_overlap():
    low, high = superiority_interval([0.0, 1.0, 0.5], 20, 20, z=Z)
    assert low[0] == 0 < high[0] < 0.3
    assert 0.7 < low[1] < high[1] == 1
    assert low[2] == pytest.approx(1 - high[2])  # symmetric
    narrow = superiority_interval(0.5, 2000, 2000, z=Z)
    assert narrow[1] - narrow[0] < high[2] - low[2]


def test_conformal_p_values_by_hand_and_their_distribution():
    np.testing.assert_allclose(conformal_p_values([1, 2, 3], [0, 2, 2.5, 9]), [1, 3 / 4, 2 / 4, 1 / 4])
    p = np.concatenate([conformal_p_values(*rng.normal(size=(2, 99))) for _ in range(200)])
    for level in (0.01, 0.05, 0.5):
        assert abs(np.mean(p <= level) / level - 1) < 0.15
    # Right as well where many scores are equal: too large rather than too small.
    assert conformal_p_values(np.zeros(9), np.zeros(1)) == [1]


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson_interval([3], 0, z=Z),
        lambda: wilson_interval([4], 3, z=Z),
        lambda: difference_interval([1, 2], [1], n_real=3, n_fake=3, z=Z),
        lambda: superiority([], [1]),
        lambda: superiority([[1]], [1]),
        lambda: superiority_interval(np.nan, 3, 3, z=Z),
        lambda: superiority_interval(1.1, 3, 3, z=Z),
        lambda: conformal_p_values([np.nan], [1]),
        lambda: conformal_p_values([], [1]),
    ],
)
def test_wrong_arguments_are_refused(call):
    with pytest.raises(ValueError, match=r"must|hold NaN"):
        call()
