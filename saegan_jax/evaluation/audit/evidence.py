"""What an audit knows of one image: its code, how badly the code describes it, and how near it is to a training image.

Every number is a function of the image and of the training images alone. So if fakes have the distribution of the held-out
reals, both sets of numbers are exchangeable, and every test in this package holds whatever autoencoder was trained.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Examples
from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.images import flatten_images, to_unit_float
from saegan_jax.training.members import unstacked
from saegan_jax.training.sweep import Member, train_members

BATCH = 500
FLOOR = 0.1


class Trained(NamedTuple):
    """An autoencoder: its settings, its parameters, and the ``(height, width, channels)`` of its images."""

    config: SAEConfig
    params: Any
    image_shape: tuple[int, int, int]


class Evidence(NamedTuple):
    """Of a set of images, row by row.

    Attributes:
      codes: ``(n, d_sae)`` float32, units that do not count as active at 0; of a convolutional autoencoder the largest over
        its positions.
      error: ``(n,)``, of the reconstruction, see :func:`standardised_error`.
      nearness: ``(n,)``, distance to the nearest training image over the mean distance to the nearest ``neighbours``; 0 for a
        copy, about 0.9 for a fresh image.
      nearest: ``(n,)``, number of the nearest training image.
    """

    codes: np.ndarray
    error: np.ndarray
    nearness: np.ndarray
    nearest: np.ndarray

    def take(self, rows: np.ndarray) -> "Evidence":
        """The rows that ``rows`` (numbers or a mask) names."""
        return Evidence(*(values[rows] for values in self))

    def join(self, other: "Evidence") -> "Evidence":
        """These rows, then those of ``other``."""
        return Evidence(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


def train_sae(
    config: SAEConfig, images: np.ndarray, *, seed: int, say: Callable[[str], None] = lambda text: None
) -> Trained:
    """An autoencoder of ``images (n, height, width, channels)`` uint8; ``say`` is called with the progress."""
    data = Examples(jnp.asarray(images), jnp.zeros(len(images), jnp.int32))
    states, _ = train_members(
        [Member(config, seed)], data, progress=lambda step, _: say(f"autoencoder: step {step} of {config.steps}")
    )
    height, width, channels = images.shape[1:]
    return Trained(config, unstacked(states.params, 1)[0], (height, width, channels))


class Reference(NamedTuple):
    """What every image is described by.

    Attributes:
      trained: the autoencoder.
      training: ``(t, height, width, channels)`` uint8, its training images, among which copies are looked for.
      codes: ``(t, d_sae)``, theirs, as in :class:`Evidence`.
      usual: ``(height * width * channels,)``, mean squared error of each pixel over them.
    """

    trained: Trained
    training: np.ndarray
    codes: np.ndarray
    usual: np.ndarray


def refer_to(trained: Trained, training: np.ndarray) -> Reference:
    """The :class:`Reference` of an autoencoder and training images."""
    codes, total = [], np.zeros(training[0].size)
    for part, squared in _described(trained, training):
        codes.append(part)
        total += squared.sum(axis=0, dtype=np.float64)
    return Reference(trained, training, np.concatenate(codes), total / len(training))


def gather_evidence(reference: Reference, images: np.ndarray, *, neighbours: int) -> Evidence:
    """The :class:`Evidence` of ``images (n, height, width, channels)`` uint8."""
    codes, errors = [], []
    for part, squared in _described(reference.trained, images):
        codes.append(part)
        errors.append(standardised_error(squared, reference.usual))
    nearness, nearest = nearness_to(images, reference.training, neighbours=neighbours)
    return Evidence(np.concatenate(codes), np.concatenate(errors), nearness, nearest)


def standardised_error(squared: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Squared errors over what is usual at their pixel: ``mean_p e_p^2 / (u_p + 0.1 mean(u))``, ``(n,)``.

    About 1 for a fresh image. The plain sum would be ruled by the strokes of busy images: a spot where real images have
    nothing, and no feature draws anything, would not stand out. The tenth of the mean keeps a pixel that is always well
    described from ruling the sum.

    Args:
      squared: ``(n, p)``, squared errors of each pixel.
      usual: ``(p,)``, their mean over training images.
    """
    floor = FLOOR * usual.mean()
    weights = 1 / (usual + (floor if floor > 0 else 1.0))
    return squared.astype(np.float64) @ weights / len(usual)


def _described(trained: Trained, images: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Codes ``(m, d_sae)`` and squared errors ``(m, p)`` of ``m`` images at a time: of all they may not fit the memory."""
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        padded = np.pad(part, ((0, BATCH - len(part)), (0, 0), (0, 0), (0, 0)))  # one compiled shape
        codes, squared = _codes_and_error(trained.config, trained.image_shape, trained.params, padded)
        yield np.asarray(codes)[: len(part)], np.asarray(squared)[: len(part)]


@partial(jax.jit, static_argnums=(0, 1))
def _codes_and_error(
    config: SAEConfig, image_shape: tuple[int, int, int], params: Any, images: jax.Array
) -> tuple[jax.Array, jax.Array]:
    functions, x = autoencoder(config, image_shape=image_shape), to_unit_float(images)
    codes = functions.encode(params, x)
    active = jnp.where(codes > config.active_above, codes, 0.0)
    residual = flatten_images(functions.decode(params, codes) - x)
    return active.reshape(len(x), -1, config.d_sae).max(axis=1), residual**2


def reconstruct(trained: Trained, images: np.ndarray) -> np.ndarray:
    """Reconstructions of a few uint8 images, float32 in [0, 1], of the same shape."""
    functions = autoencoder(trained.config, image_shape=trained.image_shape)
    x = to_unit_float(jnp.asarray(images))
    return np.clip(np.asarray(functions.decode(trained.params, functions.encode(trained.params, x))), 0, 1)


def nearness_to(images: np.ndarray, training: np.ndarray, *, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """How much nearer the nearest training image is than the usual near ones: ``d_1 / mean(d_1, ..., d_n)``, and its number.

    Distances are Euclidean, of pixels. Divided by the mean over the nearest ``n`` they are comparable between crowded regions,
    where every image has a near one (a handwritten 1), and empty ones.

    Args:
      images: ``(k, height, width, channels)`` uint8.
      training: ``(t, height, width, channels)`` uint8; where ``t < neighbours``, all of them are taken.
      neighbours: n.

    Returns:
      ``(k,)`` float64, 0 for a copy (also where all n are copies), and ``(k,)`` int64.

    Source: Carlini et al., Extracting Training Data from Diffusion Models, 2023, where n is 50; the search is scikit-learn's.
    """
    from sklearn.neighbors import NearestNeighbors  # a second to import

    n = min(neighbours, len(training))
    x, y = (flatten_uint8(some) for some in (training, images))
    index = NearestNeighbors(n_neighbors=n, algorithm="brute").fit(x)
    distance, found = index.kneighbors(y)
    # The search takes differences of squares, which leave 1e-4 of a copy; its first neighbour is measured again.
    distance[:, 0] = np.linalg.norm(y - x[found[:, 0]], axis=1)
    mean = distance.mean(axis=1)
    return np.where(mean > 0, distance[:, 0] / np.where(mean > 0, mean, 1), 0.0), found[:, 0]


def flatten_uint8(images: np.ndarray) -> np.ndarray:
    """uint8 images as float32 vectors in [0, 1], ``(n, d)``."""
    return images.reshape(len(images), -1).astype(np.float32) / 255
