"""A folder of image files as arrays: class subfolders or flat, every file that cannot be used named and counted."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saegan_jax.data import decode as decoding
from saegan_jax.data.dataset import DataError
from saegan_jax.files import is_remote

PathLike = str | os.PathLike[str]
CHUNK = 1024  # files that are decoded before the results are looked at
NAMED = 3  # files that a message names
LARGEST_SIDE = 4096
NOTHING = np.empty((0, 0, 0), np.uint8)


class Skipped(NamedTuple):
    """A file that was left out: its path inside the folder, and why."""

    file: str
    reason: str


class Listing(NamedTuple):
    """What a folder has, before any file is opened.

    Attributes:
        files: paths inside the folder, sorted.
        others: how many files have no image's suffix, by suffix.
        labelled: whether the images lie in subfolders, which name their classes.
    """

    files: tuple[str, ...]
    others: Counter[str]
    labelled: bool


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFolder:
    """The images of a folder, in host memory, in the order of ``files``.

    Attributes:
        path: the folder.
        image: uint8 (n, h, w, c), 0 to 255; c is 1 (grey), 3 (RGB) or 4 (RGBA).
        label: int32 (n,), the place in ``classes``; None for a flat folder.
        classes: names of the class subfolders that have images, sorted; empty for a flat folder.
        files: paths inside the folder of the n images.
        skipped: the files that could not be used.
        notes: sentences on what was read and what was done to it.
    """

    path: Path
    image: NDArray[np.uint8]
    label: NDArray[np.int32] | None
    classes: tuple[str, ...]
    files: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(eq=False)
class Survey:
    """What decoding every file of a folder once has shown.

    Attributes:
        path, listing: the folder and what it has.
        files: the usable ones, in order.
        skipped: the others.
        shape: (h, w) of every usable image.
        channels: that the images get.
        changes: how many images had what done to them.
        crc: CRC-32 of all pixels as decoded, one image after another.
        pixels: the images as decoded, or None where they would take more than ``in_memory`` bytes.
    """

    path: Path
    listing: Listing
    files: list[str]
    skipped: list[Skipped]
    shape: tuple[int, int]
    channels: int
    changes: Counter[str]
    crc: int
    pixels: list[NDArray[np.uint8]] | None


def read_folder(
    path: PathLike,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    classes: Sequence[str] | None = None,
    max_skipped: int | None = None,
) -> ImageFolder:
    """Reads every image under a folder: PNG, JPEG, WebP, TIFF and BMP, by their suffix.

    Images in subfolders are labelled by the first one; images in the folder itself have no labels. Hidden files and folders
    are left out. How one file is read: :func:`saegan_jax.data.decode.decode`.

    Args:
        path: the folder.
        image_size: pixels, one number for a square or ``(height, width)``: images are resized and cropped about the centre
            to it. None: as they are, and all must have one size.
        channels: 1, 3 or 4, which all images get; None for the least that holds all of them without loss.
        classes: names that the subfolders must be among, in the order of their labels; None for the sorted names found.
        max_skipped: files that may be unusable; by default 10, or a twentieth of them if that is more, and at most half.

    Raises:
        DataError: no such folder, or one without images; images beside subfolders of images; too many unusable files; images
            of several sizes without ``image_size``; a subfolder that ``classes`` lacks; an argument out of range.
    """
    found = survey_folder(path, image_size=image_size, channels=channels, max_skipped=max_skipped)
    assert found.pixels is not None, "no limit of memory was set"
    names = class_names(found, classes)
    return ImageFolder(
        path=found.path,
        image=joined_images(found.pixels, found.shape, found.channels),
        label=labels(found, names),
        classes=names,
        files=tuple(found.files),
        skipped=tuple(found.skipped),
        notes=notes(found, names),
    )


def survey_folder(
    path: PathLike,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    max_skipped: int | None = None,
    in_memory: int | None = None,
) -> Survey:
    """Decodes every file of a folder once: see :func:`read_folder`; pixels are kept up to ``in_memory`` bytes (None: all)."""
    size = checked_size(image_size)
    if channels not in (None, 1, 3, 4):
        raise DataError(f"channels={channels!r} cannot be had: choose 1 (grey), 3 (RGB) or 4 (RGBA).")
    root = checked_folder(path)
    listing = list_images(root)
    n = len(listing.files)
    if max_skipped is not None and max_skipped < 0:
        raise DataError(f"max_skipped={max_skipped!r} is no number of files: choose zero or more.")
    most = max(10, n // 20) if max_skipped is None else max_skipped
    found = Survey(root, listing, [], [], (0, 0), channels or 1, Counter(), 0, [])
    nbytes = 0
    for file, outcome in _outcomes(root, listing.files, size):
        if isinstance(outcome, decoding.UnreadableError):
            found.skipped.append(Skipped(file, str(outcome)))
            if len(found.skipped) > most:
                _too_many_skipped(found, most)
            continue
        shape = outcome.image.shape[:2]
        if found.files and shape != found.shape:
            raise DataError(
                f"{str(root)!r} has images of several sizes, such as {size_text(found.shape)} ({found.files[0]}) and "
                f"{size_text(shape)} ({file}), and images are not resized silently: add --image-size 64 (image_size=64), or "
                "another number of pixels, to resize them all and crop them about the centre."
            )
        found.files.append(file)
        found.shape = (shape[0], shape[1])
        found.changes.update(outcome.changes)
        found.crc = zlib.crc32(np.ascontiguousarray(outcome.image).data, found.crc)
        if channels is None:
            found.channels = max(found.channels, outcome.image.shape[2])
        found.changes[f"channels {outcome.image.shape[2]}"] += 1
        nbytes += outcome.image.nbytes
        if in_memory is not None and nbytes > in_memory:
            found.pixels = None
        if found.pixels is not None:
            found.pixels.append(outcome.image)
    if not found.files or (max_skipped is None and len(found.skipped) > len(found.files)):
        _too_many_skipped(found, min(most, n // 2))
    return found


def joined_images(pixels: list[NDArray[np.uint8]], shape: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Images ``(h, w, c)`` of any channels as one array ``(n, h, w, channels)``; the list is emptied of them."""
    image = np.empty((len(pixels), *shape, channels), np.uint8)
    for i, one in enumerate(pixels):
        image[i] = decoding.with_channels(one, channels)
        pixels[i] = NOTHING  # or all of them would be in memory twice
    return image


def checked_size(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """``(height, width)``, or None.

    Raises:
        DataError: no side, or one beyond 4,096.
    """
    if image_size is None:
        return None
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and 1 <= side <= LARGEST_SIDE for side in size):
        raise DataError(f"image_size={image_size!r} cannot be had: choose 1 to {LARGEST_SIDE} pixels.")
    return size[0], size[1]


def checked_folder(path: PathLike) -> Path:
    """The folder as a path.

    Raises:
        DataError: an address of another machine, a file, or nothing.
    """
    if is_remote(path):
        raise DataError(f"folder {str(path)!r} is not on this machine: copy the images here and name that folder.")
    root = Path(path).expanduser()
    if not root.is_dir():
        what = (
            "is a file; name the folder that it lies in" if root.is_file() else "does not exist; name one with images"
        )
        raise DataError(f"folder {str(path)!r} {what}.")
    return root


def size_text(shape: Sequence[int]) -> str:
    """``height x width`` as it is said."""
    return f"{shape[0]}x{shape[1]}"


def list_images(root: Path) -> Listing:
    """The image files under ``root``, by their suffix.

    Raises:
        DataError: none, or some in the folder itself and some in subfolders.
    """
    files, others = [], Counter[str]()
    for name in _walk(root, "", set()):
        if _is_image(name):
            files.append(name)
        else:
            others[_suffix(name) or "no suffix"] += 1
    kinds = ", ".join(sorted(s[1:].upper() for s in decoding.SUFFIXES - {".jpg", ".tif"}))
    if not files:
        beside = f"it has {_counted(others)}" if others else "it is empty"
        raise DataError(f"folder {str(root)!r} has no images ({beside}): name a folder of {kinds} files.")
    inside = [os.sep in name for name in files]
    if any(inside) and not all(inside):
        raise DataError(
            f"folder {str(root)!r} has {inside.count(False)} images itself, such as {files[inside.index(False)]!r}, and "
            f"{inside.count(True)} in subfolders, such as {files[inside.index(True)]!r}: move the former into a subfolder of "
            "their class, or all of them into one folder without classes."
        )
    return Listing(tuple(sorted(files)), others, all(inside))


def left_beside(root: Path, used: Iterable[Path]) -> tuple[str, ...]:
    """A sentence on the images of ``root`` that lie in none of its folders ``used``; none where there are none."""
    inside = {folder.name for folder in used}
    names = [name for name in _walk(root, "", set()) if _class_of(name) not in inside]
    left = Counter(name.partition(os.sep)[0] if os.sep in name else "itself" for name in names if _is_image(name))
    if not left:
        return ()
    where = ", ".join(f"{count:,} in {name}" for name, count in left.most_common(5))
    return (f"{root}: images beside the subfolders of the splits are left out: {where}.",)


def class_names(found: Survey, classes: Sequence[str] | None = None) -> tuple[str, ...]:
    """The classes of the usable images: see :func:`read_folder`."""
    if not found.listing.labelled:
        return ()
    present = sorted({_class_of(file) for file in found.files})
    if classes is None:
        return tuple(present)
    unknown = [name for name in present if name not in classes]
    if unknown:
        raise DataError(
            f"folder {str(found.path)!r} has the class subfolder {unknown[0]!r}, which the training images lack: their "
            f"classes are {', '.join(map(repr, classes[:8]))}. Rename or remove it."
        )
    return tuple(classes)


def labels(found: Survey, names: Sequence[str]) -> NDArray[np.int32] | None:
    """The place in ``names`` of every usable file's class, int32 (n,); None for a flat folder."""
    if not found.listing.labelled:
        return None
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[_class_of(file)] for file in found.files], np.int32)


def notes(found: Survey, names: Sequence[str]) -> tuple[str, ...]:
    """Sentences on what was read and what was done to it."""
    colours = {1: "grey", 3: "RGB", 4: "RGBA"}
    stored = {c: found.changes[f"channels {c}"] for c in colours}
    classes = f"in {len(names)} class{'es' * (len(names) > 1)}" if found.listing.labelled else "without classes"
    said = [
        f"{found.path}: {len(found.files):,} images of {size_text(found.shape)}, {colours[found.channels]}, {classes}."
    ]
    said += [f"{_images(count)} {what}." for what, count in found.changes.items() if not what.startswith("channels ")]
    for c, count in stored.items():
        if count and c != found.channels:
            laid = ", laid over white" if c == 4 else ""
            said.append(f"{_images(count, colours[c])} made {colours[found.channels]}{laid}.")
    if found.skipped:
        said.append(f"{len(found.skipped):,} of the files could not be used and were skipped: {_named(found.skipped)}.")
    if others := found.listing.others:
        said.append(f"Left out for their suffix: {_counted(others)}.")
    return tuple(said)


def _walk(root: Path, inside: str, seen: set[str]) -> Iterator[str]:
    """Paths inside ``root`` of all files that are not hidden; links are followed, each folder once."""
    folder = root / inside
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"folder {str(folder)!r} cannot be read ({error.strerror}).") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        name = os.path.join(inside, entry.name)
        if entry.is_dir():
            yield from _walk(root, name, seen)
        else:
            yield name


def _suffix(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def _is_image(file: str) -> bool:
    return _suffix(file) in decoding.SUFFIXES


def _images(count: int, kind: str = "") -> str:
    """``3 grey images were``."""
    return f"{count:,} {kind}{' ' * bool(kind)}{'image was' if count == 1 else 'images were'}"


def _class_of(file: str) -> str:
    return file.split(os.sep, 1)[0]


def _outcomes(
    root: Path, files: Sequence[str], size: tuple[int, int] | None
) -> Iterator[tuple[str, decoding.Decoded | decoding.UnreadableError]]:
    """Every file with what came of decoding it, in order.

    Raises:
        DataError: the folder is gone.
    """
    attempt = _attempt(root, size)
    with decoding.bombs_are_errors(), ThreadPoolExecutor(thread_name_prefix="decode") as pool:
        for start in range(0, len(files), CHUNK):
            part = files[start : start + CHUNK]
            for file, outcome in zip(part, pool.map(attempt, part), strict=True):
                if isinstance(outcome, decoding.UnreadableError) and not root.is_dir():
                    raise DataError(f"folder {str(root)!r} vanished while it was read: see that its disk is there.")
                yield file, outcome


def _attempt(root: Path, size: tuple[int, int] | None) -> Callable[[str], decoding.Decoded | decoding.UnreadableError]:
    def attempt(file: str) -> decoding.Decoded | decoding.UnreadableError:
        try:
            return decoding.decode(root / file, size=size)
        except decoding.UnreadableError as error:
            return error

    return attempt


def _too_many_skipped(found: Survey, most: int) -> None:
    n = len(found.listing.files)
    if len(found.skipped) == n:
        raise DataError(
            f"folder {str(found.path)!r}: none of its {n} images can be used: {_named(found.skipped)}. Mend them, or name "
            "another folder."
        )
    raise DataError(
        f"folder {str(found.path)!r}: {len(found.skipped)} of its {n} images cannot be used, and at most {most} "
        f"are skipped: {_named(found.skipped)}. Mend or remove them, or raise the limit by --max-skipped (max_skipped)."
    )


def _named(skipped: Sequence[Skipped]) -> str:
    """The first few of them, with their reasons."""
    more = f" and {len(skipped) - NAMED:,} more" if len(skipped) > NAMED else ""
    return "; ".join(f"{one.file} ({one.reason})" for one in skipped[:NAMED]) + more


def _counted(others: Counter[str]) -> str:
    return ", ".join(f"{count} of {suffix}" for suffix, count in others.most_common(5))
