"""The training images that are nearest to samples, to be looked at beside them."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

MOST_NUMBERS = 200_000_000  # of pixels that are compared at once


def nearest_training_images(images: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The training image nearest to each image, by the root mean square difference of pixels in [0, 1].

    Pixels see copies; they do not see likeness. The measure of memorisation is in a classifier's features.

    Args:
      images: ``(n, height, width, channels)`` uint8.
      training: ``(m, height, width, channels)`` uint8; of more than 200 million pixels equally spaced ones are compared.

    Returns:
      ``(n, height, width, channels)`` uint8 and the differences, ``(n,)``.
    """
    pixels = int(np.prod(training.shape[1:]))
    step = -(-training.size // MOST_NUMBERS)
    compared = training[::step]
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(compared.reshape(-1, pixels).astype(np.float32))
    distance, index = search.kneighbors(images.reshape(-1, pixels).astype(np.float32))
    return compared[index[:, 0]], distance[:, 0] / (255 * pixels**0.5)
