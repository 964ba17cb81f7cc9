"""What a loaded data set is, and the one way this package holds out part of a split."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from saegan_jax.data.sources import OnDisk


class DataError(ValueError):
    """A data set that cannot be had as asked for; the message names the field, the value and the fix."""


class Split(NamedTuple):
    """image: uint8 (n, h, w, c), 0 to 255; label: int32 (n,), 0 to num_classes - 1."""

    image: NDArray[np.uint8]
    label: NDArray[np.int32]


class Origin(NamedTuple):
    """Where a user's own data come from, as JSON values.

    Attributes:
        record: what identifies them; a run goes on with no others.
        notes: sentences on what was read and what was done to it.
        details: which files are in which split, and what was left out.
    """

    record: Mapping[str, Any]
    notes: tuple[str, ...]
    details: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Three disjoint splits of labelled images, all of one shape, in host memory.

    Where the training images are too many for that, ``source`` reads all of them from disk, and ``train`` is a stratified
    sample, always the same one, for whatever is fitted to or compared with training images in memory.

    Attributes:
        name: of the data set.
        train, validation, test: the splits.
        num_classes: of the labels; 1, and all labels 0, where there are none.
        source: see above.
        labelled: whether the labels mean something.
        classes: names of the classes, where they are known.
        origin: of a user's own files.

    Raises:
        DataError: a split is empty, has another dtype, rank or image shape, or labels outside [0, num_classes).
    """

    name: str
    train: Split
    validation: Split
    test: Split
    num_classes: int
    source: OnDisk | None = None
    labelled: bool = True
    classes: tuple[str, ...] = ()
    origin: Origin | None = None

    def __post_init__(self) -> None:
        for field in ("train", "validation", "test"):
            image, label = getattr(self, field)
            problem = None
            if image.dtype != np.uint8 or image.ndim != 4 or label.dtype != np.int32 or label.shape != image.shape[:1]:
                problem = (
                    f"image {image.dtype} {image.shape} and label {label.dtype} {label.shape}, "
                    "but wants uint8 (n, h, w, c) and int32 (n,)"
                )
            elif not len(label):
                problem = "no images"
            elif image.shape[1:] != self.image_shape:
                problem = f"images of shape {image.shape[1:]}, but those of train are {self.image_shape}"
            elif label.min() < 0 or label.max() >= self.num_classes:
                problem = (
                    f"labels from {label.min()} to {label.max()}, but num_classes={self.num_classes} wants 0 to "
                    f"{self.num_classes - 1} (TFDS marks a split without labels by -1; such a split cannot be scored)"
                )
            if problem:
                raise DataError(f"dataset={self.name!r}: split {field!r} has {problem}.")
        if self.source is not None and not 0 <= self.source.label.min() <= self.source.label.max() < self.num_classes:
            raise DataError(f"dataset={self.name!r}: {self.source.where} has labels outside [0, {self.num_classes}).")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every image."""
        h, w, c = self.train.image.shape[1:]
        return h, w, c

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class: its number where none is known."""
        return self.classes or tuple(map(str, range(self.num_classes)))


def held_out(label: NDArray[np.int32], n: int) -> NDArray[np.bool_]:
    """Which n examples :func:`hold_out` holds out, stratified by class: ``(size,)`` bool.

    Systematic sampling: examples sorted by class, and at random within one, are taken at n equal distances, so each
    class gives its share of n to within one example. The random order is PCG64's raw stream, which NumPy guarantees
    never to change for a fixed seed (unlike its distributions and shuffles), so the result is the same for ever.

    Raises:
        DataError: n is not between 1 and size - 1.
    """
    size = len(label)
    if not 0 < n < size:
        raise DataError(f"n={n} examples cannot be held out of {size}: choose n between 1 and {size - 1}.")
    order = np.lexsort((np.random.PCG64(0).random_raw(size), label))
    held = np.zeros(size, dtype=bool)
    held[order[(2 * np.arange(n) + 1) * size // (2 * n)]] = True
    return held


def hold_out(split: Split, n: int) -> tuple[Split, Split]:
    """Splits off n examples, stratified by class: (the rest, the n held out), both in their original order.

    Which ones: :func:`held_out`.

    Raises:
        DataError: n is not between 1 and len(split) - 1.
    """
    held = held_out(split.label, n)
    return Split(split.image[~held], split.label[~held]), Split(split.image[held], split.label[held])


def share_size(size: int, fraction: float) -> int:
    """How many of ``size`` examples :func:`share` takes."""
    n = round(fraction * size) if 0 < fraction <= 1 else 0
    if n < 1:
        raise DataError(f"fraction={fraction!r} of {size} examples cannot be had: choose one from {1 / size:.2g} to 1.")
    return n


def share(split: Split, fraction: float) -> Split:
    """``fraction`` of the examples, stratified by class and always the same ones, in their original order: :func:`hold_out`.

    Raises:
        DataError: ``fraction`` is not in (0, 1], or so small that nothing is left.
    """
    n = share_size(len(split.label), fraction)
    return split if n == len(split.label) else hold_out(split, n)[1]


def check_size(name: str, image_shape: tuple[int | None, ...], size: int | tuple[int, int] | None) -> None:
    """Refuses a size (pixels; one number for a square) that the images do not have: they are never resized silently."""
    if size is None:
        return
    height, width = image_shape[:2]
    if (size if isinstance(size, tuple) else (size, size)) != (height, width):
        raise DataError(
            f"size={size!r} does not exist for dataset={name!r}, whose images are {height}x{width}, and images are not "
            f"resized silently: leave size unset, or pass size={height if height == width else (height, width)!r}. "
            "Sizes of the built-in data sets: digits 8x8; shapes 32x32; mnist, fashion_mnist and kmnist 28x28."
        )
