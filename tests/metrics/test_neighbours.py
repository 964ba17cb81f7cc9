"""Precision, recall, density, coverage and memorisation by hand, and against scikit-learn, SciPy and plain distances."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu
from sklearn.neighbors import NearestNeighbors

from saegan_jax.metrics import NeighbourMetrics, memorisation, neighbour_metrics, neighbours
from saegan_jax.metrics.neighbours import compare_distances, nearest_distances

rng = np.random.default_rng(0)


def by_sklearn(real: np.ndarray, fake: np.ndarray, k: int) -> NeighbourMetrics:
    def radii(x: np.ndarray) -> np.ndarray:
        # Asked about its own points by default, it leaves out each point itself.
        return NearestNeighbors(n_neighbors=k, algorithm="kd_tree").fit(x).kneighbors()[0][:, -1]

    distance = cdist(real, fake)
    inside = distance <= radii(real)[:, None]
    return NeighbourMetrics(
        precision=inside.any(0).mean(),
        recall=(distance <= radii(fake)).any(1).mean(),
        density=inside.sum() / (k * len(fake)),
        coverage=inside.any(1).mean(),
    )


def column(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


def test_by_hand_in_one_dimension() -> None:
    # Real balls with k = 1: [-1, 1] about 0, [0, 2] about 1, [-5, 13] about 4; fake: [2.5, 4.5], [2.5, 4.5], [-11, 18].
    real, fake = column(0, 1, 4), column(3.5, 4.5, 19)
    # Radii: real 1, 1, 3; fake 1, 1, 14.5. Only 3.5 and 4.5 lie in [1, 7]; 4 lies in both small fake balls, 0 and 1 in none.
    assert neighbour_metrics(real, fake, k=1) == pytest.approx((2 / 3, 1 / 3, 2 / 3, 1 / 3))
    # k = 2: real radii 4, 3, 4; fake 15.5, 14.5, 15.5: every real point is within 15.5 of 3.5.
    # 3.5 in [-4, 4], [-2, 4], [0, 8]; 4.5 in the last; 19 in none.
    assert neighbour_metrics(real, fake, k=2) == pytest.approx((2 / 3, 1, 4 / 6, 1))


@pytest.mark.parametrize("k", [1, 3, 5, 30])
@pytest.mark.parametrize("block", [1, 700, 4_000_000])
def test_agrees_with_an_independent_implementation(k: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", block)
    for real, fake in (
        (rng.normal(size=(90, 6)), 1.2 * rng.normal(size=(61, 6)) + 0.3),
        (rng.normal(size=(40, 2)) + 1000, 0.5 * rng.normal(size=(70, 2)) + 1000),
        (rng.normal(size=(31, 40)), rng.normal(size=(200, 40))),
    ):
        assert neighbour_metrics(real, fake, k=k) == pytest.approx(by_sklearn(real, fake, k), abs=1e-12)


def test_equal_sets_and_known_expectations() -> None:
    x = rng.normal(size=(300, 8)) + 50
    # Each point lies in its own ball and, on average, in k others; the k-th nearest lies on the boundary.
    assert neighbour_metrics(x, x[::-1], k=4) == pytest.approx((1, 1, 5 / 4, 1))
    metrics = neighbour_metrics(*rng.normal(size=(2, 2000, 3)), k=3)
    assert metrics.density == pytest.approx(1, abs=0.05)
    assert metrics.coverage == pytest.approx(1 - 2**-3, abs=0.03)


def test_what_each_one_sees() -> None:
    real = np.concatenate([rng.normal(size=(200, 2)), rng.normal(size=(200, 2)) + 100])
    dropped = neighbour_metrics(real, rng.normal(size=(400, 2)))  # a mode is missing
    assert min(dropped.precision, dropped.density) > 0.9
    assert max(dropped.recall, dropped.coverage) < 0.52
    # Half the samples are off, the others copies, which lie in their own ball and on average five more.
    assert neighbour_metrics(real[:200], real) == pytest.approx((1 / 2, 1, 6 / 5 / 2, 1))
    # One real outlier makes precision generous; density hardly notices.
    outlier = np.concatenate([real[:200], [[50.0, 0.0]]])
    off = rng.normal(size=(200, 2)) + np.array([20, 0])
    with_outlier = neighbour_metrics(outlier, off)
    assert with_outlier.precision == 1
    assert with_outlier.density == pytest.approx(1 / 5)
    assert with_outlier.coverage == pytest.approx(1 / 201)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_copies_are_at_distance_zero(offset: float) -> None:
    x = rng.normal(size=(50, 33)) + offset
    sixfold = np.repeat(x, 6, axis=0)  # five others at distance 0: every radius is 0
    near = x + 1e-3 * rng.normal(size=x.shape)
    assert neighbour_metrics(sixfold, x, k=5) == pytest.approx((1, 1, 6 / 5, 1))
    assert neighbour_metrics(sixfold, near, k=5)[0::2] == (0, 0)
    assert neighbour_metrics(sixfold, near, k=5).coverage == 0
    # A collapsed generator: one image, of the data.
    collapsed = neighbour_metrics(x, np.repeat(x[:1], 40, axis=0), k=5)
    expected = cdist(x, x[:1])[:, 0] <= np.sort(cdist(x, x), axis=1)[:, 5] * (1 + 1e-9)
    assert collapsed == pytest.approx((1, 1 / 50, expected.sum() / 5, expected.mean()))
    # All of it one point.
    same = np.full((8, 33), offset + 0.1)
    assert neighbour_metrics(same, same) == pytest.approx((1, 1, 8 / 5, 1))
    assert neighbour_metrics(same, same + 1) == (0, 0, 0, 0)


def test_memorised_samples_lie_on_the_boundary_and_count() -> None:
    # The only real point beside x_i is its nearest, which the generator repeats: at exactly the radius.
    real = rng.normal(size=(400, 64)) @ rng.normal(size=(64, 64))
    for rows in (slice(0, 7), slice(13, 211)):
        fake = real[rows]
        distance, kth = cdist(real, fake), np.sort(cdist(real, real), axis=1)[:, 3]
        inside = distance <= kth[:, None] * (1 + 1e-9)
        assert neighbour_metrics(real, fake, k=3).density == pytest.approx(inside.sum() / (3 * len(fake)), abs=1e-12)
        assert neighbour_metrics(real, fake, k=3).coverage == inside.any(1).mean()


def test_samples_far_away_do_not_drown_in_rounding() -> None:
    real, fake = rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) + 1e9
    assert neighbour_metrics(real, fake) == (0, 0, 0, 0)


def test_invariance() -> None:
    x, y = rng.normal(size=(80, 5)), rng.normal(size=(60, 5)) + 0.5
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    metrics = neighbour_metrics(x, y)
    assert neighbour_metrics(7e3 * x @ rotation + 3, 7e3 * y @ rotation + 3) == metrics
    assert neighbour_metrics(x[rng.permutation(80)], y[rng.permutation(60)]) == metrics
    # Exchanged, precision and recall change places.
    assert neighbour_metrics(y, x)[:2] == metrics[1::-1]


def test_bad_input_is_named() -> None:
    good = rng.normal(size=(9, 3))
    for bad in (good[:1], good[0], good * np.nan, good * np.inf):
        with pytest.raises(ValueError, match="real_features"):
            neighbour_metrics(bad, good)
        with pytest.raises(ValueError, match="fake_features"):
            neighbour_metrics(good, bad)
    with pytest.raises(ValueError, match="3 columns and fake_features 2"):
        neighbour_metrics(good, good[:, :2])
    with pytest.raises(ValueError, match=r"fake_features have 5 rows.*k = 5"):
        neighbour_metrics(good, good[:5])
    with pytest.raises(ValueError, match=r"real_features have 5 rows.*k = 5"):
        neighbour_metrics(good[:5], good)
    assert neighbour_metrics(good[:6], good[:6]).precision == 1
    for k in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="k = "):
            neighbour_metrics(good, good, k=k)  # type: ignore[arg-type]


def test_memory_stays_bounded() -> None:
    x, y = rng.normal(size=(2, 3500, 16))  # all pairs: 98 MB, and three times that in all
    for compare in (lambda: neighbour_metrics(x, y), lambda: memorisation(x, y, y)):
        tracemalloc.start()
        compare()
        assert tracemalloc.get_traced_memory()[1] < 80e6
        tracemalloc.stop()


def test_memorisation_by_hand() -> None:
    train = column(0, 10)
    # Held out: distances 1, 2, 3, 4; generated: 0, 2, 5.
    result = memorisation(train, column(1, -2, 13, 6), column(10, 2, 15))
    assert result.probability == pytest.approx((4 + (2 + 0.5) + 0) / 12)
    assert result.ratio == pytest.approx(2 / 2.5)


@pytest.mark.parametrize("block", [7_000, 4_000_000])
def test_memorisation_agrees_with_an_independent_implementation(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", block)
    # Whole numbers: many ties, between distances and between neighbours; more than 1,000 points: several blocks.
    train, held_out, fake = (rng.integers(-6, 6, size=(n, 3)) + 100.0 for n in (150, 70, 1100))
    result = memorisation(train, held_out, fake)
    near_held_out, near_fake = cdist(held_out, train).min(1), cdist(fake, train).min(1)
    u = mannwhitneyu(near_held_out, near_fake).statistic  # pairs where the first is larger, ties by half
    assert result.probability == pytest.approx(u / (70 * 1100), rel=1e-12)
    assert result.ratio == pytest.approx(np.median(near_fake) / np.median(near_held_out), rel=1e-12)
    np.testing.assert_array_equal(nearest_distances(train, fake), near_fake)
    apart = rng.normal(size=(1100, 5))
    tree = NearestNeighbors(n_neighbors=1).fit(apart)
    np.testing.assert_allclose(nearest_distances(apart), tree.kneighbors()[0][:, 0], rtol=1e-12)
    np.testing.assert_allclose(nearest_distances(apart, rows=9), tree.kneighbors()[0][:9, 0], rtol=1e-12)
    np.testing.assert_array_equal(nearest_distances(np.repeat(apart, 2, axis=0)), np.zeros(2200))


def test_memorisation_tells_copies_from_fresh_samples_and_from_strays() -> None:
    train, held_out, fresh = (rng.normal(size=(n, 10)) + 1e4 for n in (2000, 800, 800))
    deviation = math.sqrt(1601 / (12 * 800 * 800))
    assert memorisation(train, held_out, fresh).probability == pytest.approx(0.5, abs=4 * deviation)
    assert memorisation(train, held_out, fresh).ratio == pytest.approx(1, abs=0.05)
    assert memorisation(train, held_out, train[:500]) == (1, 0)
    assert memorisation(train, held_out, np.concatenate([train[:400], fresh[:400]])).probability > 0.7
    assert memorisation(train, held_out, fresh + 100) == (0, pytest.approx(100 * math.sqrt(10) / 2, rel=0.3))
    assert memorisation(train, held_out, held_out) == (0.5, 1)


def test_memorisation_where_the_held_out_repeat_the_training_points() -> None:
    train = rng.normal(size=(20, 3))
    assert memorisation(train, train[:4], train + 1) == (0, math.inf)
    copies = memorisation(train, train[:4], train[7:9])
    assert copies.probability == 0.5
    assert math.isnan(copies.ratio)


def test_memorisation_names_bad_input() -> None:
    good = rng.normal(size=(4, 3))
    sets = {"train_features": good, "held_out_features": good, "fake_features": good}
    for name in sets:
        for bad in (good[:0], good[0], good * np.nan, good * np.inf):
            with pytest.raises(ValueError, match=name):
                memorisation(**sets | {name: bad})
    for name in ("held_out_features", "fake_features"):
        with pytest.raises(ValueError, match=f"3 columns and {name} 2"):
            memorisation(**sets | {name: good[:, :2]})
    with pytest.raises(ValueError, match="at least 2"):
        nearest_distances(good[:1])
    assert compare_distances(np.ones(1), np.ones(1)) == (0.5, 1)
