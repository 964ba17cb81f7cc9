"""Sample grids and dictionaries as PNG files."""

import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from saegan_jax.files import write_bytes
from saegan_jax.report.sprites import png_bytes

_MIN_SIDE = 56
"""Images smaller than this are enlarged by default: an 8x8 digit at its own size is a speck on a screen."""


def tile(
    images: ArrayLike,
    *,
    columns: int | None = None,
    padding: int = 2,
    upscale: int | None = None,
    background: int = 255,
) -> np.ndarray:
    """Images beside each other, row by row, each enlarged by whole pixels (nearest neighbour).

    Args:
      images: ``(n, height, width, channels)`` with 1, 3 or 4 channels (grey, RGB, RGBA), uint8, or floats in [0, 1], which
        are clipped and rounded to 8 bits. Transparent pixels are laid over the background.
      columns: images per row; by default a square, ``ceil(sqrt(n))``.
      padding: pixels of background between images and around them.
      upscale: factor of enlargement; by default the smallest that makes the longer side at least 56 pixels.
      background: its grey value.

    Returns:
      uint8 ``(H, W)`` for 1 channel, else ``(H, W, 3)``, with ``H = rows * (upscale * height + padding) + padding``.

    Raises:
      ValueError: on another shape or dtype, no images, non-finite values, or an option out of range.
    """
    values = np.asarray(images)
    if values.ndim != 4 or values.shape[0] == 0 or values.shape[3] not in (1, 3, 4):
        raise ValueError(f"images must be (n, height, width, 1, 3 or 4) with n >= 1, got {values.shape}.")
    if np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all():
            raise ValueError("images hold non-finite values and cannot be drawn: their model has diverged.")
        values = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    if values.dtype != np.uint8:
        raise ValueError(f"images must be uint8 or floats in [0, 1], got {values.dtype}.")
    if values.shape[3] == 4:
        opacity = values[..., 3:].astype(np.float64) / 255
        values = np.rint(opacity * values[..., :3] + (1 - opacity) * background).astype(np.uint8)
    n, height, width, channels = values.shape
    columns = math.ceil(math.sqrt(n)) if columns is None else columns
    upscale = math.ceil(_MIN_SIDE / max(height, width)) if upscale is None else upscale
    if columns < 1 or upscale < 1 or padding < 0:
        raise ValueError(f"need columns >= 1, upscale >= 1, padding >= 0; got {columns}, {upscale}, {padding}.")
    columns = min(columns, n)
    values = values.repeat(upscale, axis=1).repeat(upscale, axis=2)
    rows, step_y, step_x = math.ceil(n / columns), height * upscale + padding, width * upscale + padding
    canvas = np.full((rows * step_y + padding, columns * step_x + padding, channels), background, np.uint8)
    for index, image in enumerate(values):
        y, x = padding + index // columns * step_y, padding + index % columns * step_x
        canvas[y : y + height * upscale, x : x + width * upscale] = image
    return canvas[..., 0] if channels == 1 else canvas


def image_grid(
    images: ArrayLike,
    path: str | os.PathLike[str],
    *,
    columns: int | None = None,
    padding: int = 2,
    upscale: int | None = None,
) -> Path:
    """Writes `tile` of ``images`` to a PNG, atomically; arguments and errors as there. Returns the path."""
    return _save_png(tile(images, columns=columns, padding=padding, upscale=upscale), path)


def dictionary_picture(
    W_dec: ArrayLike,
    image_shape: tuple[int, int, int],
    path: str | os.PathLike[str],
    *,
    max_units: int = 100,
    density: ArrayLike | None = None,
    columns: int | None = None,
    padding: int = 2,
    upscale: int | None = None,
) -> Path:
    """Writes decoder atoms as images, each on its own symmetric scale.

    ``pixel = round(128 + 127 w / max|w|)``: 0 is mid-grey, the largest magnitude white or nearly black. Weights of an alpha
    channel are left out.

    Args:
      W_dec: ``(d_sae, d_in)`` with ``d_in = height * width * channels`` in that order.
      image_shape: ``(height, width, channels)``, 1, 3 or 4 channels.
      path: of the PNG.
      max_units: draw at most this many.
      density: ``(d_sae,)``; if given, the units are drawn in order of falling density instead of by index.
      columns, padding, upscale: as in `tile`.

    Returns:
      The path.

    Raises:
      ValueError: if the shapes disagree, the weights are not finite, or ``max_units < 1``.
    """
    atoms = np.asarray(W_dec, np.float64)
    if atoms.ndim != 2 or atoms.shape[1] != math.prod(image_shape) or len(atoms) == 0:
        raise ValueError(
            f"W_dec must be (d_sae, {math.prod(image_shape)}) for {image_shape} atoms; it is {atoms.shape}."
        )
    if not np.isfinite(atoms).all():
        raise ValueError("W_dec holds non-finite values and cannot be drawn: the autoencoder has diverged.")
    if max_units < 1:
        raise ValueError(f"max_units = {max_units}: draw at least one unit.")
    if density is not None:
        order = np.asarray(density)
        if order.shape != atoms.shape[:1]:
            raise ValueError(f"density must be ({len(atoms)},), one per unit of W_dec, got {order.shape}.")
        atoms = atoms[np.argsort(-order, kind="stable")]
    atoms = atoms[:max_units]
    if image_shape[2] == 4:
        atoms = atoms.reshape(-1, *image_shape)[..., :3].reshape(len(atoms), -1)
        image_shape = (*image_shape[:2], 3)
    pixels = atom_pixels(atoms).reshape(-1, *image_shape)
    return _save_png(tile(pixels, columns=columns, padding=padding, upscale=upscale), path)


def atom_pixels(atoms: np.ndarray) -> np.ndarray:
    """Decoder rows ``(d_sae, d_in)``, each on its own symmetric scale: ``round(128 + 127 w / max|w|)`` as uint8."""
    largest = np.abs(atoms).max(axis=1, keepdims=True)
    return np.rint(128 + 127 * atoms / np.where(largest > 0, largest, 1)).astype(np.uint8)


def _save_png(pixels: np.ndarray, path: str | os.PathLike[str]) -> Path:
    write_bytes(Path(path), png_bytes(pixels))
    return Path(path)
