"""Digits, splits and the checks on them: nothing here imports tensorflow_datasets."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from saegan_jax import data
from saegan_jax.data import Dataset, Split, embedded


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits")


def _rows(split: Split) -> set[bytes]:
    return {image.tobytes() for image in split.image}


def test_digits_splits(digits):
    splits = (digits.train, digits.validation, digits.test)
    assert [len(s.label) for s in splits] == [1297, 250, 250]
    for split in splits:
        assert split.image.shape == (len(split.label), 8, 8, 1)
        assert split.image.dtype == np.uint8
        assert split.label.dtype == np.int32
        counts = np.bincount(split.label, minlength=10) / len(split.label)
        # Each class is within one example per hold-out of its share of the whole set (174 to 183 of 1797).
        np.testing.assert_allclose(counts, np.bincount(_all_labels(digits)) / 1797, atol=1.01 / 250)
    # All 1,797 images differ, so disjoint splits have no image in common and together hold them all.
    assert len(_rows(digits.train) | _rows(digits.validation) | _rows(digits.test)) == 1797
    assert (digits.name, digits.num_classes, digits.image_shape) == ("digits", 10, (8, 8, 1))


def _all_labels(dataset: Dataset) -> np.ndarray:
    return np.concatenate([dataset.train.label, dataset.validation.label, dataset.test.label])


def test_digits_values(digits):
    from sklearn.datasets import load_digits

    levels = np.unique(digits.train.image)
    np.testing.assert_array_equal(levels, [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255])
    raw = load_digits()
    pairs = {(np.searchsorted(levels, i).astype(np.uint8).tobytes(), int(k)) for s in (digits.train, digits.test)
             for i, k in zip(s.image, s.label, strict=True)}  # fmt: skip
    assert pairs < {(i.astype(np.uint8).tobytes(), int(k)) for i, k in zip(raw.images, raw.target, strict=True)}


def test_digits_never_change(digits):
    """Every published number on digits depends on this split: change the hash only with a new data set name."""
    digest = hashlib.sha256()
    for split in (digits.train, digits.validation, digits.test):
        digest.update(split.image.tobytes())
        digest.update(split.label.astype("<i4").tobytes())
    assert digest.hexdigest() == "09bd8fb5867a6b2343c2bb04c225969eb2986c5852273e131a8bbe18fa3d09d9"


def test_digits_are_the_same_where_the_file_is_not_found(digits, monkeypatch):
    monkeypatch.setattr("saegan_jax.data.embedded.SHIPPED", "elsewhere.csv.gz")
    again = embedded.digits()
    for split, other in zip((digits.train, digits.test), (again.train, again.test), strict=True):
        np.testing.assert_array_equal(split.image, other.image)
        np.testing.assert_array_equal(split.label, other.label)
        assert (split.image.dtype, split.label.dtype) == (other.image.dtype, other.label.dtype)


@pytest.mark.parametrize("n", [1, 7, 40, 99])
def test_hold_out_is_stratified_disjoint_and_ordered(n):
    label = np.repeat(np.arange(3, dtype=np.int32), [50, 30, 20])[np.random.default_rng(0).permutation(100)]
    split = Split(np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1), label)
    rest, held = data.hold_out(split, n)
    assert len(held.label) == n
    ids = [np.ravel(s.image) for s in (rest, held)]
    assert all(np.all(np.diff(i.astype(int)) > 0) for i in ids)
    np.testing.assert_array_equal(np.sort(np.concatenate(ids)), np.arange(100))
    for i, s in zip(ids, (rest, held), strict=True):
        np.testing.assert_array_equal(s.label, label[i])
    assert np.all(np.abs(np.bincount(held.label, minlength=3) - n * np.array([0.5, 0.3, 0.2])) <= 1)


@pytest.mark.parametrize("n", [0, -1, 5])
def test_hold_out_needs_some_on_both_sides(n):
    split = Split(np.zeros((5, 1, 1, 1), np.uint8), np.zeros(5, np.int32))
    with pytest.raises(ValueError, match=f"n={n} .*between 1 and 4"):
        data.hold_out(split, n)


def test_size_is_checked_not_resized(digits):
    assert data.load("digits", size=8).image_shape == digits.image_shape
    assert data.load("digits", size=(8, 8)).image_shape == digits.image_shape
    with pytest.raises(data.DataError, match=r"size=28 .*dataset='digits'.*8x8.*pass size=8"):
        data.load("digits", size=28)
    with pytest.raises(data.DataError, match=r"size=32 .*dataset='mnist'.*28x28.*pass size=28"):
        data.load("mnist", size=32, data_dir="/nonexistent")


GOOD = Split(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 1], np.int32))


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (GOOD._replace(image=GOOD.image.astype(np.float32)), "float32.*wants uint8"),
        (GOOD._replace(image=GOOD.image[..., 0]), r"\(2, 4, 4\).*wants uint8 \(n, h, w, c\)"),
        (GOOD._replace(label=GOOD.label.astype(np.int64)), "int64.*int32"),
        (GOOD._replace(label=GOOD.label[:1]), r"\(1,\)"),
        (Split(GOOD.image[:0], GOOD.label[:0]), "no images"),
        (GOOD._replace(image=np.zeros((2, 4, 5, 1), np.uint8)), r"\(4, 5, 1\).*train are \(4, 4, 1\)"),
        (GOOD._replace(label=np.array([0, 2], np.int32)), "labels from 0 to 2.*num_classes=2"),
        (GOOD._replace(label=np.array([-1, 1], np.int32)), "labels from -1"),
    ],
)
def test_dataset_checks_its_splits(bad, match):
    with pytest.raises(data.DataError, match=f"dataset='x': split 'test' has .*{match}"):
        Dataset("x", GOOD, GOOD, bad, num_classes=2)


def test_digits_import_neither_tfds_nor_jax():
    code = (
        "import sys; from saegan_jax import data; early = set(sys.modules); data.load('digits'); "
        "assert 'sklearn' not in early; assert not {'tensorflow_datasets', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(("fraction", "n"), [(1.0, 1297), (0.5, 648), (0.1, 130), (0.001, 1)])
def test_a_share_is_stratified_and_always_the_same(digits, fraction, n):
    part = data.share(digits.train, fraction)
    assert len(part.label) == n
    assert _rows(part) <= _rows(digits.train)
    wanted = np.bincount(digits.train.label, minlength=10) * fraction
    np.testing.assert_allclose(np.bincount(part.label, minlength=10), wanted, atol=1.01)
    np.testing.assert_array_equal(part.image, data.share(digits.train, fraction).image)


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, 1e-5, float("nan")])
def test_a_share_of_nothing_or_too_much_is_refused(digits, fraction):
    with pytest.raises(data.DataError, match=rf"^fraction={fraction} of 1297 examples cannot be had: .* 0\.00077 to 1"):
        data.share(digits.train, fraction)
