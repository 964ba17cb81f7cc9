"""Where examples are read from, by number: host memory, or a prepared data set's files."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from saegan_jax.data.dataset import DataError, Split, held_out, share_size

# Records decoded at a time where all are wanted: bulk reads are what makes ArrayRecord fast, and few enough to hold at once.
CHUNK = 4096
SAMPLE = 2**28  # bytes of training images kept in memory of a data set that is streamed from disk


class Source(Protocol):
    """Examples by number, from several threads at once."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every image."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of every image: uint8, or float32 of what is no image."""

    def __len__(self) -> int:
        """How many examples there are."""

    def read(self, index: NDArray[Any]) -> Split:
        """The examples ``index`` (k,), in that order: uint8 (k, h, w, c) and int32 (k,)."""


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory:
    """Examples that are in host memory already."""

    split: Split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every image."""
        h, w, c = self.split.image.shape[1:]
        return h, w, c

    @property
    def dtype(self) -> np.dtype[Any]:
        """See :class:`Source`."""
        return self.split.image.dtype

    def __len__(self) -> int:
        return len(self.split.label)

    def read(self, index: NDArray[Any]) -> Split:
        """See :class:`Source`."""
        return Split(self.split.image[index], self.split.label[index])


@dataclasses.dataclass(frozen=True, eq=False)
class OnDisk:
    """Examples in a prepared data set's ArrayRecord files, of which the labels alone are in memory.

    Attributes:
        where: the data set, split and folder, for messages.
        records: TFDS's data source of the split.
        image_key, label_key: its features.
        image_shape: (h, w, c), which every image must have.
        index: the records that are these examples, int64 (n,).
        label: int32 (n,).
        fix: what to do about records that cannot be read.
    """

    where: str
    records: Any
    image_key: str
    label_key: str
    image_shape: tuple[int, int, int]
    index: NDArray[np.int64]
    label: NDArray[np.int32]
    fix: str = "delete that folder, so that it is prepared again"

    @property
    def dtype(self) -> np.dtype[Any]:
        """See :class:`Source`."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.index)

    def read(self, index: NDArray[Any]) -> Split:
        """See :class:`Source`.

        Raises:
            DataError: records that cannot be read, or an image of another size.
        """
        try:
            rows = self.records.__getitems__(self.index[index].tolist())
            images = [row[self.image_key] for row in rows]
        except (
            Exception
        ) as error:  # each reader raises its own kind; all mean that these are not the files once written
            raise DataError(f"{self.where} cannot be read ({error}): {self.fix}.") from error
        for image in images:
            if image.shape != self.image_shape:
                raise DataError(
                    f"{self.where} has images of several sizes, {self.image_shape} and {image.shape}, and images are not "
                    "resized silently: choose a data set, or a config of one, with a single size."
                )
        return Split(np.stack(images), np.array([row[self.label_key] for row in rows], np.int32))

    def take(self, chosen: NDArray[np.bool_]) -> OnDisk:
        """The examples that ``chosen`` (n,) marks."""
        return dataclasses.replace(self, index=self.index[chosen], label=self.label[chosen])

    def share(self, fraction: float) -> OnDisk:
        """As :func:`saegan_jax.data.share`: the same examples."""
        n = share_size(len(self), fraction)
        return self if n == len(self) else self.take(held_out(self.label, n))

    def load(self) -> Split:
        """All of them, in memory."""
        parts = [self.read(np.arange(i, min(i + CHUNK, len(self)))) for i in range(0, len(self), CHUNK)]
        return Split(np.concatenate([p.image for p in parts]), np.concatenate([p.label for p in parts]))

    def hold_out(self, n: int) -> tuple[OnDisk, Split]:
        """As :func:`saegan_jax.data.hold_out`: the same examples, those held out read into memory."""
        held = held_out(self.label, n)
        return self.take(~held), self.take(held).load()

    def sample(self, nbytes: int = SAMPLE) -> Split:
        """All examples where their images take at most ``nbytes``, else a stratified sample of so many, in memory."""
        n = max(1, nbytes // math.prod(self.image_shape))
        return (self if n >= len(self) else self.take(held_out(self.label, n))).load()
