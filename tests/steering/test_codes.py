"""Edits of sparse codes: units on and off, mixtures, ways between two, and how active a unit usually is."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import normal

from saegan_jax.steering import interpolate, mix, slerp, typical_activity, with_unit

A = jnp.array([[0.0, 2.0, 0.0, 1.0]])
B = jnp.array([[3.0, 1.0, 0.5, 0.0]])


def test_one_unit_changes_and_no_other():
    on = with_unit(A, 2, 1.5)
    np.testing.assert_array_equal(on, [[0, 2, 1.5, 1]])
    np.testing.assert_array_equal(with_unit(on, 2, 0.0), A)


@pytest.mark.parametrize("unit", [-1, 4])
def test_units_that_do_not_exist_are_refused(unit):
    with pytest.raises(ValueError, match=rf"unit {unit} does not exist: the codes have the units 0 to 3"):
        with_unit(A, unit, 1.0)


def test_a_mixture_keeps_the_strongest_and_as_many_as_the_fuller_code():
    np.testing.assert_array_equal(mix(A, B), [[3, 2, 0, 1]])  # b has three active units
    np.testing.assert_array_equal(mix(A, A), A)
    np.testing.assert_array_equal(mix(jnp.zeros((1, 4)), jnp.zeros((1, 4))), np.zeros((1, 4)))
    np.testing.assert_array_equal(mix(A, jnp.zeros((1, 4))), A)


def test_a_mixture_of_several_is_taken_row_by_row():
    both = mix(jnp.concatenate([A, B]), jnp.concatenate([B, A]))
    np.testing.assert_array_equal(both[0], both[1])
    np.testing.assert_array_equal(both[0], mix(A, B)[0])


def test_the_way_between_two_codes():
    way = interpolate(A[0], B[0], 5)
    np.testing.assert_array_equal(way[0], A[0])
    np.testing.assert_array_equal(way[-1], B[0])
    np.testing.assert_allclose(way[1], 0.75 * np.asarray(A[0]) + 0.25 * np.asarray(B[0]))


def test_an_arc_ends_where_it_should_and_keeps_the_norm():
    a, b = normal(50), normal(50, seed=1)
    way = slerp(a, b, 5)
    np.testing.assert_allclose(way[0], a, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(way[-1], b, rtol=1e-5, atol=1e-5)
    even = np.linspace(np.linalg.norm(a), np.linalg.norm(b), 5)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), even, rtol=1e-5)
    assert np.linalg.norm((a + b) / 2) < 0.9 * even[2]  # as the straight line does not
    np.testing.assert_allclose(slerp(a, a, 3), np.stack([a] * 3), rtol=1e-5)
    np.testing.assert_allclose(slerp(a, -a, 3)[1], np.zeros(50), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mix(A, B[:, :3]), "a and b must have one shape"),
        (lambda: mix(A[0], B[0]), r"codes must have shape \(n, d_code\)"),
        (lambda: interpolate(A, B, 3), r"a and b must be codes \(d_code,\)"),
        (lambda: interpolate(A[0], B[0], 1), "n = 1 cannot be used"),
        (lambda: typical_activity(A[0]), r"codes must have shape \(n, d_code\)"),
        (lambda: with_unit(A[0], 1, 0.0), r"codes must have shape \(n, d_code\)"),
    ],
)
def test_wrong_shapes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_usual_activity_leaves_inactive_codes_out():
    codes = jnp.array([[0.0, 1.0, 0.0], [0.0, 3.0, 0.0], [2.0, 5.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(typical_activity(codes), [2.0, 3.0, 0.0])
    np.testing.assert_allclose(typical_activity(codes, level=1.0), [2.0, 5.0, 0.0])
