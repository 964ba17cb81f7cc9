"""Vectors as a data set: rows held out evenly, one normalisation, and training rows that may stay on disk."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from saegan_jax.data.dataset import DataError, Origin, Split
from saegan_jax.data.normalisation import Kind, Normalisation, fit_normalisation
from saegan_jax.data.vectors import Vectors

MOST_HELD_OUT = 16_384
"""Rows of validation and of test, each, at most; a tenth of fewer."""
FEWEST = 10
"""Rows of which some can be held out."""
FITTED = 2**26
"""Bytes of rows, evenly taken, that statistics are of, and that identify the data of a run."""
CHECKED = 2**31
"""Bytes of rows that are looked through before training; the others are when they are read."""


@dataclasses.dataclass(frozen=True, eq=False)
class VectorRows:
    """Normalised rows as a source of examples: an image of one row and column has a channel for each coordinate.

    Attributes:
        vectors: all rows.
        left_out: those that are no example here, int64, ascending.
        normalisation: of every row.
    """

    vectors: Vectors
    left_out: NDArray[np.int64]
    normalisation: Normalisation

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(1, 1, d)``."""
        return 1, 1, self.vectors.d

    @property
    def dtype(self) -> Any:
        """Of the examples."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.vectors) - len(self.left_out)

    def rows(self, index: NDArray[Any]) -> NDArray[np.int64]:
        """Numbers in ``vectors`` of the examples ``index (k,)``."""
        index = np.asarray(index, np.int64)
        before = np.searchsorted(self.left_out - np.arange(len(self.left_out)), index, side="right")
        return index + before

    def read(self, index: NDArray[Any]) -> Split:
        """The examples ``index (k,)``: float32 ``(k, 1, 1, d)`` and labels of 0."""
        return as_split(self.normalisation.apply(self.vectors.read(self.rows(index))))


@dataclasses.dataclass(frozen=True, eq=False)
class VectorDataset:
    """Training rows where they lie, and held-out rows in memory, all normalised.

    Attributes:
        name: of the data.
        source: the training rows.
        validation, test: float32 ``(n, 1, 1, d)`` with labels of 0.
        normalisation: of all rows.
        spread: ``||mean|| / sqrt(sum of variances)`` of the rows as they are: above 1, most of a row is the mean of all.
        origin: see :class:`saegan_jax.data.dataset.Origin`.
    """

    name: str
    source: VectorRows
    validation: Split
    test: Split
    normalisation: Normalisation
    spread: float
    origin: Origin

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(1, 1, d)``."""
        return self.source.image_shape


def as_split(x: NDArray[np.float32]) -> Split:
    """Rows ``(k, d)`` as examples without labels."""
    image: Any = x.reshape(len(x), 1, 1, x.shape[1])
    return Split(image, np.zeros(len(x), np.int32))


def vector_dataset(
    vectors: Vectors, *, normalise: Kind | Literal["auto"] = "auto", given: Normalisation | None = None
) -> VectorDataset:
    """Splits and normalises vectors.

    A tenth of the rows, at most 16,384, is held out for validation, and as many for test, at even distances. Statistics are
    of at most 64 MiB of the training rows, evenly taken.

    Args:
        vectors: all rows.
        normalise: see :class:`Normalisation`; "auto" is "scale".
        given: statistics to use in place of fitted ones, of saved weights for instance; ``normalise`` is "auto" or its kind.

    Raises:
        DataError: fewer than ten rows; rows that are not finite, or all equal; or another width or kind than ``given``.
    """
    n = len(vectors)
    if n < FEWEST:
        raise DataError(f"{vectors.name} has {n} vectors, and some must be held out: give {FEWEST} or more.")
    vectors.check_finite(CHECKED)
    m = min(MOST_HELD_OUT, n // 10)
    held = (2 * np.arange(2 * m, dtype=np.int64) + 1) * n // (4 * m)
    kind: Kind = ("scale" if given is None else given.kind) if normalise == "auto" else normalise
    if given is not None and (given.kind != kind or len(given.mean) != vectors.d):
        raise DataError(
            f"normalise={kind!r} of vectors of width {vectors.d} does not suit the saved weights, which were trained with "
            f"{given.kind!r} on width {len(given.mean)}: leave --normalise out, or use vectors of that width."
        )
    plain = VectorRows(vectors, held, Normalisation("none", np.zeros(vectors.d, np.float32), 1.0))
    sample = plain.read(np.arange(0, len(plain), max(1, -(-len(plain) * vectors.d * 4 // FITTED)))).image[:, 0, 0]
    if not (sample != sample[:1]).any():
        raise DataError(f"{vectors.name}: all vectors are equal; there is nothing to learn.")
    found = fit_normalisation(sample, kind) if given is None else given
    source = dataclasses.replace(plain, normalisation=found)
    test, validation = (as_split(found.apply(vectors.read(held[i::2]))) for i in (0, 1))
    wide = sample.astype(np.float64)
    spread = float(np.linalg.norm(wide.mean(axis=0)) / np.sqrt(wide.var(axis=0).sum()))
    return VectorDataset(vectors.name, source, validation, test, found, spread, _origin(source, sample, spread))


def _origin(source: VectorRows, sample: NDArray[Any], spread: float) -> Origin:
    vectors, normalisation = source.vectors, source.normalisation
    m = len(source.left_out) // 2
    digest = hashlib.sha256(np.ascontiguousarray(sample).data).hexdigest()
    said = {
        "none": "Inputs are taken as they are",
        "scale": f"Inputs are multiplied by {normalisation.scale:.4g}, so that their mean norm is sqrt({vectors.d})",
        "centre": f"The mean is subtracted from inputs, then they are multiplied by {normalisation.scale:.4g}",
    }[normalisation.kind]
    parts = f"{len(vectors.parts)} part{'s' * (len(vectors.parts) > 1)}"
    notes = (
        f"{vectors.name}: {len(vectors):,} vectors of width {vectors.d} in {parts}; "
        f"{m:,} are held out for validation and {m:,} for test, at even distances.",
        f"{said} (statistics of {len(sample):,} vectors). ||mean|| / ||std|| is {spread:.3g}.",
    )
    counts = {"train": len(source), "validation": m, "test": m}
    record = {"data": {"sha256": digest, "vectors": counts, "normalisation": normalisation.kind}}
    details = {
        "notes": list(notes),
        "parts": dict(zip(vectors.parts, np.diff(vectors.ends, prepend=0).tolist(), strict=True)),
        "splits": {"test": source.left_out[0::2].tolist(), "validation": source.left_out[1::2].tolist()},
        "normalisation": normalisation.to_json(),
    }
    return Origin(record, notes, details)
