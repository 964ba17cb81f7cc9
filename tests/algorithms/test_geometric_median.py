"""The geometric median against a general optimiser, its optimality conditions and cases with a known answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from saegan_jax.algorithms.geometric_median import center, geometric_median

rng = np.random.default_rng(0)


def total_distance(y: np.ndarray, x: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(x, np.float64) - np.asarray(y, np.float64), axis=1).sum())


def points(*shape: int) -> jax.Array:
    return jnp.asarray(rng.gamma(1.0, size=shape), jnp.float32)


@pytest.mark.parametrize(("n", "d"), [(7, 2), (40, 5), (300, 20)])
def test_agrees_with_a_general_optimiser(n: int, d: int) -> None:
    x = points(n, d)
    start = np.asarray(x, np.float64).mean(0)
    best = scipy.optimize.minimize(total_distance, start, args=(np.asarray(x),), method="BFGS")
    got = geometric_median(x, iterations=500)
    assert got.shape == (d,)
    assert got.dtype == jnp.float32
    assert total_distance(got, x) <= best.fun * (1 + 1e-6)
    np.testing.assert_allclose(got, best.x, atol=1e-3)


def test_the_unit_vectors_to_the_points_cancel() -> None:
    x = points(2000, 50) + 3.0
    apart = np.asarray(x, np.float64) - np.asarray(geometric_median(x), np.float64)
    pull = (apart / np.linalg.norm(apart, axis=1, keepdims=True)).mean(0)
    assert np.linalg.norm(pull) < 1e-5
    away = np.asarray(x, np.float64) - np.asarray(x, np.float64).mean(0)
    assert np.linalg.norm((away / np.linalg.norm(away, axis=1, keepdims=True)).mean(0)) > 1e-2


def test_a_majority_of_coinciding_points_is_the_median() -> None:
    x = jnp.array([[1.0, 2.0], [9.0, -4.0], [1.0, 2.0], [-30.0, 7.0], [1.0, 2.0]])
    np.testing.assert_allclose(geometric_median(x, iterations=200), [1.0, 2.0], atol=1e-4)


def test_a_point_that_is_the_optimum_on_its_own() -> None:
    # The unit vectors from (0, 0) to the other points sum to (0, 0.6): shorter than 1, so it is the optimum.
    x = jnp.array([[0.0, 0.0], [8.0, 6.0], [-4.0, 0.0], [4.0, 0.0], [-4.0, 0.0], [4.0, 0.0], [-8.0, 0.0]])
    np.testing.assert_allclose(geometric_median(x, iterations=500), [0.0, 0.0], atol=1e-3)


def test_starting_on_a_point_that_is_the_optimum_stays_there() -> None:
    x = jnp.array([[0.0, 0.0], [3.0, 0.0], [-3.0, 0.0], [0.0, 5.0], [0.0, -5.0]])
    assert geometric_median(x).tolist() == [0.0, 0.0]
    assert geometric_median(jnp.full((4, 3), 2.5)).tolist() == [2.5] * 3
    assert geometric_median(jnp.array([[4.0, -1.0]])).tolist() == [4.0, -1.0]


def test_starting_on_a_point_that_is_not_the_optimum_leaves_it() -> None:
    # The mean is the data point (0, 0); plain Weiszfeld divides by zero there, or stays. The three points near (2, 0) pull
    # against one far one, 3 unit vectors to 1.
    x = jnp.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [2.0, -1.0], [-6.0, 0.0]])
    assert jnp.mean(x, axis=0).tolist() == [0.0, 0.0]
    got = geometric_median(x, iterations=500)
    best = scipy.optimize.minimize(total_distance, [1.0, 0.1], args=(np.asarray(x),), method="Nelder-Mead", tol=1e-10)
    assert np.linalg.norm(got) > 1
    assert total_distance(got, x) <= best.fun * (1 + 1e-5)


def test_a_step_from_a_point_by_hand() -> None:
    # The mean is the point 0. Of the others three pull to the left and one to the right, r = 2 and eta = 1: half of the step
    # -2 / (3 + 1/3) is taken.
    x = jnp.array([[-1.0], [-1.0], [-1.0], [0.0], [3.0]])
    assert float(geometric_median(x, iterations=1)[0]) == pytest.approx(-0.3)


def test_points_on_a_line_have_the_one_dimensional_median() -> None:
    t = np.array([-7.0, -1.0, 0.5, 2.0, 30.0])
    direction = np.array([3.0, 4.0, 12.0]) / 13
    x = jnp.asarray(1.0 + t[:, None] * direction[None], jnp.float32)
    np.testing.assert_allclose(geometric_median(x, iterations=1000), 1.0 + 0.5 * direction, atol=1e-3)
    got = geometric_median(jnp.asarray(t[:, None], jnp.float32), iterations=1000)
    np.testing.assert_allclose(got, [np.median(t)], atol=1e-3)


def test_one_far_point_hardly_moves_it() -> None:
    x = points(100, 3)
    far = x.at[0].set(1e5)
    assert np.linalg.norm(geometric_median(far) - geometric_median(x)) < 0.1
    assert np.linalg.norm(center(far, "mean") - center(x, "mean")) > 1000


def test_moves_with_the_points_and_scales_with_them() -> None:
    x = points(60, 4)
    y = geometric_median(x)
    np.testing.assert_allclose(geometric_median(1e-6 * x), 1e-6 * y, rtol=1e-4)
    np.testing.assert_allclose(geometric_median(x - 2.0), y - 2.0, atol=1e-4)
    np.testing.assert_allclose(geometric_median(x[::-1]), y, atol=1e-5)


def test_under_jit_and_vmap_and_from_other_types() -> None:
    x = points(3, 50, 4)
    each = jnp.stack([geometric_median(a) for a in x])
    np.testing.assert_allclose(jax.jit(jax.vmap(geometric_median))(x), each, atol=1e-5)
    pixels = jnp.asarray(rng.integers(256, size=(20, 6)), jnp.uint8)
    assert jnp.array_equal(geometric_median(pixels), geometric_median(pixels.astype(jnp.float32)))


def test_more_iterations_get_closer_and_the_tolerance_stops_early() -> None:
    x = jnp.concatenate([points(30, 2), jnp.full((9, 2), 50.0)])
    best = geometric_median(x, iterations=2000, tolerance=0.0)
    errors = [float(jnp.linalg.norm(geometric_median(x, iterations=i) - best)) for i in (1, 4, 16)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert jnp.array_equal(geometric_median(x, tolerance=1e9), geometric_median(x, iterations=1))


def test_center_chooses() -> None:
    x = jnp.array([[0.0], [0.0], [9.0]])
    assert center(x, "mean").tolist() == [3.0]
    assert center(x, "median") == pytest.approx(0, abs=1e-4)


def test_bad_input_is_named() -> None:
    for shape in ((4,), (0, 4), (2, 3, 4)):
        for call in (geometric_median, lambda x: center(x, "mean"), lambda x: center(x, "median")):
            with pytest.raises(ValueError, match="x must be"):
                call(jnp.ones(shape))
    with pytest.raises(ValueError, match="kind = 'mode'"):
        center(points(3, 2), "mode")
    with pytest.raises(ValueError, match="iterations = 0"):
        geometric_median(points(3, 2), iterations=0)
