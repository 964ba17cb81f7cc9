"""One image file as 8-bit pixels: orientation, bit depth, transparency and size, with a word on whatever was changed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
MOST_PIXELS = 2**26
"""Of one image; a file that claims more would fill the memory."""
ORIENTATION_TAG = 0x0112

# What may be done to an image, as it is said of several.
TURNED = "turned upright by their EXIF orientation"
DEPTH = "reduced from 16 bits to 8"
COLOUR_SPACE = "converted from another colour space or a palette"
FIRST_FRAME = "read by their first frame alone"
RESIZED = "resized, and cropped about the centre where their shape was another"
ENLARGED = "smaller than that and enlarged"


class UnreadableError(ValueError):
    """A file that is no image that can be used; the message is the reason alone."""


class Decoded(NamedTuple):
    """image: uint8 (h, w, c) with c 1 (grey), 3 (RGB) or 4 (RGBA); changes: what was done to it."""

    image: NDArray[np.uint8]
    changes: tuple[str, ...]


@contextmanager
def bombs_are_errors() -> Iterator[None]:
    """Within it Pillow refuses images of absurd size, in other threads too, and stays silent about odd metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode(path: str | os.PathLike[str], *, size: tuple[int, int] | None = None) -> Decoded:
    """Read one file.

    EXIF orientation is applied, 16-bit grey levels are scaled to 8, palettes and other colour spaces become RGB, an alpha
    channel that is opaque everywhere is dropped, and of several frames the first is taken.

    Args:
        path: of the file.
        size: ``(height, width)``; the largest part about the centre with that aspect ratio is resized to it (Lanczos).

    Raises:
        UnreadableError: no image, a damaged one, one of more than 2^26 pixels, or pixels whose range is not known.
    """
    try:
        with Image.open(path) as file:
            width, height = file.size
            if width * height > MOST_PIXELS:
                raise UnreadableError(f"it claims {width}x{height} pixels, more than {MOST_PIXELS:,}")
            changes = [FIRST_FRAME] if getattr(file, "n_frames", 1) > 1 else []
            if _sixteen_bits(file):
                changes.append(DEPTH)
            file.load()
            if file.getexif().get(ORIENTATION_TAG) in range(2, 9):
                changes.append(TURNED)
            image = ImageOps.exif_transpose(file)
            image = _plain(image, changes)
            if size is not None and (image.height, image.width) != size:
                changes.append(RESIZED)
                if image.height < size[0] or image.width < size[1]:
                    changes.append(ENLARGED)
                image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.LANCZOS)
            pixels = np.asarray(image, np.uint8)
    except UnreadableError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UnreadableError(f"it claims more than {MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise UnreadableError("it is no image that Pillow can read") from None
    except FileNotFoundError:
        raise UnreadableError("it vanished before it was read") from None
    except Exception as error:  # each format's reader raises its own kind
        raise UnreadableError(f"{type(error).__name__}: {error}") from error
    return Decoded(pixels if pixels.ndim == 3 else pixels[..., None], tuple(changes))


def with_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """``(h, w, c)`` with another number of channels: 1, 3 or 4.

    Grey is repeated, an alpha channel is added as opaque, transparent pixels are laid over white where it is dropped, and
    colours become grey as 0.299 R + 0.587 G + 0.114 B.
    """
    found = image.shape[2]
    if found == channels:
        return image
    if found == 4:
        alpha = image[..., 3:].astype(np.uint32)
        over = (image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
        return with_channels(over.astype(np.uint8), channels)
    if channels == 1:
        weights = np.array([299, 587, 114], np.uint32)
        return ((image @ weights + 500) // 1000).astype(np.uint8)[..., None]
    colour = image if found == 3 else image.repeat(3, axis=2)
    if channels == 3:
        return colour
    return np.concatenate([colour, np.full_like(colour[..., :1], 255)], axis=2)


def _sixteen_bits(file: Image.Image) -> bool:
    """Whether the pixels are stored with 16 bits, which Pillow says in its mode for grey images alone."""
    if file.mode == "I" or file.mode.startswith("I;16"):
        return True
    return any(";16" in str(tile[3]) for tile in getattr(file, "tile", ()))


def _plain(image: Image.Image, changes: list[str]) -> Image.Image:
    """``image`` in one of the modes L, RGB and RGBA."""
    mode = image.mode
    if mode == "I" or mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableError(f"its pixels go from {values.min()} to {values.max()}, and at most 16 bits are read")
        if mode == "I" and values.max() < 256:
            raise UnreadableError(
                f"its pixels of 32 bits go up to {values.max()}, so that 8 or 16 bits may be meant; save it with as many"
            )
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if mode == "F":
        raise UnreadableError(
            "its pixels are floating-point numbers, whose range is not known; save it with 8 or 16 bits"
        )
    grey = mode in ("1", "L", "LA", "La")
    if ("A" in mode.upper() and mode != "LAB") or "transparency" in image.info:
        if mode not in ("RGBA", "LA"):
            changes.append(COLOUR_SPACE)
        rgba = image.convert("LA" if mode == "La" else "RGBA").convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            return rgba
        return rgba.convert("L" if grey else "RGB")
    if grey:
        return image.convert("L")
    if mode != "RGB":
        changes.append(COLOUR_SPACE)
    return image.convert("RGB")
