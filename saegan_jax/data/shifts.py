"""Images unlike those trained on: rotated, noisy, inverted, or enlarged from a smaller source."""

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


def rotated(images: Images, degrees: float) -> Images:
    """Rotated counterclockwise about the centre, ``(n, h, w, c)``; bilinear, zeros from outside."""
    from scipy.ndimage import rotate

    return rotate(images, degrees, axes=(2, 1), reshape=False, order=1, mode="constant", cval=0)


def noisy(images: Images, sigma: float, *, seed: int) -> Images:
    """Gaussian noise of standard deviation ``sigma`` on pixels in [0, 1], then clipped to them; the same for a seed."""
    noise = np.random.default_rng(seed).normal(scale=255 * sigma, size=images.shape)
    return np.rint(np.clip(images + noise, 0, 255)).astype(np.uint8)


def inverted(images: Images) -> Images:
    """Black for white: 255 - pixel."""
    return 255 - images


def enlarged(images: Images, *, size: int, margin: int) -> Images:
    """Square images ``(n, s, s, c)`` enlarged (bilinear) to ``size - 2 margin`` and framed by ``margin`` zeros."""
    from scipy.ndimage import zoom

    inner = size - 2 * margin
    large = zoom(images, (1, inner / images.shape[1], inner / images.shape[2], 1), order=1)
    return np.pad(large, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
