"""Evaluation of a generator while it trains: a few samples, scored against validation images, one number a member."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.evaluation.features import FeatureNetwork
from saegan_jax.evaluation.sample_quality import class_balance
from saegan_jax.metrics import frechet_distance, neighbour_metrics
from saegan_jax.training.callbacks import Scores
from saegan_jax.training.systems import draw

if TYPE_CHECKING:
    from saegan_jax.data import Dataset

MAX_SAMPLES = 1000  # of one evaluation: enough for an alarm, a second's work


def _random(name: str) -> str:
    """The name of a score in random features."""
    return f"{name}_random_features"


def sample_evaluator(
    network: FeatureNetwork, dataset: "Dataset", algorithm: Algorithm, *, n_seeds: int, seed: int
) -> Callable[[int, Any], Scores]:
    """``score(step, state) -> Scores``: ``frechet``, ``class_balance_kl`` and ``recall`` of at most 1,000 samples a member.

    Of images without labels the names end in ``_random_features``, and there is no class balance.

    Always of the same latents, against as many validation images; floors are those of as many training images. Numbers of so
    few samples are noisy and biased: they show the course of a training, its best moment and its collapse, not its result.

    Args:
      network: see :func:`saegan_jax.evaluation.features.load_feature_network`.
      dataset: the one of the network.
      algorithm: whose ``sample`` is called.
      n_seeds: members in the state.
      seed: of the samples.
    """
    n = min(MAX_SAMPLES, len(dataset.validation.label), len(dataset.train.label))
    chosen = np.random.default_rng(0).permutation(len(dataset.validation.label))[:n]
    reference = network.features(dataset.validation.image[chosen])

    def measures(images: np.ndarray) -> dict[str, float]:
        names = (
            ("frechet", "class_balance_kl", "recall") if network.trained else tuple(map(_random, ("frechet", "recall")))
        )
        if not np.isfinite(images).all():
            return dict.fromkeys(names, float("nan"))
        logits, features = network.run(images)
        distance, recall = frechet_distance(reference, features), neighbour_metrics(reference, features).recall
        balance = (class_balance(logits.argmax(axis=1), dataset),) if network.trained else ()
        return dict(zip(names, (distance, *balance, recall), strict=True))

    train = np.random.default_rng(1).permutation(len(dataset.train.label))[:n]
    floors = measures(dataset.train.image[train])

    def score(step: int, state: Any) -> Scores:
        found = [measures(images) for images in draw(algorithm, state, seed=seed, n=n, n_seeds=n_seeds)]
        return Scores({name: [one[name] for one in found] for name in floors}, floors)

    return score
