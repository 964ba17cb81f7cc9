"""Vectors of any model, such as activations: files that stay on disk, arrays, or a function that gives rows."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

from saegan_jax.data.dataset import DataError
from saegan_jax.files import is_remote

PathLike = str | os.PathLike[str]
SUFFIXES = (".npy", ".npz", ".safetensors")
SAFETENSORS_TYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I8": np.int8, "U8": np.uint8,
    "I16": np.int16, "U16": np.uint16, "I32": np.int32, "I64": np.int64,
}  # fmt: skip
LARGEST_HEADER = 2**27
LOOKED_THROUGH = 2**24
"""Bytes of rows at a time."""
Rows = Callable[[NDArray[np.int64]], ArrayLike]


@dataclasses.dataclass(frozen=True, eq=False)
class Vectors:
    """Rows ``(n, d)``, read by number.

    Attributes:
        name: for messages.
        parts: names of what the rows lie in, in order.
        ends: how many rows there are up to the end of each part.
        d: width.
        readers: of each part, its rows by their numbers within it.
    """

    name: str
    parts: tuple[str, ...]
    ends: NDArray[np.int64]
    d: int
    readers: tuple[Rows, ...]

    def __len__(self) -> int:
        return int(self.ends[-1])

    def read(self, index: ArrayLike) -> NDArray[np.float32]:
        """The rows ``index (k,)``, in that order, float32 ``(k, d)``.

        Raises:
            DataError: rows that cannot be read, are of another width, or not finite.
        """
        wanted = np.asarray(index, np.int64)
        out = np.empty((len(wanted), self.d), np.float32)
        part = np.searchsorted(self.ends, wanted, side="right")
        for i in np.unique(part):
            chosen = part == i
            out[chosen] = self._rows(i, wanted[chosen] - (self.ends[i - 1] if i else 0))
        if not np.isfinite(out.sum(dtype=np.float64)):
            bad = wanted[~np.isfinite(out).all(axis=1)]
            if len(bad):
                where = self.where(int(bad[0]))
                raise DataError(
                    f"{self.name}: {where} is not finite, nor are {len(bad) - 1} others read with it: remove them."
                )
        return out

    def check_finite(self, nbytes: int) -> None:
        """Look through the first ``nbytes`` bytes of rows, as float32.

        Raises:
            DataError: see :meth:`read`.
        """
        step = max(1, LOOKED_THROUGH // (4 * self.d))
        most = min(len(self), max(1, nbytes // (4 * self.d)))
        for start in range(0, most, step):
            self.read(np.arange(start, min(start + step, most)))

    def where(self, row: int) -> str:
        """The place of a row, for messages."""
        i = int(np.searchsorted(self.ends, row, side="right"))
        return f"row {row - (int(self.ends[i - 1]) if i else 0)} of {self.parts[i]}"

    def _rows(self, i: int, within: NDArray[np.int64]) -> NDArray[Any]:
        try:
            # In the order of the file, which a disk reads faster.
            order = np.argsort(within, kind="stable")
            rows = np.asarray(self.readers[i](within[order]))
        except (OSError, ValueError, IndexError) as error:
            raise DataError(f"{self.name}: {self.parts[i]} cannot be read ({error}): see that it is whole.") from error
        if rows.shape != (len(within), self.d):
            wanted = (len(within), self.d)
            raise DataError(
                f"{self.name}: {self.parts[i]} gave rows of shape {rows.shape} where {wanted} were asked for."
            )
        out = np.empty(rows.shape, np.float32)
        out[order] = rows
        return out


def open_vectors(
    source: PathLike | ArrayLike | Sequence[PathLike] | Rows, *, n: int | None = None, d: int | None = None
) -> Vectors:
    """Vectors to train on; files are memory-mapped, so that they may be larger than the memory.

    Args:
        source: a file ``.npy``, ``.npz`` or ``.safetensors``, or a folder of such shards, in the order of their names; an array
            ``(n, d)``; several files or arrays; or a function ``rows(index) -> (k, d)``, called from several threads. Files
            of more axes are read as rows of their last one. Of several arrays in one file ``PATH#NAME`` takes one. An
            ``.npz`` is read into memory.
        n, d: number and width of the rows, of a function alone.

    Raises:
        DataError: nothing there, a file of another kind or damaged, numbers that are no floats or integers, several widths, or
            no rows.
    """
    if callable(source) and not isinstance(source, str | os.PathLike):
        if not (isinstance(n, int) and isinstance(d, int) and n > 0 and d > 0):
            raise DataError(f"n={n!r}, d={d!r}: of a function, say how many rows it has and how wide they are.")
        return Vectors("a function", ("it",), np.array([n], np.int64), d, (source,))
    if n is not None or d is not None:
        raise DataError(
            f"n={n!r}, d={d!r}: these are for a function; files and arrays have their own, so leave them out."
        )
    if isinstance(source, str | os.PathLike):
        return _from_arrays(os.fspath(source), _open_path(source))
    several = isinstance(source, list | tuple) and any(
        hasattr(s, "ndim") or isinstance(s, str | os.PathLike) for s in source
    )
    items: Sequence[Any] = source if several else [source]  # type: ignore[assignment]
    arrays: list[tuple[str, Any]] = []
    for i, item in enumerate(items):
        path = isinstance(item, str | os.PathLike)
        arrays += _open_path(item) if path else [(f"array {i}", np.asarray(item))]
    return _from_arrays("the vectors", arrays)


def _from_arrays(name: str, arrays: Sequence[tuple[str, Any]]) -> Vectors:
    """All rows of arrays, one after another."""
    widths: dict[int, str] = {}
    rows: list[tuple[str, Any]] = []
    for part, array in arrays:
        if array.ndim < 2 or 0 in array.shape:
            raise DataError(f"{name}: {part} has shape {array.shape}, and rows (n, d) are needed.")
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == ml_dtypes.bfloat16) or array.dtype.kind == "c":
            raise DataError(f"{name}: {part} holds {array.dtype}, and numbers are needed.")
        widths.setdefault(array.shape[-1], part)
        rows.append((part, array.reshape(-1, array.shape[-1])))
    if len(widths) > 1:
        (first, one), (second, other), *_ = widths.items()
        raise DataError(f"{name}: {one} has vectors of width {first} and {other} of {second}: give those of one width.")
    ends = np.cumsum([len(array) for _, array in rows]).astype(np.int64)
    if ends[-1] > 2**31 - 1:
        raise DataError(f"{name} has {ends[-1]:,} rows, and at most 2^31 - 1 can be counted: give it in several parts.")
    return Vectors(
        name, tuple(part for part, _ in rows), ends, next(iter(widths)), tuple(a.__getitem__ for _, a in rows)
    )


def _open_path(source: PathLike) -> list[tuple[str, Any]]:
    """The arrays of a file, or of every shard of a folder, by name."""
    text = os.fspath(source)
    if is_remote(text):
        raise DataError(f"vectors {text!r} are not on this machine: copy them here and name that file.")
    path = Path(text).expanduser()
    key = None
    if not path.exists() and "#" in text:
        path, key = Path(text.rpartition("#")[0]).expanduser(), text.rpartition("#")[2]
    if path.is_dir():
        shards = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and not p.name.startswith("."))
        if not shards:
            raise DataError(f"folder {text!r} has no vectors: name one of {', '.join(SUFFIXES)} files.")
        return [(shard.name, _open_file(shard, key)) for shard in shards]
    if not path.exists():
        raise DataError(f"vectors {text!r} do not exist: name a {', '.join(SUFFIXES)} file or a folder of them.")
    return [(path.name, _open_file(path, key))]


def _open_file(path: Path, key: str | None) -> Any:
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return arrays[_chosen(path, list(arrays), key)]
        if path.suffix == ".safetensors":
            return map_safetensors(path, key)
    except DataError:
        raise
    except Exception as error:  # each reader raises its own kind
        raise DataError(f"{str(path)!r} cannot be read ({error}): see that it is whole, or write it again.") from error
    raise DataError(f"{str(path)!r} is of another kind: write the vectors as {', '.join(SUFFIXES)}.")


def _chosen(path: Path, names: list[str], key: str | None) -> str:
    """The array to take."""
    if key is None and len(names) == 1:
        return names[0]
    if key not in names:
        shown, first = ", ".join(names[:8]), names[0] if names else "NAME"
        raise DataError(f"{str(path)!r} has the arrays {shown or 'none'}: name one, as in {path.name}#{first}.")
    return key


def safetensors_header(path: Path) -> dict[str, Any]:
    """Type, shape and place in the file of every tensor, by name.

    Raises:
        ValueError: no safetensors file.
    """
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError("it is too short")
        (length,) = struct.unpack("<Q", start)
        if length > min(path.stat().st_size, LARGEST_HEADER):
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    header.pop("__metadata__", None)
    for found in header.values():
        begin, end = found["data_offsets"]
        found["bytes"] = (8 + length + begin, 8 + length + end)
    return header


def map_safetensors(path: Path, key: str | None) -> Any:
    """One tensor of a file, memory-mapped; the format is a length, a JSON header and the bytes."""
    header = safetensors_header(path)
    found = header[_chosen(path, list(header), key)]
    if found["dtype"] not in SAFETENSORS_TYPES:
        raise ValueError(f"its numbers are {found['dtype']}")
    dtype, shape, (begin, end) = np.dtype(SAFETENSORS_TYPES[found["dtype"]]), tuple(found["shape"]), found["bytes"]
    if end > path.stat().st_size or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError("it is shorter than its header says")
    return np.memmap(path, dtype, "r", begin, shape) if math.prod(shape) else np.empty(shape, dtype)
