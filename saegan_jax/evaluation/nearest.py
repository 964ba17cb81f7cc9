"""The training images that are nearest to samples, to be looked at beside them."""

import numpy as np
from sklearn.metrics import pairwise_distances_argmin_min

BLOCK = 20_000_000  # pixels of training images that are floats at once


def nearest_training_images(images: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The training image nearest to each image, by the root mean square difference of pixels in [0, 1].

    Pixels see copies; they do not see likeness. The measure of memorisation is in a classifier's features.

    Args:
      images: ``(n, height, width, channels)`` uint8.
      training: ``(m, height, width, channels)`` uint8; all are compared, block by block.

    Returns:
      ``(n, height, width, channels)`` uint8 and the differences, ``(n,)``. Of equally near ones the first is taken.
    """
    pixels = int(np.prod(training.shape[1:]))
    asked = images.reshape(-1, pixels).astype(np.float32)
    nearest, least = np.zeros(len(images), np.intp), np.full(len(images), np.inf)
    size = max(1, BLOCK // pixels)
    for start in range(0, len(training), size):
        block = training[start : start + size].reshape(-1, pixels).astype(np.float32)
        index, distance = pairwise_distances_argmin_min(asked, block)
        nearer = distance < least
        nearest[nearer], least[nearer] = start + index[nearer], distance[nearer]
    return training[nearest], least / (255 * pixels**0.5)
