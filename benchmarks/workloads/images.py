"""Images to time on."""

import math

import numpy as np
from scipy.ndimage import zoom
from sklearn.datasets import load_digits


def images(n: int, shape: tuple[int, int, int]) -> np.ndarray:
    """``n`` uint8 images of ``shape`` to time on: scikit-learn's digits enlarged and shifted, nothing downloaded."""
    height, width, channels = shape
    digits = load_digits().images  # (1797, 8, 8), 0 to 16
    large = zoom(digits, (1, height / 8, width / 8), order=1).clip(0, 16) * (255 / 16)
    large = np.repeat(large.astype(np.uint8)[..., None], channels, axis=-1)
    rng = np.random.default_rng(0)
    out = large[rng.integers(len(large), size=n)]
    for rows in range(-2, 3):  # shifted by up to two pixels, a fifth of the images each
        out[rows + 2 :: 5] = np.roll(out[rows + 2 :: 5], (rows, -rows), axis=(1, 2))
    return out


def images_for(shape: tuple[int, int, int], *, batch_size: int, wanted: int, most_bytes: int) -> np.ndarray:
    """The images for one work: as many as wanted that fit, and at least two batches."""
    return images(max(2 * batch_size, min(wanted, most_bytes // math.prod(shape))), shape)
