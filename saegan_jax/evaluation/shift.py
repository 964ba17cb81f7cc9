"""Autoencoders on data unlike their training data: the test sets, the models that are compared, and their scores.

A new shift is one line in :data:`SHIFTS`, a new model one in :data:`MODELS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Examples
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig
from saegan_jax.data import Dataset, load
from saegan_jax.data.dataset import Split
from saegan_jax.data.shifts import Images, enlarged, inverted, noisy, rotated
from saegan_jax.evaluation.probe import fit_probe
from saegan_jax.training.members import unstacked
from saegan_jax.training.sweep import Member, encode_all, score_members, train_members

PROBE_IMAGES = 10_000
NOISE_SEED = 0
UNSHIFTED, OTHER_SOURCE, UNSEEN = "none", "digits of another source", "unseen classes"
ImageShape = tuple[int, int, int]
SHIFTS: Mapping[str, Callable[[Images], Images]] = {
    **{f"rotated {degrees}": partial(rotated, degrees=degrees) for degrees in (15, 30, 45, 60, 75, 90)},
    **{f"noise {sigma:g}": partial(noisy, sigma=sigma, seed=NOISE_SEED) for sigma in (0.1, 0.2, 0.4)},
    "inverted": inverted,
}
"""Shifts of test images, by name."""


def _variant(name: str, config: SAEConfig, image_shape: ImageShape, **changes: Any) -> SAEConfig:
    return replace(config, variant=name, **changes)


def _sigmoid(config: SAEConfig, image_shape: ImageShape) -> SAEConfig:
    """Sigmoid codes with the KL penalty, whose decoder has the norm that suits the images."""
    norm = VARIANTS["kl"].wants(image_shape)["decoder_norm"]
    return _variant("kl", config, image_shape, rho=0.05, beta=3.0, pre_bias="none", decoder_norm=norm)


MODELS: Mapping[str, Callable[[SAEConfig, ImageShape], SAEConfig]] = {
    "topk": partial(_variant, "topk", auxk=1 / 32),
    "batch_topk": partial(_variant, "batch_topk", auxk=1 / 32),
    "l1": partial(_variant, "l1", beta=0.4),
    "kl": _sigmoid,
    "dense": partial(_variant, "l1", beta=0.0),
}
"""Autoencoders that are compared, from the settings that all share."""


class ShiftScores(NamedTuple):
    """Of one model and seed on one test set: sums and shares that the measures are made from.

    Attributes:
      mse, fvu, l0: see :class:`saegan_jax.metrics.SAEMetrics`.
      density: share of the images in which each unit is active, ``(d_sae,)``.
      accuracy: of a probe that was fitted to codes of training images.
    """

    mse: float
    fvu: float
    l0: float
    density: np.ndarray
    accuracy: float


def without_classes(split: Split, classes: Sequence[int]) -> Split:
    """The examples of the other classes."""
    kept = ~np.isin(split.label, classes)
    return Split(split.image[kept], split.label[kept])


def shifted_sets(dataset: Dataset, held_out: Sequence[int]) -> dict[str, Split]:
    """The test sets, by name, the unshifted one first; ``held_out`` are classes that were not trained on."""
    test = without_classes(dataset.test, held_out)
    sets = {UNSHIFTED: test} | {name: Split(shift(test.image), test.label) for name, shift in SHIFTS.items()}
    if dataset.name == "mnist":
        other = without_classes(load("digits").test, held_out)
        sets[OTHER_SOURCE] = Split(enlarged(other.image, size=28, margin=4), other.label)
    if held_out:
        unseen = np.isin(dataset.test.label, held_out)
        sets[UNSEEN] = Split(dataset.test.image[unseen], dataset.test.label[unseen])
    return sets


def score_autoencoders(
    config: SAEConfig, seeds: Sequence[int], train: Split, tests: Mapping[str, Split], say: Callable[[str], None]
) -> dict[str, list[ShiftScores]]:
    """Train an autoencoder with every seed, and score each on every test set; ``say`` is called with the progress."""
    members = [Member(config, seed) for seed in seeds]
    data = Examples(jnp.asarray(train.image), jnp.asarray(train.label))
    states, _ = train_members(members, data, progress=lambda step, _: say(f"step {step} of {config.steps}"))
    metrics = {name: score_members(members, states, jnp.asarray(split.image)) for name, split in tests.items()}
    scores: dict[str, list[ShiftScores]] = {name: [] for name in tests}
    some = Split(train.image[:PROBE_IMAGES], train.label[:PROBE_IMAGES])
    for i, params in enumerate(unstacked(states.params, len(members))):
        say(f"probe of seed {seeds[i]}")
        probe = fit_probe(encode_all(config, params, jnp.asarray(some.image)), some.label)
        for name, split in tests.items():
            m, codes = metrics[name], encode_all(config, params, jnp.asarray(split.image))
            accuracy, density = probe.accuracy(codes, split.label), np.asarray(m.feature_density[i])
            scores[name].append(ShiftScores(float(m.mse[i]), float(m.fvu[i]), float(m.l0[i]), density, accuracy))
    return scores


def _flat(split: Split) -> np.ndarray:
    """Images as float32 vectors in [0, 1], ``(n, d)``."""
    return split.image.reshape(len(split.label), -1).astype(np.float32) / 255


def score_pca(n_components: int, train: Split, tests: Mapping[str, Split]) -> dict[str, list[ShiftScores]]:
    """Principal components, which have no seeds; every one is active always."""
    from sklearn.decomposition import PCA

    x = _flat(train)
    pca = PCA(min(n_components, x.shape[1]), svd_solver="covariance_eigh").fit(x)
    probe = fit_probe(pca.transform(x[:PROBE_IMAGES]), train.label[:PROBE_IMAGES], per_unit=False)
    scores = {}
    for name, split in tests.items():
        y = _flat(split)
        codes = pca.transform(y)
        error = np.mean((pca.inverse_transform(codes) - y) ** 2)
        total, n = np.mean((y - y.mean(axis=0)) ** 2), codes.shape[1]
        scores[name] = [ShiftScores(error, error / total, n, np.ones(n), probe.accuracy(codes, split.label))]
    return scores
