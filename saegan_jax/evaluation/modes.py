"""Scores of a generator on data whose modes are known: how many it finds, how well, and how evenly."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.data.mixtures import Mixture
from saegan_jax.evaluation.features import FeatureNetwork
from saegan_jax.metrics import mixture_quality, mode_count, reverse_kl
from saegan_jax.training.callbacks import Scores
from saegan_jax.training.systems import draw

SAMPLE_SEED = 0  # of all samples that are scored
Measure = Callable[[np.ndarray], Mapping[str, float]]


class Sampling(NamedTuple):
    """Samples of every member: of what, how many, and the number of members."""

    algorithm: Algorithm
    n: int
    n_seeds: int

    def images(self, state: Any, *, seed: int = SAMPLE_SEED) -> np.ndarray:
        """``(n_seeds, n, height, width, channels)`` in [0, 1]."""
        return draw(self.algorithm, state, seed=seed, n=self.n, n_seeds=self.n_seeds)


def score_modes(sampling: Sampling, measure: Measure, floors: Mapping[str, float], step: int, state: Any) -> Scores:
    """``measure`` of every member's samples, NaN for one that has failed.

    Args:
      sampling: the samples.
      measure: of one member's images.
      floors: what a perfect generator scores, of every measure that is kept.
      step: of the training.
      state: of all members.
    """
    failed = dict.fromkeys(floors, float("nan"))
    found = [measure(own) if np.isfinite(own).all() else failed for own in sampling.images(state)]
    return Scores({name: [float(one[name]) for one in found] for name in floors}, dict(floors))


def mixture_measures(target: Mixture, images: np.ndarray) -> Mapping[str, float]:
    """Of samples of a mixture of Gaussians, as images of one pixel."""
    return mixture_quality(target.points(images), target.centers, sigma=target.sigma)._asdict()


def stacked_labels(network: FeatureNetwork, images: np.ndarray) -> np.ndarray:
    """Modes of ``(n, height, width, stack)`` images in [0, 1]: the predicted classes as digits of one number, ``(n,)``."""
    pixels = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    label = np.zeros(len(images), np.int64)
    for channel in range(images.shape[-1]):
        label = 10 * label + network.predict_labels(pixels[..., channel : channel + 1])
    return label


def stacked_measures(network: FeatureNetwork, images: np.ndarray) -> Mapping[str, float]:
    """Of stacks of digits, each of which ``network`` classifies by itself."""
    label, num_modes = stacked_labels(network, images), 10 ** images.shape[-1]
    return {
        "modes": float(mode_count(label, num_modes=num_modes)),
        "reverse_kl": reverse_kl(label, num_modes=num_modes),
    }
