"""Statistics of units: densities, the examples a unit is most active on, class purity, nearest atoms."""

import numpy as np
import pytest

from saegan_jax.metrics import class_purity, nearest_units, unit_statistics

ACTIVITY = np.array([[0.0, 2.0, 0.0], [1.0, 0.05, 0.0], [3.0, 4.0, 0.0], [0.0, 4.0, 0.0]], np.float32)
LABELS = np.array([0, 1, 1, 2], np.int32)


def test_density_strength_and_top_examples():
    found = unit_statistics(ACTIVITY, threshold=0.1, count=3)
    np.testing.assert_allclose(found.density, [0.5, 0.75, 0.0])
    np.testing.assert_allclose(found.strength, [2.0, 10 / 3, 0.0], rtol=1e-6)
    # Of two equal activities the earlier example comes first, and what is not active is no example.
    np.testing.assert_array_equal(found.top, [[2, 1, -1], [2, 3, 0], [-1, -1, -1]])
    np.testing.assert_allclose(found.top_activity, [[3, 1, 0], [4, 4, 2], [0, 0, 0]])
    assert unit_statistics(ACTIVITY, threshold=0.1, count=9).top.shape == (3, 4)


def test_purity_is_the_share_of_the_most_frequent_class_where_active():
    found = class_purity(ACTIVITY, LABELS, num_classes=4, threshold=0.1)
    np.testing.assert_allclose(found.purity, [1.0, 1 / 3, np.nan], rtol=1e-6)
    np.testing.assert_array_equal(found.label, [1, 0, -1])
    assert found.floor == 0.5  # a unit that is always active
    always = class_purity(np.ones((4, 1)), LABELS, num_classes=4, threshold=0.1)
    assert always.purity[0] == always.floor


def test_nearest_units_look_at_the_sign_and_not_at_the_length():
    W = np.array([[1.0, 0.0], [5.0, 0.5], [-1.0, 0.0], [0.0, 0.0]], np.float32)
    found = nearest_units(W, count=2)
    assert found.unit.shape == (4, 2)
    np.testing.assert_array_equal(found.unit[0], [1, 3])
    assert found.cosine[0, 0] == pytest.approx(10 / np.hypot(10, 1), rel=1e-6)
    assert found.unit[2, 0] == 3  # the opposite direction is the farthest
    assert nearest_units(W, count=9).unit.shape == (4, 3)
    assert nearest_units(W[:1], count=1).unit.shape == (1, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unit_statistics(ACTIVITY, threshold=0, count=0), "count = 0: ask for at least one example"),
        (lambda: unit_statistics(ACTIVITY[0], threshold=0, count=1), r"got shape \(3,\)"),
        (lambda: unit_statistics(np.full((2, 2), np.nan), threshold=0, count=1), "not all finite"),
        (lambda: class_purity(ACTIVITY, LABELS[:2], num_classes=3, threshold=0), r"labels must be \(4,\) integers"),
        (lambda: class_purity(ACTIVITY, LABELS, num_classes=2, threshold=0), "outside the 2 classes"),
        (lambda: nearest_units(np.ones((2, 2)), count=0), "count = 0: ask for at least one neighbour"),
    ],
)
def test_what_cannot_be_measured_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
