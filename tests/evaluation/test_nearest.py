"""Training images beside samples."""

import numpy as np
import pytest

from saegan_jax.evaluation import nearest


@pytest.mark.parametrize("block", [nearest.BLOCK, 100, 1])
def test_the_nearest_training_image_of_a_copy_is_itself_wherever_it_is(block, monkeypatch):
    monkeypatch.setattr(nearest, "BLOCK", block)
    training = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
    image = training[7].copy()
    image[0, 0] = 0
    found, distance = nearest.nearest_training_images(np.stack([training[3], image, training[19]]), training)
    np.testing.assert_array_equal(found, training[[3, 7, 19]])
    assert distance[0] == distance[2] == 0
    assert abs(distance[1] - training[7, 0, 0, 0] / 255 / 4) < 1e-6


def test_no_training_image_is_left_out(monkeypatch):
    """However many there are; a limit of memory changes how many are compared at once."""
    for name in ("BLOCK", "MOST_NUMBERS"):
        monkeypatch.setattr(nearest, name, 64, raising=False)
    training = np.arange(13, dtype=np.uint8).reshape(13, 1, 1, 1).repeat(16, axis=1)
    found, distance = nearest.nearest_training_images(training, training)
    np.testing.assert_array_equal(found, training)
    np.testing.assert_array_equal(distance, np.zeros(13))
