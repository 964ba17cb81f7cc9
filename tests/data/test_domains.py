"""Pairs of domains: disjoint halves, maps that are undone to the bit, pairs for scoring alone."""

import numpy as np
import pytest

import saegan_jax.data.domains
from saegan_jax.data import DataError, Dataset, Split
from saegan_jax.data.domains import Domains, invert_rotate, inverted_rotated, load_domains, undo_invert_rotate
from saegan_jax.data.embedded import digits


def rows(images):
    return sorted(image.tobytes() for image in images)


@pytest.fixture(scope="module")
def domains():
    return load_domains("digits_inverted_rotated")


def test_training_images_of_the_two_are_disjoint_halves(domains):
    source, a, b = digits(), domains.a, domains.b
    assert len(a.train.label) + len(b.train.label) == len(source.train.label)
    assert abs(len(a.train.label) - len(b.train.label)) <= 1
    back = undo_invert_rotate(b.train.image)
    assert rows([*a.train.image, *back]) == rows(source.train.image)
    # Of each class as many in both, so that neither can be told by its classes.
    assert np.abs(np.bincount(a.train.label) - np.bincount(b.train.label)).max() <= 1
    # At no place do the two hold the same digit: what is trained on is not a list of pairs.
    n = min(len(back), len(a.train.image))
    assert not (a.train.image[:n] == back[:n]).all(axis=(1, 2, 3)).any()
    # Nor is any of them a test image.
    assert not {*rows(a.train.image), *rows(back)} & {*rows(source.test.image)}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_images_are_pairs(domains, split):
    a, b, source = (getattr(d, split) for d in (domains.a, domains.b, digits()))
    np.testing.assert_array_equal(a.image, source.image)
    np.testing.assert_array_equal(b.image, invert_rotate(a.image))
    np.testing.assert_array_equal(b.label, a.label)
    assert b.image.flags.c_contiguous


def test_the_map_by_hand_and_its_inverse():
    image = np.array([[10, 20], [30, 40]], np.uint8)[None, :, :, None]
    want = np.array([[235, 215], [245, 225]], np.uint8)[None, :, :, None]  # 20 40 / 10 30 are the turned pixels
    np.testing.assert_array_equal(invert_rotate(image), want)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 5, 5, 2), dtype=np.uint8)
    for first, second in ((invert_rotate, undo_invert_rotate), (undo_invert_rotate, invert_rotate)):
        np.testing.assert_array_equal(second(first(pixels)), pixels)
        unit = first((pixels / 255).astype(np.float32))
        assert unit.dtype == np.float32
        np.testing.assert_allclose(unit, first(pixels) / 255, atol=1e-6)


def test_two_hands(monkeypatch):
    """MNIST itself is not read: any 28x28 images stand for it."""
    image = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), dtype=np.uint8)
    split = Split(image, np.arange(20, dtype=np.int32) % 10)
    asked = {}

    def load(name, **folders):
        asked.update(name=name, **folders)
        return Dataset("mnist", split, split, split, 10)

    monkeypatch.setattr(saegan_jax.data.domains, "load", load)
    found = load_domains("mnist_digits", manual_dir="m", data_dir="d")
    assert asked == {"name": "mnist", "manual_dir": "m", "data_dir": "d"}
    assert found.image_shape == found.b.image_shape == (28, 28, 1)
    assert found.to_a is found.to_b is found.source is None
    np.testing.assert_array_equal(found.a.train.image, image)
    small, large = digits(), found.b
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(large, name).label, getattr(small, name).label)
        ink = getattr(large, name).image
        assert ink[:, 4:24, 4:24].max() == 255
        ink = ink.copy()
        ink[:, 4:24, 4:24] = 0
        assert not ink.any()
    # The enlarged digits are those digits: as much ink for their area.
    ratio = large.test.image.astype(float).sum(axis=(1, 2, 3)) / small.test.image.astype(float).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(ratio, (20 / 8) ** 2, rtol=0.25)
    mapped = load_domains("mnist_inverted_rotated")
    assert mapped.source.name == "mnist"
    assert len(mapped.a.train.label) == len(mapped.b.train.label) == 10


def test_what_cannot_be_had():
    with pytest.raises(DataError, match=r"domains='horse2zebra' is unknown: choose one of digits_inverted_rotated"):
        load_domains("horse2zebra")
    split = Split(np.zeros((8, 4, 6, 1), np.uint8), np.zeros(8, np.int32))
    with pytest.raises(DataError, match=r"domains='x' rotates its images, and those of wide are 4x6"):
        inverted_rotated("x", Dataset("wide", split, split, split, 1))


def small(n: int, shape: tuple[int, int, int] = (8, 8, 1), dtype: type = np.uint8) -> Dataset:
    split = Split(np.zeros((n, *shape), dtype), np.zeros(n, np.int32))
    return Dataset("small", split, split, split, num_classes=1)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: small(4, (8, 9, 1)), "images of A have 8x8 pixels and 1 channel, those of B 8x9 pixels and 1 channel"),
        (lambda: small(4, (8, 8, 3)), "those of B 8x8 pixels and 3 channels, .* convert one domain first"),
        (lambda: small(1), "domain B has 1 training image, .* give 2"),
        (lambda: small(4, dtype=np.float32), "split 'train' has image float32 .* but wants uint8"),
    ],
)
def test_domains_that_cannot_be_translated_are_refused_in_a_sentence(other, message):
    with pytest.raises(DataError, match=message):
        Domains("pair", small(4), other())
    assert Domains("pair", small(4), small(2)).image_shape == (8, 8, 1)
