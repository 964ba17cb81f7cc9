"""Found features against cases worked by hand: directions, and activity."""

import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax.metrics import activity, detection, match_features
from saegan_jax.metrics.recovery import Activity

ATOMS = np.eye(4)[:3] * np.array([[2.0], [1.0], [5.0]])


def test_directions_by_hand() -> None:
    # Units 0 and 1 are nearest to feature 0, at cosines 1 and -0.8; one to one, unit 1 gets feature 1 at 0.6.
    found = match_features([[3.0, 0, 0, 0], [-0.8, 0.6, 0, 0]], ATOMS)
    assert found.nearest.tolist() == [0, 0]
    assert found.uniqueness == 0.5
    assert found.mcc == pytest.approx((1 + 0.6) / 2)


def test_more_units_than_features_leave_some_without_one() -> None:
    found = match_features(np.eye(4), ATOMS)
    assert found.mcc == 1
    assert found.nearest[:3].tolist() == [0, 1, 2]
    assert found.uniqueness == 0.75


def test_activity_by_hand() -> None:
    features = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
    codes = jnp.array([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.0, 0.2, 0.0]])
    counts = activity(codes, features, jnp.array([0, 1, 1]), threshold=0.1)
    assert [count.tolist() for count in counts] == [[1, 1, 0], [2, 1, 0], [2, 1, 1]]
    found = detection(counts)
    # Unit 0: 1/2 and 1/2; unit 1: 1 and 1; unit 2 is never active: 0 and 0.
    assert found == pytest.approx((0.5, 0.5, 0.5))
    assert detection(Activity(*(jnp.array([n]) for n in (1, 1, 4)))).f1 == pytest.approx(0.4)  # precision 1, recall 1/4


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="nearest"):
        activity(jnp.zeros((2, 3)), jnp.zeros((2, 2)), jnp.zeros(2, jnp.int32), threshold=0.0)
