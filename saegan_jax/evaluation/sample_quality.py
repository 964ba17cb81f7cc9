"""Scores of samples in a feature network, each beside what real data scores."""

import functools
from typing import TYPE_CHECKING, Literal

import jax
import numpy as np

from saegan_jax.data.dataset import share
from saegan_jax.errors import require
from saegan_jax.evaluation.features import FeatureNetwork, FeatureRecipe, checked_images
from saegan_jax.metrics.frechet import class_balance_kl, frechet_distance
from saegan_jax.metrics.kernel import kernel_distance
from saegan_jax.metrics.neighbours import Memorisation, compare_distances, nearest_distances, neighbour_metrics

if TYPE_CHECKING:
    from saegan_jax.data import Dataset

# Comparing all pairs of points takes time with the square of their number; these keep a floor under half a minute.
_NEIGHBOURS = 5
_PAIRED = 10_000
_PAIRED_SETS = 10
_PAIRED_TRAINING = 100_000


def check_scorable(dataset: "Dataset") -> None:
    """Refuse data in which samples cannot be scored, before anything is trained.

    Raises:
      ConfigError: labelled training images of one class, or a class with one of them; fewer than the feature network's batch; a
        split of too few images for neighbours, or one whose images are all equal.
    """
    way_out = "samples cannot be scored; add --no-evaluate, or use other images."
    if dataset.labelled:
        _check_classes(dataset, way_out)
    fewest = {
        "train": FeatureRecipe.for_image(dataset.image_shape).batch_size if dataset.labelled else _NEIGHBOURS + 1,
        "validation": _NEIGHBOURS + 1,
        "test": _NEIGHBOURS + 1,
    }
    for split, least in fewest.items():
        image = getattr(dataset, split).image
        few = f"its {split} split has {len(image)} images and scores need {least}: {way_out}"
        require(len(image) >= least, "dataset", dataset.name, few)
        require(
            bool((image != image[:1]).any()),
            "dataset",
            dataset.name,
            f"all images of its {split} split are equal: {way_out}",
        )


def _check_classes(dataset: "Dataset", way_out: str) -> None:
    """Refuse labels that a classifier cannot be trained on."""
    counts = np.bincount(dataset.train.label, minlength=dataset.num_classes)
    one = f"its training images are of one class and the scores' classifier needs two: {way_out}"
    require(int((counts > 0).sum()) > 1, "dataset", dataset.name, one)
    if dataset.classes:
        least = int(counts.argmin())
        few = f"its class {dataset.classes[least]!r} has {counts[least]} training images and needs two: {way_out}"
        require(counts[least] > 1, "dataset", dataset.name, few)


def sample_quality(
    network: FeatureNetwork,
    fake_images: np.ndarray | jax.Array,
    dataset: "Dataset",
    *,
    reference: Literal["test", "validation"] = "test",
    pairs: bool = True,
    fraction: float = 1.0,
) -> dict[str, float | int | str]:
    """How far samples are from held-out real images, beside how far equally many training images are.

    ``ratio = frechet / floor`` with ``frechet = FD(n samples, reference)`` and ``floor`` the mean of ``FD(n training
    images, reference)`` over as many disjoint random sets of the training split as there are. Both distances share the
    reference, which nothing was fitted to, and the sample count, so they carry the same upward bias: a perfect generator,
    or one that repeats its training images, has ratio about 1.

    The floor is not taken between the two held-out splits, because a split stratified by class is nearer than a random
    sample of equal size, which is all a generator can give: on MNIST at 5,000 images the validation split is .12 from
    the test split, random training images .16 +- .01. That the feature network was fitted to the training images does
    not show: trained on 20,000 images, it puts these at .165 and 20,000 others at .156. At that size one sample of real
    images has a ratio between .9 and 1.3, so smaller differences between generators need several seeds.

    Beside it, from all pairs of points, see `kernel_distance`, `neighbour_metrics` (k = 5) and `memorisation`. Of samples
    and reference the first 10,000 are taken each, in a fixed random order, and their floors are means over at most 10 of
    the sets above, so that MNIST's 10,000 samples take 5 seconds a model on one core and the floors 20 once. Copying is
    looked for among the first 100,000 training images in such an order: all of them in MNIST, while of a larger split's
    copies a share goes unseen. Its floor takes each of up to 10,000 training images as a sample, and the *other* training
    images as the training set: what a perfect generator of the training distribution scores. That is not .5 where the
    reference differs from the training split: on MNIST .512 against the test split, other writers' (validation images:
    .520 +- .005), but .493 +- .005 against the validation split. That the network was fitted to the training images
    again does not show.

    Args:
      network: from `load_feature_network`.
      fake_images: ``(n, height, width, channels)``, uint8 or floats in [0, 1], which are rounded to 8 bits first, as
        the real ones are. Use as many as the reference has; beyond the size of the training split the rest is unused.
      dataset: the one of the network.
      reference: "validation" to choose settings by; "test", once, for the number that is reported.
      pairs: False leaves out what is made of all pairs of points, and its time.
      fraction: of the training split that the generator was trained on, as :func:`saegan_jax.data.share` takes it: where
        copying is looked for. Floors of all else are those of the whole split.

    Returns:
      ``frechet`` and ``floor`` (squared standardised feature units), ``ratio`` (NaN for a floor of 0), ``samples`` (``n``),
      ``floor_sets`` (sets
      averaged), ``class_balance_kl`` (nats, predicted classes of the samples against the class frequencies of the
      training split; NaN where there are no classes),
      ``class_balance_kl_floor`` (the same for the sets of training images), ``reference``, and
      ``feature_hash``; with ``pairs`` also ``kernel`` (kernel units, of either sign), ``precision``, ``recall``,
      ``density``, ``coverage`` and ``memorisation`` (the probability: above its floor is copying), and each with
      ``_floor``.

    Raises:
      ValueError: on images as in `FeatureNetwork.features`, fewer than 2 (with ``pairs`` 6, in the reference too), or
        another reference.
    """
    if reference not in ("test", "validation"):
        raise ValueError(f"reference = {reference!r}: choose 'validation' while tuning, 'test' for the final number.")
    fake = checked_images(fake_images, network.config.image_shape)
    if fake.dtype != np.uint8:
        fake = np.rint(np.clip(fake, 0, 1) * 255).astype(np.uint8)
    n = min(len(fake), len(dataset.train.image))
    logits, features = network.run(_permuted(fake)[:n])
    frechet = frechet_distance(_real(network, dataset, reference)[1], features)
    floor, balance_floor, sets = _floor(network, dataset, reference, n)
    paired = _paired_quality(network, dataset, reference, features, fraction) if pairs else {}
    return {
        "frechet": frechet,
        "floor": floor,
        "ratio": frechet / floor if floor > 0 else float("nan"),
        "samples": n,
        "floor_sets": sets,
        "class_balance_kl": class_balance(logits.argmax(axis=1), dataset),
        "class_balance_kl_floor": balance_floor,
        **paired,
        "reference": reference,
        "feature_hash": network.hash,
    }


def _permuted(images: np.ndarray) -> np.ndarray:
    """In a fixed random order: data files and samples may be sorted, by class or by writer."""
    return images[np.random.default_rng(0).permutation(len(images))]


def class_balance(labels: np.ndarray, dataset: "Dataset") -> float:
    """`class_balance_kl` of predicted ``labels (n,)`` against the class frequencies of the training split, in nats.

    NaN where the data have no classes.
    """
    if not dataset.labelled:
        return float("nan")
    frequencies = np.bincount(dataset.train.label, minlength=dataset.num_classes) / len(dataset.train.label)
    return class_balance_kl(labels, num_classes=dataset.num_classes, reference=frequencies)


# A run measures its samples many times against the same real images.
@functools.lru_cache(maxsize=8)
def _real(network: FeatureNetwork, dataset: "Dataset", split: str) -> tuple[np.ndarray, np.ndarray]:
    """Predicted labels and features of a whole split, permuted."""
    logits, features = network.run(_permuted(getattr(dataset, split).image))
    return logits.argmax(axis=1), features


@functools.lru_cache(maxsize=32)
def _floor(network: FeatureNetwork, dataset: "Dataset", reference: str, n: int) -> tuple[float, float, int]:
    (labels, features), (_, target) = _real(network, dataset, "train"), _real(network, dataset, reference)
    sets = [slice(start, start + n) for start in range(0, len(labels) - n + 1, n)]
    distances = [frechet_distance(target, features[part]) for part in sets]
    return float(np.mean(distances)), float(np.mean([class_balance(labels[part], dataset) for part in sets])), len(sets)


def _paired_quality(
    network: FeatureNetwork, dataset: "Dataset", reference: str, fake: np.ndarray, fraction: float
) -> dict[str, float]:
    """The measures made of all pairs of points, beside their floors."""
    fake = fake[:_PAIRED]
    measured = _compare(_real(network, dataset, reference)[1][:_PAIRED], fake)
    training = _training(network, dataset, fraction)
    held_out, copies = _training_distances(network, dataset, reference, fraction)
    measured["memorisation"] = compare_distances(held_out, nearest_distances(training, fake)).probability
    floors = _paired_floor(network, dataset, reference, len(fake)) | {"memorisation": copies.probability}
    return measured | {f"{name}_floor": value for name, value in floors.items()}


def _compare(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    return {"kernel": kernel_distance(real, fake), **neighbour_metrics(real, fake, k=_NEIGHBOURS)._asdict()}


@functools.lru_cache(maxsize=32)
def _paired_floor(network: FeatureNetwork, dataset: "Dataset", reference: str, n: int) -> dict[str, float]:
    features, target = _real(network, dataset, "train")[1], _real(network, dataset, reference)[1][:_PAIRED]
    starts = range(0, len(features) - n + 1, n)[:_PAIRED_SETS]
    sets = [_compare(target, features[start : start + n]) for start in starts]
    return {name: float(np.mean([each[name] for each in sets])) for name in sets[0]}


@functools.lru_cache(maxsize=8)
def _training(network: FeatureNetwork, dataset: "Dataset", fraction: float) -> np.ndarray:
    """Features of the images that a generator was trained on, permuted."""
    if fraction == 1:
        return _real(network, dataset, "train")[1][:_PAIRED_TRAINING]
    return network.features(_permuted(share(dataset.train, fraction).image))[:_PAIRED_TRAINING]


@functools.lru_cache(maxsize=8)
def _training_distances(
    network: FeatureNetwork, dataset: "Dataset", reference: str, fraction: float
) -> tuple[np.ndarray, Memorisation]:
    """Distances of the reference to the training images, and how these, each left out in turn, compare with it."""
    training = _training(network, dataset, fraction)
    held_out = nearest_distances(training, _real(network, dataset, reference)[1][:_PAIRED])
    return held_out, compare_distances(held_out, nearest_distances(training, rows=_PAIRED))
