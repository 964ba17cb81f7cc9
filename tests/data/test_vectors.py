"""Vectors from files, arrays and functions: the same rows however they are asked for, and whatever is wrong is named."""

import struct

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from saegan_jax.data import DataError
from saegan_jax.data.vector_dataset import vector_dataset
from saegan_jax.data.vectors import open_vectors

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
ORDER = np.random.default_rng(1).permutation(40)


def write(folder, kind):
    """``X`` in one of the ways there are."""
    path = folder / "x"
    if kind == "npy":
        np.save(path.with_suffix(".npy"), X)
    elif kind == "npy of tokens":
        np.save(path.with_suffix(".npy"), X.reshape(4, 10, 6))
    elif kind == "npz":
        np.savez(path.with_suffix(".npz"), x=X)
    elif kind == "safetensors":
        save_file({"x": X}, path.with_suffix(".safetensors"))
    elif kind == "named":
        save_file({"y": X[:3], "x": X}, path.with_suffix(".safetensors"))
        return f"{path}.safetensors#x"
    elif kind == "shards":
        path.mkdir()
        np.save(path / "a.npy", X[:7])
        save_file({"x": X[7:30]}, path / "b.safetensors")
        np.savez(path / "c.npz", x=X[30:].astype(np.float64))
        (path / "notes.txt").write_text("left out")
        return path
    elif kind == "array":
        return X
    elif kind == "arrays":
        return [X[:9], X[9:]]
    elif kind == "list":
        return X.tolist()
    return next(folder.iterdir())


KINDS = ("npy", "npy of tokens", "npz", "safetensors", "named", "shards", "array", "arrays", "list")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_in_the_order_asked_for(tmp_path, kind):
    found = open_vectors(write(tmp_path, kind))
    assert (len(found), found.d) == (40, 6)
    np.testing.assert_array_equal(found.read(ORDER), X[ORDER], strict=True)
    np.testing.assert_array_equal(found.read([39, 0, 39]), X[[39, 0, 39]])


def test_a_function_gives_rows():
    found = open_vectors(lambda index: X[index], n=40, d=6)
    np.testing.assert_array_equal(found.read(ORDER), X[ORDER], strict=True)
    with pytest.raises(DataError, match="how many rows it has"):
        open_vectors(lambda index: X[index])
    with pytest.raises(DataError, match=r"gave rows of shape \(2, 6\) where \(2, 7\) were asked for"):
        open_vectors(lambda index: X[index], n=40, d=7).read([0, 1])


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_files_are_mapped_and_not_read(tmp_path, kind):
    reader = open_vectors(write(tmp_path, kind)).readers[0]
    array = reader.__self__
    while array.base is not None and not isinstance(array, np.memmap):
        array = array.base
    assert isinstance(array, np.memmap)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.int8])
def test_other_numbers_become_float32(tmp_path, dtype):
    save_file({"x": (X * 8).astype(dtype)}, tmp_path / "x.safetensors")
    found = open_vectors(tmp_path / "x.safetensors").read(ORDER)
    np.testing.assert_array_equal(found, (X * 8).astype(dtype)[ORDER].astype(np.float32), strict=True)


def test_values_that_are_not_finite_are_found_where_they_are(tmp_path):
    bad = X.copy()
    bad[[12, 30], 3] = np.nan, np.inf
    np.save(tmp_path / "a.npy", bad[:10])
    np.save(tmp_path / "b.npy", bad[10:])
    found = open_vectors(tmp_path)
    with pytest.raises(DataError, match=r"row 2 of b.npy is not finite, nor are 1 others"):
        found.read(np.arange(40))
    with pytest.raises(DataError, match=r"row 2 of b\.npy"):
        vector_dataset(found)


def broken(folder, kind):
    path = folder / "x.npy"
    np.save(path, X)
    if kind == "missing":
        return folder / "nothing.npy"
    if kind == "empty folder":
        (folder / "sub").mkdir()
        return folder / "sub"
    if kind == "kind":
        (folder / "x.csv").write_text("1,2")
        return folder / "x.csv"
    if kind == "truncated npy":
        path.write_bytes(path.read_bytes()[:300])
    if kind in ("truncated safetensors", "short safetensors", "no safetensors"):
        save_file({"x": X}, folder / "x.safetensors")
        content = (folder / "x.safetensors").read_bytes()
        cut = {"truncated safetensors": content[:300], "short safetensors": b"abc"}
        content = cut.get(kind, struct.pack("<Q", 2**60) + content)
        (folder / "x.safetensors").write_bytes(content)
        return folder / "x.safetensors"
    if kind == "widths":
        np.save(folder / "y.npy", X[:, :5])
        return folder
    if kind == "one axis":
        np.save(path, X[0])
    if kind == "no rows":
        np.save(path, X[:0])
    if kind == "words":
        np.save(path, np.array([["a", "b"]]))
    if kind == "pickle":
        np.save(path, np.array([[{}]], dtype=object), allow_pickle=True)
    if kind == "several":
        save_file({"x": X, "y": X}, folder / "x.safetensors")
        return folder / "x.safetensors"
    if kind == "remote":
        return "s3://bucket/x.npy"
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "do not exist"),
        ("empty folder", "has no vectors"),
        ("kind", "is of another kind"),
        ("truncated npy", "cannot be read"),
        ("truncated safetensors", "shorter than its header says"),
        ("short safetensors", "it is too short"),
        ("no safetensors", "header is longer than the file"),
        ("widths", "x.npy has vectors of width 6 and y.npy of 5"),
        ("one axis", r"shape \(6,\), and rows"),
        ("no rows", r"shape \(0, 6\), and rows"),
        ("words", "holds <U1, and numbers are needed"),
        ("pickle", "cannot be read"),
        ("several", r"has the arrays x, y: name one, as in x.safetensors#x"),
        ("remote", "not on this machine"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, kind, message):
    with pytest.raises(DataError, match=message):
        open_vectors(broken(tmp_path, kind))


def test_a_file_that_vanishes_while_it_is_read():
    def gone(index):
        raise FileNotFoundError("x.npy")

    with pytest.raises(DataError, match=r"it cannot be read \(x.npy\)"):
        open_vectors(gone, n=3, d=2).read([0])
