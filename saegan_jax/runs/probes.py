"""What the codes of a trained autoencoder say of the labels: dense and k-sparse probes, rows of the closing table."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.data.dataset import Dataset, Split
from saegan_jax.evaluation.probe import linear_probe
from saegan_jax.evaluation.sparse_probe import k_sparse_probe
from saegan_jax.images import any_to_unit_float
from saegan_jax.runs.scores import row, sae_rows
from saegan_jax.runs.session import Run
from saegan_jax.training.busy import busy
from saegan_jax.training.members import members_of
from saegan_jax.training.sweep import encode_all

KS = (1, 5, 20)
PROBED = 5_000
"""Most images that probes are fitted to, and most that they are scored on."""
MOST_VALUES = 2**26
"""Most codes of one split, in numbers: probes hold them in float64."""
MOST_CLASSES = 200
LIKENED = 1_000
"""Training images whose mean is compared with what varies."""


class Labelled(NamedTuple):
    """Images of classes that a probe can be fitted to and scored on.

    Attributes:
      train, test: the images.
      n_classes: how many classes they have.
    """

    train: Split
    test: Split
    n_classes: int


def labelled_splits(dataset: Dataset, *, most: int) -> Labelled | None:
    """At most ``most`` images of each split, the first ones, of the classes with two training and one test image or more.

    None where there are fewer than two such classes, or no labels.
    """
    if not dataset.labelled:
        return None
    splits = [Split(split.image[:most], split.label[:most]) for split in (dataset.train, dataset.test)]
    counts = [np.bincount(split.label, minlength=dataset.num_classes) for split in splits]
    usable = np.flatnonzero((counts[0] >= 2) & (counts[1] >= 1))
    if not 2 <= len(usable) <= MOST_CLASSES:
        return None
    kept = [np.isin(split.label, usable) for split in splits]
    train, test = (Split(split.image[k], split.label[k]) for split, k in zip(splits, kept, strict=True))
    return Labelled(train, test, len(usable))


def pooled_codes(config: SAEConfig, params: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(n, d_sae)``, of a convolutional autoencoder the largest over positions: whether a feature is anywhere."""
    codes = encode_all(config, params, jnp.asarray(images))
    return codes.reshape(len(codes), -1, config.d_sae).max(axis=1)


def probe_scores(config: SAEConfig, params: Any, found: Labelled, ks: Sequence[int]) -> list[float]:
    """Accuracy of the dense probe, then of the k-sparse ones; NaN everywhere for a member that has failed."""
    train, test = (pooled_codes(config, params, split.image) for split in (found.train, found.test))
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        return [math.nan] * (1 + len(ks))
    dense = linear_probe(train, found.train.label, test, found.test.label)
    sparse = k_sparse_probe(train, found.train.label, test, found.test.label, ks=ks)
    return [dense.accuracy, *sparse.mean.tolist()]


def probe_rows(run: Run, config: SAEConfig, params: Any) -> dict[str, dict[str, Any]]:
    """Rows of the dense and the k-sparse probes of every member; none without labels, or where nothing is to be evaluated."""
    if not run.options.evaluate:
        return {}
    positions = math.prod(autoencoder(config, image_shape=run.dataset.image_shape).positions)
    most = min(PROBED, max(1, MOST_VALUES // (positions * config.d_sae)))
    found = labelled_splits(run.dataset, most=most)
    if found is None:
        return {}
    ks = [k for k in KS if k <= config.d_sae]
    run.display.stop()  # rich before 14 allows one live display at a time
    with busy(run.display.console, "probing the codes"):
        members = members_of(params, run.n_seeds)
        scores = np.array([probe_scores(config, member, found, ks) for member in members]).T
    commonest = np.bincount(found.test.label).max() / len(found.test.label)
    anywhere = ", largest over positions" if positions > 1 else ""
    fitted = f"logistic regression on the codes of {len(found.train.label):,} training images{anywhere}"
    rows = {
        "SAE probe": row(
            scores[0], "share of test images", f"{fitted}; commonest class {commonest:.3g}{noise(scores[0])}"
        )
    }
    for k, values in zip(ks, scores[1:], strict=True):
        note = f"mean of {found.n_classes} classes, the best for each; chance 0.5{noise(values)}"
        rows[f"SAE probe, {k} unit{'s' * (k > 1)}"] = row(values, "balanced accuracy", note)
    return rows


def noise(values: NDArray[np.float64]) -> str:
    """How much a score differs between seeds, in words."""
    return f"; reseed noise {values.std(ddof=1):.2g} (standard deviation)" if len(values) > 1 else ""


def mean_over_spread(inputs: NDArray[Any]) -> float:
    """``||mean|| / sqrt(sum of variances)`` of ``(n, d_in)``; infinite where nothing varies."""
    x = np.asarray(inputs, np.float64)
    spread = math.sqrt(x.var(axis=0).sum())
    return float(np.linalg.norm(x.mean(axis=0))) / spread if spread else math.inf


def input_row(run: Run, config: SAEConfig) -> dict[str, dict[str, Any]]:
    """How large the mean of the encoder's inputs is beside what varies: much of it goes with dead units."""
    cut: Callable[[jax.Array], jax.Array] = autoencoder(config, image_shape=run.dataset.image_shape).inputs
    inputs = np.asarray(jax.jit(cut)(any_to_unit_float(run.some_images(LIKENED))))
    ratio = mean_over_spread(inputs.reshape(-1, inputs.shape[-1]))
    centred = "" if config.pre_bias == "none" else f", before the pre-bias ({config.pre_bias}) is taken off"
    note = f"of the inputs as they are{centred}; above 1 most of each is their mean, and more units die"
    return {"||mean|| / ||std||": row(ratio, "ratio", note)}


def image_rows(run: Run, config: SAEConfig, params: Any) -> dict[str, dict[str, Any]]:
    """The closing table of an autoencoder of images: its scores, what its inputs are like, and what its codes say of labels."""
    return sae_rows(run, config, params) | input_row(run, config) | probe_rows(run, config, params)
