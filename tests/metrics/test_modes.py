"""Modes, reverse KL and its floor, and Gaussian mixtures: by hand, against SciPy, and against what has been published."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import entropy, multinomial

from saegan_jax.metrics import class_balance_kl, mixture_quality, mode_count, reverse_kl, reverse_kl_floor

rng = np.random.default_rng(0)
# Images of each digit in MNIST, training and test files together.
MNIST = np.array([6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958]) / 70000
RING = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)


def test_modes_by_hand() -> None:
    assert mode_count([3, 3, 0, 9], num_modes=10) == 3
    assert mode_count(np.arange(1000, dtype=np.int32), num_modes=1000) == 1000
    assert mode_count([0], num_modes=1) == 1


def test_reverse_kl_by_hand_and_by_scipy() -> None:
    assert reverse_kl([0, 1, 2, 3], num_modes=4) == 0
    assert reverse_kl([2, 2], num_modes=1000) == pytest.approx(math.log(1000))
    assert reverse_kl([0, 1], num_modes=8) == pytest.approx(math.log(4))
    assert reverse_kl([0, 0, 0, 1], num_modes=2) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    labels = rng.integers(0, 50, 300) ** 2 // 50
    counts = np.bincount(labels, minlength=60)
    assert reverse_kl(labels, num_modes=60) == pytest.approx(entropy(counts, np.ones(60)))
    assert reverse_kl(labels, num_modes=60) == class_balance_kl(labels, num_classes=60)


def test_floor_agrees_with_exact_enumeration() -> None:
    # Every outcome of four samples over three modes, with its probability.
    for p in ([1 / 3] * 3, [0.5, 0.3, 0.2]):
        outcomes = [(a, b, 4 - a - b) for a in range(5) for b in range(5 - a)]
        chance = np.array([multinomial.pmf(o, 4, p) for o in outcomes])
        values = np.array([entropy(o, [1, 1, 1]) for o in outcomes])
        mean = chance @ values
        std = math.sqrt(chance @ (values - mean) ** 2)
        floor = reverse_kl_floor(4, num_modes=3, probabilities=p, repeats=4000)
        assert floor.mean == pytest.approx(mean, abs=4 * std / math.sqrt(4000))
        assert floor.std == pytest.approx(std, rel=0.06)
    assert reverse_kl_floor(1, num_modes=7) == pytest.approx((math.log(7), 0))
    assert reverse_kl_floor(5, num_modes=1) == (0, 0)


def test_floor_of_equal_modes_is_the_textbook_bias() -> None:
    floor = reverse_kl_floor(26_000, num_modes=1000)
    assert floor.mean == pytest.approx(999 / 52_000, rel=0.02)
    # 2 n KL is about chi-squared with 999 degrees of freedom.
    assert floor.std == pytest.approx(math.sqrt(2 * 999) / 52_000, rel=0.2)
    assert floor == reverse_kl_floor(26_000, num_modes=1000)
    assert reverse_kl(np.repeat(np.arange(1000), 26), num_modes=1000) == pytest.approx(0, abs=1e-12)


def test_floor_of_stacked_mnist() -> None:
    # MNIST's digits are not equally frequent: KL(p || uniform) per channel comes on top.
    three = np.einsum("i,j,k->ijk", MNIST, MNIST, MNIST).ravel()
    for n, mean, tolerance in ((26_000, 0.0236, 4e-4), (50_000, 0.0144, 3e-4), (240_000, 0.0064, 2e-4)):
        assert reverse_kl_floor(n, num_modes=1000, probabilities=three).mean == pytest.approx(mean, abs=tolerance)
    assert reverse_kl_floor(26_000, num_modes=1000, probabilities=three).std == pytest.approx(0.0011, rel=0.2)
    four = np.outer(three, MNIST).ravel()
    floor = reverse_kl_floor(260_000, num_modes=10_000, probabilities=four, repeats=20)
    assert floor.mean == pytest.approx(0.0253, abs=3e-4)


def test_bad_labels_and_counts_are_named() -> None:
    for measure in (mode_count, reverse_kl):
        for labels in ([], [0.5], [[0]], [-1], [3], [np.nan]):
            with pytest.raises(ValueError, match="labels"):
                measure(np.array(labels), num_modes=3)
        for num_modes in (0, 2.5, True):
            with pytest.raises(ValueError, match="num_modes"):
                measure([0], num_modes=num_modes)  # type: ignore[arg-type]
    good = {"n": 10, "num_modes": 3, "repeats": 5}
    for field, value in (("n", 0), ("n", 1.5), ("num_modes", 0), ("repeats", 1)):
        with pytest.raises(ValueError, match=field):
            reverse_kl_floor(**good | {field: value})  # type: ignore[arg-type]
    for p in ([0.5, 0.5], [0.5, 0.6, 0.1], [1.5, -0.5, 0], [np.nan, 0.5, 0.5]):
        with pytest.raises(ValueError, match="probabilities"):
            reverse_kl_floor(10, num_modes=3, probabilities=p)


def test_mixture_by_hand() -> None:
    centers = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]
    points = [[0, 0.5], [3, 0], [10, 4], [7.1, 0]]
    # Distances 0.5, 3, 4 and 2.9 from centres 0, 0, 1 and 1: three of high quality, on both; the third mode has none.
    found = mixture_quality(points, centers, sigma=1)
    assert found == pytest.approx((2, 3 / 4, math.log(1.5)))
    # A smaller width leaves only the first; the assignment stays.
    assert mixture_quality(points, centers, sigma=0.5) == pytest.approx((1, 1 / 4, math.log(1.5)))
    assert mixture_quality([[5.0, 100.0]], centers, sigma=1)[:2] == (0, 0)


def test_mixture_agrees_with_plain_distances_in_any_dimension() -> None:
    for d in (1, 2, 5):
        centers, points = rng.normal(size=(9, d)), rng.normal(size=(400, d))
        distance = cdist(points, centers)
        nearest, near = distance.argmin(1), distance.min(1) <= 3 * 0.2
        found = mixture_quality(points.astype(np.float32), centers, sigma=0.2)
        assert found.modes == len(set(nearest[near]))
        assert found.high_quality == pytest.approx(near.mean())
        assert found.reverse_kl == pytest.approx(entropy(np.bincount(nearest, minlength=9), np.ones(9)))


def test_the_true_mixture_scores_its_ceiling() -> None:
    n, sigma = 100_000, 0.01
    points = RING[rng.integers(0, 8, n)] + sigma * rng.normal(size=(n, 2))
    found = mixture_quality(points, RING, sigma=sigma)
    assert found.modes == 8
    ceiling = 1 - math.exp(-4.5)
    assert found.high_quality == pytest.approx(ceiling, abs=4 * math.sqrt(ceiling * (1 - ceiling) / n))
    floor = reverse_kl_floor(n, num_modes=8)
    assert found.reverse_kl < floor.mean + 6 * floor.std


def test_bad_mixtures_are_named() -> None:
    points = rng.normal(size=(5, 2))
    for bad in (points[:0], points[0], points * np.nan, points * np.inf):
        with pytest.raises(ValueError, match="points"):
            mixture_quality(bad, RING, sigma=0.1)
        with pytest.raises(ValueError, match="centers"):
            mixture_quality(points, bad, sigma=0.1)
    with pytest.raises(ValueError, match="2 columns and centers 3"):
        mixture_quality(points, np.ones((1, 3)), sigma=0.1)
    with pytest.raises(ValueError, match="coincide"):
        mixture_quality(points, [[0.0, 1.0], [0.0, 1.0]], sigma=0.1)
    for sigma in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="sigma"):
            mixture_quality(points, RING, sigma=sigma)
