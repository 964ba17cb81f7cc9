"""Vectors as a data set: every row is in one split, all are normalised alike, and what cannot work is refused."""

import numpy as np
import pytest

from saegan_jax.data import DataError
from saegan_jax.data.normalisation import fit_normalisation
from saegan_jax.data.vector_dataset import VectorRows, vector_dataset
from saegan_jax.data.vectors import open_vectors

X = (np.arange(240, dtype=np.float32).reshape(60, 4) % 23) + 1


@pytest.mark.parametrize("n", [10, 11, 37, 60])
def test_every_row_is_in_one_split(n):
    found = vector_dataset(open_vectors(X[:n]), normalise="none")
    m = n // 10
    train = found.source.read(np.arange(len(found.source))).image
    parts = [train, found.validation.image, found.test.image]
    assert [len(p) for p in parts] == [n - 2 * m, m, m]
    rows = np.concatenate(parts)[:, 0, 0]
    np.testing.assert_array_equal(np.unique(rows, axis=0), np.unique(X[:n], axis=0))
    assert found.image_shape == (1, 1, 4)
    held = found.origin.details["splits"]
    np.testing.assert_array_equal(found.test.image[:, 0, 0], X[held["test"]])
    np.testing.assert_array_equal(found.validation.image[:, 0, 0], X[held["validation"]])


def test_numbers_of_training_rows_skip_what_is_held_out():
    held = np.array([0, 3, 4, 9], np.int64)
    source = VectorRows(open_vectors(X[:10]), held, fit_normalisation(X, "none"))
    assert source.rows(np.arange(6)).tolist() == [1, 2, 5, 6, 7, 8]


def test_all_splits_are_normalised_alike():
    found = vector_dataset(open_vectors(X))
    assert found.normalisation.kind == "scale"
    train = found.source.read(np.arange(len(found.source))).image[:, 0, 0]
    assert np.linalg.norm(train, axis=1).mean() == pytest.approx(2.0, rel=1e-5)
    held = found.origin.details["splits"]["test"]
    np.testing.assert_allclose(found.normalisation.undo(found.test.image[:, 0, 0]), X[held], rtol=1e-5)
    raw = found.normalisation.undo(train).astype(np.float64)
    assert found.spread == pytest.approx(np.linalg.norm(raw.mean(axis=0)) / np.sqrt(raw.var(axis=0).sum()), rel=1e-5)


@pytest.mark.parametrize(
    "options", [{"normalise": "none"}, {"normalise": "scale"}, {"given": fit_normalisation(X, "scale")}], ids=str
)
def test_other_data_have_another_record(options):
    record = vector_dataset(open_vectors(X), **options).origin.record
    assert vector_dataset(open_vectors(X), **options).origin.record == record
    assert vector_dataset(open_vectors(2 * X), **options).origin.record != record


def test_given_statistics_are_used_and_must_suit():
    given = fit_normalisation(X * 3, "centre")
    assert vector_dataset(open_vectors(X), given=given).normalisation is given
    with pytest.raises(DataError, match=r"normalise='scale' .* trained with 'centre'"):
        vector_dataset(open_vectors(X), normalise="scale", given=given)
    with pytest.raises(DataError, match=r"vectors of width 3 does not suit .* width 4"):
        vector_dataset(open_vectors(X[:, :3]), given=given)


def test_too_few_and_equal_vectors():
    with pytest.raises(DataError, match="9 vectors, and some must be held out: give 10"):
        vector_dataset(open_vectors(X[:9]))
    with pytest.raises(DataError, match="all vectors are equal"):
        vector_dataset(open_vectors(0 * X + 1))
