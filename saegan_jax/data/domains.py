"""Pairs of image domains for unpaired translation, made so that a translation can be scored."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saegan_jax.data.dataset import DataError, Dataset, Split, hold_out
from saegan_jax.data.embedded import digits
from saegan_jax.data.registry import load
from saegan_jax.data.shifts import enlarged, inverted

Images = NDArray[Any]
LEAST_IMAGES = 2  # of each domain: with one there is nothing to tell apart
SIZE, MARGIN = 28, 4  # MNIST's digits lie in the middle 20x20 of 28x28


@dataclass(frozen=True, eq=False)
class Domains:
    """Two domains of one image shape. Training images of the two are never of the same source image, and never paired.

    Attributes:
      name: see :func:`load_domains`.
      a, b: a :class:`Dataset` each. Where the map is known, validation and test images of ``b`` are those of ``a``, mapped
        and in the same order, for scoring alone.
      source: what a classifier of both domains is trained on where the map is known (``b`` is mapped back first), else None,
        and each domain has a classifier of its own.
      to_b, to_a: the true map and its inverse, uint8 or floats in [0, 1], ``(n, h, w, c)``; None where there is none.

    Raises:
      DataError: images of another size or number of channels in ``b``, or too few training images; a :class:`Dataset`
        refuses another dtype itself.
    """

    name: str
    a: Dataset
    b: Dataset
    source: Dataset | None = None
    to_b: Callable[[Images], Images] | None = None
    to_a: Callable[[Images], Images] | None = None

    def __post_init__(self) -> None:
        a, b = self.a.image_shape, self.b.image_shape
        texts = [f"{h}x{w} pixels and {c} channel{'s' * (c != 1)}" for h, w, c in (a, b)]
        if a != b:
            raise DataError(
                f"domains={self.name!r}: images of A have {texts[0]}, those of B {texts[1]}, and translations of one must be "
                "images of the other: resize or convert one domain first."
            )
        for letter, domain in (("A", self.a), ("B", self.b)):
            if len(domain.train.label) < LEAST_IMAGES:
                raise DataError(
                    f"domains={self.name!r}: domain {letter} has {len(domain.train.label)} training image"
                    f"{'s' * (len(domain.train.label) != 1)}, and a translation is learnt from many; give {LEAST_IMAGES}."
                )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of both domains."""
        return self.a.image_shape

    @property
    def both(self) -> dict[str, Dataset]:
        """The domains by the letters that name them in a direction."""
        return {"a": self.a, "b": self.b}


def invert_rotate(images: Images) -> Images:
    """White for black, then a quarter turn counterclockwise: uint8 or floats in [0, 1], ``(n, s, s, c)``."""
    return np.rot90(_inverted(images), axes=(1, 2))


def undo_invert_rotate(images: Images) -> Images:
    """The inverse of :func:`invert_rotate`, exact for uint8."""
    return _inverted(np.rot90(images, -1, axes=(1, 2)))


def _inverted(images: Images) -> Images:
    return inverted(images) if images.dtype == np.uint8 else 1 - images


def inverted_rotated(name: str, source: Dataset) -> Domains:
    """One half of the training images, and the other half inverted and rotated: the map is known, and never shown.

    Raises:
      DataError: images that are not square, which a quarter turn would reshape.
    """
    height, width, _ = source.image_shape
    if height != width:
        raise DataError(f"domains={name!r} rotates its images, and those of {source.name} are {height}x{width}.")

    def mapped(split: Split) -> Split:
        return Split(np.ascontiguousarray(invert_rotate(split.image)), split.label)

    first, second = hold_out(source.train, len(source.train.label) // 2)
    a = Dataset(f"{name}-a", first, source.validation, source.test, source.num_classes)
    b = Dataset(f"{name}-b", mapped(second), mapped(source.validation), mapped(source.test), source.num_classes)
    return Domains(name, a, b, source, invert_rotate, undo_invert_rotate)


def _two_hands(mnist: Dataset) -> Domains:
    """MNIST, and the embedded 8x8 digits enlarged: other writers, another scanner, no pairs."""
    small = digits()

    def large(split: Split) -> Split:
        return Split(enlarged(split.image, size=SIZE, margin=MARGIN), split.label)

    b = Dataset("digits_28x28", large(small.train), large(small.validation), large(small.test), small.num_classes)
    return Domains("mnist_digits", mnist, b)


DOMAINS = ("digits_inverted_rotated", "mnist_inverted_rotated", "mnist_digits")


def load_domains(
    name: str,
    *,
    manual_dir: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> Domains:
    """Two domains by name.

    Args:
      name: "digits_inverted_rotated": one half of the embedded 8x8 digits, and the other half inverted and rotated by 90
        degrees; "mnist_inverted_rotated": the same of MNIST; "mnist_digits": MNIST, and the 8x8 digits enlarged to 20x20
        in 28x28.
      manual_dir, data_dir: see :func:`saegan_jax.data.load`.

    Raises:
      DataError: another name, or MNIST cannot be had.
    """
    if name not in DOMAINS:
        raise DataError(f"domains={name!r} is unknown: choose one of {', '.join(DOMAINS)}.")
    if name == "digits_inverted_rotated":
        return inverted_rotated(name, digits())
    mnist = load("mnist", manual_dir=manual_dir, data_dir=data_dir)
    return inverted_rotated(name, mnist) if name == "mnist_inverted_rotated" else _two_hands(mnist)
