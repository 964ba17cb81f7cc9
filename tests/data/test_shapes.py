"""Drawn shapes: the factors are independent, each one shows in the images, and the images are always the same."""

import hashlib
from itertools import combinations

import numpy as np
import pytest

from saegan_jax.data import DataError, load
from saegan_jax.data.shapes import FACTORS, render, shapes_with_factors


@pytest.fixture(scope="module")
def drawn():
    return shapes_with_factors()


def test_images_are_always_the_same(drawn):
    dataset = drawn.dataset
    assert dataset.image_shape == (32, 32, 3)
    assert [len(s.label) for s in (dataset.train, dataset.validation, dataset.test)] == [10_000, 1_000, 1_000]
    # Of the factors and not of the pixels, whose rounding may differ between machines.
    assert hashlib.sha256(drawn.factors["test"].tobytes()).hexdigest()[:8] == "f9e83f3e"
    assert load("shapes").train.label.tolist() == drawn.factors["train"][:, 0].tolist()
    with pytest.raises(DataError, match="32x32"):
        load("shapes", size=28)


def test_factors_are_uniform_and_independent(drawn):
    factors = drawn.factors["train"]
    for column, levels in zip(factors.T, FACTORS.values(), strict=True):
        counts = np.bincount(column, minlength=levels)
        assert ((counts - 1e4 / levels) ** 2 / (1e4 / levels)).sum() < 25  # chi squared with at most 7 degrees
    for a, b in combinations(range(len(FACTORS)), 2):
        assert abs(np.corrcoef(factors[:, a], factors[:, b])[0, 1]) < 0.04


def test_every_level_of_every_factor_has_its_image():
    base = np.array([[1, 2, 2, 1, 3, 2]], np.int32)
    for shape in range(3):
        for place, levels in enumerate(FACTORS.values()):
            rows = base.repeat(levels, axis=0)
            rows[:, 0] = shape
            rows[:, place] = np.arange(levels)
            images = render(rows).reshape(levels, -1)
            assert len(np.unique(images, axis=0)) == levels, (shape, place)


def test_places_are_where_the_factors_say():
    rows = np.array([[0, 0, 1, 0, x, y] for x in (0, 5) for y in (0, 5)], np.int32)
    for image, centre in zip(render(rows), [(10, 10), (10, 22), (22, 10), (22, 22)], strict=True):
        weight = image[..., 0] / image[..., 0].sum()
        pixel = np.arange(32) + 0.5
        assert (weight.sum(axis=0) @ pixel, weight.sum(axis=1) @ pixel) == pytest.approx(centre, abs=0.05)


def test_hues_and_areas():
    rows = np.array([[1, hue, 3, 0, 3, 3] for hue in range(8)], np.int32)
    images = render(rows).astype(np.float64)
    assert images[0].max(axis=(0, 1)).tolist() == [255, 0, 0]
    areas = images.max(axis=-1).sum(axis=(1, 2)) / 255
    np.testing.assert_allclose(areas, np.pi * 9 * 4.5, rtol=0.03)  # of an ellipse with half axes 9 and 4.5
    assert not images[:, [0, 31]].any()  # no shape is cut off
