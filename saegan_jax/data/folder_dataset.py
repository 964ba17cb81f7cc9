"""A folder of image files as a data set: its splits, which are the same ones as long as the files are."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saegan_jax.data import decode as decoding
from saegan_jax.data.dataset import DataError, Dataset, Origin, Split, held_out
from saegan_jax.data.folder import (
    PathLike,
    Survey,
    checked_folder,
    class_names,
    joined_images,
    labels,
    left_beside,
    notes,
    size_text,
    survey_folder,
)
from saegan_jax.data.sources import OnDisk

SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
HELD_OUT = 10
"""One image in so many is held out for a split that has no subfolder."""
FIX = "the training has begun with these files; put them back, or begin it again"


@dataclasses.dataclass(frozen=True, eq=False)
class FileRecords:
    """Image files by number, decoded when they are asked for, from several threads at once."""

    root: Path
    files: tuple[str, ...]
    label: NDArray[np.int32]
    size: tuple[int, int] | None
    channels: int

    def __getitems__(self, index: list[int]) -> list[dict[str, Any]]:
        """``{"image": uint8 (h, w, c), "label": int}`` of each, as :class:`OnDisk` reads them."""
        return [{"image": self._image(i), "label": int(self.label[i])} for i in index]

    def _image(self, i: int) -> NDArray[np.uint8]:
        try:
            pixels = decoding.decode(self.root / self.files[i], size=self.size).image
        except decoding.UnreadableError as error:
            raise DataError(f"{self.files[i]}: {error}") from None
        return decoding.with_channels(pixels, self.channels)


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Some of a folder's images: in memory, or on disk."""

    examples: Split | OnDisk
    files: NDArray[Any]

    def take(self, chosen: NDArray[np.bool_]) -> Part:
        """Those that ``chosen`` (n,) marks."""
        some = self.examples
        if isinstance(some, OnDisk):
            return Part(some.take(chosen), self.files[chosen])
        return Part(Split(some.image[chosen], some.label[chosen]), self.files[chosen])

    def in_memory(self) -> Split:
        """All of them, read where they are on disk."""
        return self.examples.load() if isinstance(self.examples, OnDisk) else self.examples


def load_folder(
    path: PathLike,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    max_skipped: int | None = None,
    in_memory: int | None = None,
) -> Dataset:
    """The data set of a folder.

    Subfolders ``train``, ``validation`` (or ``val``, ``valid``) and ``test`` are its splits. Where there is none for test, a
    stratified tenth of the training images is held out, and for validation a tenth of the rest; :func:`held_out` says which.
    Images, classes and limits: see :func:`saegan_jax.data.folder.read_folder`. Every file is decoded once here.

    Args:
        path: the folder.
        image_size, channels, max_skipped: see there.
        in_memory: bytes that the training images may take in memory; of more, a sample is kept, and ``Dataset.source`` reads
            them as they are needed.

    Raises:
        DataError: what :func:`read_folder` refuses, splits of different classes or sizes, or too few images to hold out.
    """
    root = checked_folder(path)
    folders = split_folders(root)
    survey = survey_folder(
        folders["train"], image_size=image_size, channels=channels, max_skipped=max_skipped, in_memory=in_memory
    )
    classes = class_names(survey)
    parts, surveys = {"train": _part(survey, classes, image_size)}, {"train": survey}
    said = list(notes(survey, classes))
    for name in ("validation", "test"):
        if name not in folders:
            continue
        found = survey_folder(
            folders[name], image_size=image_size, channels=survey.channels, max_skipped=max_skipped, in_memory=None
        )
        _check_like(found, survey, name)
        parts[name], surveys[name] = _part(found, class_names(found, classes), image_size), found
        said += notes(found, classes)
    missing = [name for name in ("test", "validation") if name not in parts]
    _check_enough(root, len(survey.files), missing)
    for name in missing:
        parts["train"], parts[name] = _hold_out(parts["train"])
        said.append(f"{len(parts[name].files):,} of the training images are held out for {name}.")
    if folders["train"] != root:
        said += left_beside(root, folders.values())
    train = parts["train"].examples
    return Dataset(
        name=f"folder:{root.resolve().name}",
        train=train.sample() if isinstance(train, OnDisk) else train,
        validation=parts["validation"].in_memory(),
        test=parts["test"].in_memory(),
        num_classes=max(1, len(classes)),
        source=train if isinstance(train, OnDisk) else None,
        labelled=bool(classes),
        classes=classes,
        origin=_origin(root, parts, surveys, classes, said),
    )


def split_folders(root: Path) -> Mapping[str, Path]:
    """The subfolder of every split that has one; the folder itself for ``train`` where none has.

    Raises:
        DataError: two subfolders for one split, or some and none for training.
    """
    known = {name for names in SPLIT_NAMES.values() for name in names}
    inside = {p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX"))}
    if not inside & known or ("train" not in inside and inside - known):
        return {"train": root}
    if inside == {"train"} or "train" not in inside or len(inside & known) > 1:
        found = {split: [n for n in names if n in inside] for split, names in SPLIT_NAMES.items()}
        for split, names in found.items():
            if len(names) > 1:
                raise DataError(f"folder {str(root)!r} has the subfolders {' and '.join(names)}: keep one for {split}.")
        if not found["train"]:
            raise DataError(
                f"folder {str(root)!r} has the subfolders {', '.join(sorted(inside))} and none named train: name the one "
                "with the training images train, or give its path."
            )
        return {split: root / names[0] for split, names in found.items() if names}
    return {"train": root}


def _part(survey: Survey, classes: tuple[str, ...], image_size: int | None) -> Part:
    found = labels(survey, classes)
    label = np.zeros(len(survey.files), np.int32) if found is None else found
    files = np.array(survey.files, dtype=object)
    if survey.pixels is not None:
        return Part(Split(joined_images(survey.pixels, survey.shape, survey.channels), label), files)
    size = None if image_size is None else (image_size, image_size)
    records = FileRecords(survey.path, tuple(survey.files), label, size, survey.channels)
    shape = (*survey.shape, survey.channels)
    where = f"folder {str(survey.path)!r}"
    index = np.arange(len(files), dtype=np.int64)
    return Part(OnDisk(where, records, "image", "label", shape, index, label, fix=FIX), files)


def _check_like(found: Survey, train: Survey, name: str) -> None:
    """Refuse a split that differs from the training images in size, or in having classes."""
    if found.shape != train.shape:
        raise DataError(
            f"{str(found.path)!r} has images of {size_text(found.shape)} and {str(train.path)!r} of "
            f"{size_text(train.shape)}, and images are not resized silently: add --image-size."
        )
    if found.listing.labelled != train.listing.labelled:
        has = {True: "class subfolders", False: "none"}
        raise DataError(
            f"{str(found.path)!r} has {has[found.listing.labelled]} and {str(train.path)!r} has "
            f"{has[train.listing.labelled]}: arrange {name} as the training images are."
        )


def _check_enough(root: Path, n: int, missing: list[str]) -> None:
    """Refuse fewer images than one to train on and one for each split that is held out of them."""
    if n <= len(missing):
        raise DataError(
            f"folder {str(root)!r} has {n} image{'s' * (n > 1)} to train on, and one must be held out for "
            f"{' and for '.join(missing)}: give it {len(missing) + 1} or more, or subfolders train, validation and test."
        )


def _hold_out(train: Part) -> tuple[Part, Part]:
    held = held_out(train.examples.label, max(1, len(train.files) // HELD_OUT))
    return train.take(~held), Part(train.take(held).in_memory(), train.files[held])


def _origin(
    root: Path, parts: Mapping[str, Part], surveys: Mapping[str, Survey], classes: tuple[str, ...], said: list[str]
) -> Origin:
    digest = hashlib.sha256()
    for name, survey in surveys.items():
        for file in survey.files:
            digest.update(f"{name}\0{file}\n".encode(errors="surrogateescape"))
        digest.update(f"{survey.crc}\n".encode())
    counts = {name: len(part.files) for name, part in parts.items()}
    skipped = {name: [list(one) for one in survey.skipped] for name, survey in surveys.items() if survey.skipped}
    details = {
        "folder": str(root.resolve()),
        "notes": said,
        "classes": list(classes),
        "skipped": skipped,
        "splits": {name: part.files.tolist() for name, part in parts.items()},
    }
    record = {"data": {"files_sha256": digest.hexdigest(), "images": counts, "classes": len(classes)}}
    return Origin(record, tuple(said), details)
