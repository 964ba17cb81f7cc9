"""Many small images as one PNG within a page: sprite sheets, made smaller until they fit."""

import base64
import io
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class Sheet(NamedTuple):
    """Images in rows of ``columns``, without gaps.

    Attributes:
      src: a PNG as a data URI.
      columns: images a row.
      width, height: of one image, in pixels of the sheet.
      size: how many images.
    """

    src: str
    columns: int
    width: int
    height: int
    size: int


def data_uri(png: bytes) -> str:
    """A PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def png_bytes(pixels: np.ndarray) -> bytes:
    """``(H, W)`` or ``(H, W, 3)`` uint8 as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as uint8; of a model that has failed grey."""
    if images.dtype == np.uint8:
        return images
    return np.rint(np.clip(np.nan_to_num(images, nan=0.5), 0, 1) * 255).astype(np.uint8)


def sheet(images: np.ndarray, *, shrink: int = 1) -> Sheet:
    """Images ``(n, height, width, channels)`` uint8, each side divided by ``shrink``; transparent pixels over grey."""
    if images.shape[3] == 4:
        opacity = images[..., 3:].astype(np.float32) / 255
        images = np.rint(opacity * images[..., :3] + (1 - opacity) * 128).astype(np.uint8)
    n, height, width, channels = images.shape
    if shrink > 1:
        blocks = images.reshape(n, height // shrink, shrink, width // shrink, shrink, channels)
        images = np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8)
        height, width = height // shrink, width // shrink
    columns = math.ceil(math.sqrt(n * height / width))
    padded = np.pad(images, ((0, -n % columns), (0, 0), (0, 0), (0, 0)))
    grid = padded.reshape(-1, columns, height, width, channels).swapaxes(1, 2)
    pixels = grid.reshape(-1, columns * width, channels)
    return Sheet(data_uri(png_bytes(pixels[..., 0] if channels == 1 else pixels)), columns, width, height, n)


def sheets(named: Mapping[str, np.ndarray], *, most: int) -> dict[str, Sheet]:
    """A sheet of each set of images, together at most ``most`` characters: the largest is halved until they fit.

    Args:
      named: ``(n, height, width, channels)`` uint8 each.
      most: characters of all data URIs. Sides that no whole number above 1 divides are left as they are.

    Returns:
      By name; a set of no images has none.
    """
    shrinks = {name: 1 for name, images in named.items() if len(images)}
    made = {name: sheet(named[name]) for name in shrinks}
    while sum(len(one.src) for one in made.values()) > most:
        able = {name: step for name in made if (step := next_shrink(named[name].shape[1:3], shrinks[name]))}
        if not able:
            break
        largest = max(able, key=lambda name: len(made[name].src))
        shrinks[largest] = able[largest]
        made[largest] = sheet(named[largest], shrink=able[largest])
    return made


def next_shrink(sides: tuple[int, int], shrink: int) -> int | None:
    """The next larger divisor of both sides that leaves at least 4 pixels; None where there is none."""
    common = math.gcd(*sides)
    return next((d for d in range(shrink + 1, min(sides) // 4 + 1) if common % d == 0), None)


def to_json(sheets: Mapping[str, Sheet]) -> dict[str, Any]:
    """Sheets as JSON values."""
    return {name: one._asdict() for name, one in sheets.items()}
