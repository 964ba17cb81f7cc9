"""Labels told across domains by codes: by hand, at chance, and what cannot be compared."""

import numpy as np
import pytest

from saegan_jax.evaluation.shared_codes import neighbour_agreement


def test_the_nearest_by_direction_counts() -> None:
    codes, label = np.array([[1.0, 0.1], [0.0, 2.0], [0.0, 0.0]]), np.array([3, 4, 5])
    other, other_label = np.array([[9.0, 0.0], [0.1, 0.1], [-1.0, 5.0]]), np.array([3, 7, 4])
    # Not the nearest point, which would be the short one; a code of zeros has no direction, and takes the first.
    np.testing.assert_allclose(neighbour_agreement(codes, label, other, other_label), 2 / 3)
    assert neighbour_agreement(codes[:2], label[:2], other, other_label) == 1
    assert neighbour_agreement(codes[:2], label[:2], other, other_label[::-1]) == 0


def test_codes_without_labels_in_them_are_at_chance() -> None:
    rng = np.random.default_rng(0)
    codes, other = rng.normal(size=(2000, 5)), rng.normal(size=(500, 5))
    found = neighbour_agreement(codes, rng.integers(0, 4, 2000), other, rng.integers(0, 4, 500))
    assert abs(found - 0.25) < 0.05


@pytest.mark.parametrize(
    ("codes", "label", "match"),
    [
        (np.ones((2, 4)), np.ones(2), r"shapes \(2, 4\) and \(3, 5\)"),
        (np.ones(5), np.ones(5), r"shapes \(5,\)"),
        (np.ones((2, 5)), np.ones(3), r"label has shape \(3,\), but must be \(2,\)"),
    ],
)
def test_what_cannot_be_compared(codes: np.ndarray, label: np.ndarray, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        neighbour_agreement(codes, label, np.ones((3, 5)), np.ones(3))
