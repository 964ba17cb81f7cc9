"""The feature network in which generators are scored: trained here once per data set, cached, and named by its hash.

A Frechet distance is only comparable within one feature network, so every number printed from here goes with
`FeatureNetwork.hash`. The network is a classifier of the data's own domain; it never shares weights with a model it
scores.
"""

import dataclasses
import functools
import hashlib
import json
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from saegan_jax.algorithms.base import Examples
from saegan_jax.algorithms.classifier import ClassifierConfig, classifier
from saegan_jax.data.dataset import share
from saegan_jax.images import to_unit_float
from saegan_jax.metrics.frechet import class_balance_kl, frechet_distance
from saegan_jax.metrics.kernel import kernel_distance
from saegan_jax.metrics.neighbours import Memorisation, compare_distances, nearest_distances, neighbour_metrics
from saegan_jax.training.files import write_bytes, write_json
from saegan_jax.training.transforms import compile_chunk, many_steps

if TYPE_CHECKING:
    from saegan_jax.data import Dataset

CACHE_VARIABLE = "SAEGAN_JAX_CACHE"
_PREDICT_BATCH = 1000
# Comparing all pairs of points takes time with the square of their number; these keep a floor under half a minute.
_NEIGHBOURS = 5
_PAIRED = 10_000
_PAIRED_SETS = 10
_PAIRED_TRAINING = 100_000


@dataclasses.dataclass(frozen=True)
class FeatureRecipe:
    """How a feature network is trained; part of the name of its cache file.

    Attributes:
      epochs: passes over the training split.
      batch_size: examples per step.
      width: channels of the first convolution.
      feature_dim: number of features.
      learning_rate: AdamW's peak learning rate.
      weight_decay: AdamW's weight decay.
      dropout: fraction of convolutional activations dropped.
      max_shift: largest random shift of a training image, in pixels.
    """

    epochs: int
    batch_size: int
    width: int = 32
    feature_dim: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    dropout: float = 0.5
    max_shift: int = 2

    @classmethod
    def for_image(cls, image_shape: tuple[int, ...]) -> "FeatureRecipe":
        """The recipe tuned on the validation splits of digits (sides up to 16) and MNIST (above)."""
        if max(image_shape[:2]) <= 16:
            # Few held-out images: few features, or the sampling bias of their covariance hides what differs.
            return cls(epochs=100, batch_size=64, feature_dim=32, learning_rate=6e-3, dropout=0.3, max_shift=1)
        return cls(epochs=10, batch_size=128)


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A trained classifier and the scale of its features.

    Attributes:
      config: of the classifier.
      params: its weights.
      mean, std: ``(feature_dim,)`` float32, of the features of the training split.
      accuracy: of the classifier on the test split.
      hash: SHA-256 of the weights file, hexadecimal: the name of this feature space.
      file: the weights file, where there is one.
    """

    config: ClassifierConfig
    params: Any
    mean: np.ndarray
    std: np.ndarray
    accuracy: float
    hash: str
    file: Path | None = None

    def run(self, images: np.ndarray | jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """``(logits (n, num_classes), features (n, feature_dim))``, float32, in one pass; see `features`."""
        images = _checked_images(images, self.config.image_shape)
        logits: list[np.ndarray] = []
        features: list[np.ndarray] = []
        predict = _compiled_predict(self.config)
        for start in range(0, len(images), _PREDICT_BATCH):
            part = images[start : start + _PREDICT_BATCH]
            # One compiled shape for any number of images.
            padded = np.pad(part, ((0, _PREDICT_BATCH - len(part)), (0, 0), (0, 0), (0, 0)))
            for outputs, output in zip((logits, features), predict(self.params, padded), strict=True):
                outputs.append(np.asarray(output)[: len(part)])
        return np.concatenate(logits), (np.concatenate(features) - self.mean) / self.std

    def features(self, images: np.ndarray | jax.Array) -> np.ndarray:
        """Features ``(n, feature_dim)`` float32 of ``images (n, height, width, channels)``, uint8 or float in [0, 1].

        Each feature has mean 0 and variance 1 over the training split.

        Raises:
          ValueError: on another shape or dtype, no images, non-finite values, or floats outside [0, 1].
        """
        return self.run(images)[1]

    def predict_labels(self, images: np.ndarray | jax.Array) -> np.ndarray:
        """Predicted classes, ``(n,)`` int32; images and errors as in `features`."""
        return self.run(images)[0].argmax(axis=1).astype(np.int32)


# Compiled once per configuration: networks of other seeds or data reuse it.
@functools.lru_cache(maxsize=8)
def _compiled_predict(config: ClassifierConfig) -> Any:
    predict: Any = classifier(config).predict
    return jax.jit(lambda params, x: predict(params, to_unit_float(x) if x.dtype == jnp.uint8 else x))


@functools.lru_cache(maxsize=8)
def _compiled_training(config: ClassifierConfig, length: int, batch_size: int) -> tuple[Any, Any]:
    algorithm = classifier(config)
    return jax.jit(algorithm.init), compile_chunk(many_steps(algorithm.step, length=length, batch_size=batch_size))


def _checked_images(images: np.ndarray | jax.Array, image_shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(images)
    if values.ndim != 4 or values.shape[1:] != tuple(image_shape) or len(values) == 0:
        raise ValueError(f"images must be (n, {', '.join(map(str, image_shape))}) with n >= 1, got {values.shape}.")
    if values.dtype == np.uint8:
        return values
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"images must be uint8 in [0, 255] or floats in [0, 1], got {values.dtype}.")
    # Not `min < 0 or max > 1`: that would let NaN through.
    if not (values.min() >= -1e-3 and values.max() <= 1 + 1e-3):
        raise ValueError(
            f"float images must lie in [0, 1], got values from {values.min()} to {values.max()}: rescale them, and "
            "look for a diverged generator if they are not finite."
        )
    return values.astype(np.float32)


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """``cache_dir``, else the environment variable SAEGAN_JAX_CACHE, else ``~/.cache/saegan_jax``."""
    return Path(cache_dir or os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "saegan_jax").expanduser()


def load_feature_network(
    dataset: "Dataset",
    *,
    seed: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    recipe: FeatureRecipe | None = None,
) -> FeatureNetwork:
    """The feature network of a data set: from the cache, or trained on ``dataset.train`` and then cached.

    Two files, ``<name>-<key>.safetensors`` (weights and feature scale) and ``<name>-<key>.json`` (settings, hashes of
    the weights and of the data, test accuracy, versions), where the key is made from the data, the recipe and the seed.
    A damaged pair is named in a warning and trained again.

    Args:
      dataset: its training split is fitted, its test split only gives the accuracy that is reported.
      seed: of initialisation, order, dropout and shifts; training is deterministic on one machine.
      cache_dir: see `cache_folder`.
      recipe: `FeatureRecipe.for_image` by default.

    Raises:
      ValueError: if a training split is smaller than one batch, or the recipe cannot work.
      OSError: if the cache folder cannot be written.
    """
    image_shape = dataset.image_shape
    recipe = recipe or FeatureRecipe.for_image(image_shape)
    identity = {
        "dataset": dataset.name,
        "data_sha256": _data_hash(dataset),
        "num_classes": int(dataset.num_classes),
        "image_shape": list(image_shape),
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "format": 2,  # 2: another order of the training images
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]
    stem = cache_folder(cache_dir) / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', dataset.name)}-{key}"
    weights_path, record_path = stem.with_name(f"{stem.name}.safetensors"), stem.with_name(f"{stem.name}.json")
    config = _classifier_config(dataset, image_shape, recipe)

    if weights_path.exists() and record_path.exists():
        try:
            found = _open(config, identity, weights_path.read_bytes(), json.loads(record_path.read_text()))
            return dataclasses.replace(found, file=weights_path)
        except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            warnings.warn(f"the cached feature network {weights_path} is damaged ({error}): retraining.", stacklevel=2)
    # Before minutes of training, not after.
    weights_path.parent.mkdir(parents=True, exist_ok=True)
    weights = _train(dataset, config, recipe, seed)
    accuracy = float(np.mean(_open_weights(config, weights).predict_labels(dataset.test.image) == dataset.test.label))
    record = identity | {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "test_accuracy": accuracy,
        "versions": {"jax": jax.__version__, "flax": flax.__version__, "optax": optax.__version__},
    }
    write_bytes(weights_path, weights)
    write_json(record_path, record)
    return dataclasses.replace(_open(config, identity, weights, record), file=weights_path)


def _data_hash(dataset: "Dataset") -> str:
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for array in (np.asarray(split.image), np.asarray(split.label)):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _classifier_config(dataset: "Dataset", image_shape: tuple[int, ...], recipe: FeatureRecipe) -> ClassifierConfig:
    steps = len(dataset.train.image) // recipe.batch_size
    if steps == 0:
        raise ValueError(
            f"the training split of {dataset.name} has {len(dataset.train.image)} images, fewer than one batch of "
            f"{recipe.batch_size}: pass a FeatureRecipe with a smaller batch_size."
        )
    options = dataclasses.asdict(recipe)
    epochs = options.pop("epochs")
    del options["batch_size"]
    height, width, channels = image_shape
    return ClassifierConfig(
        image_shape=(height, width, channels),
        num_classes=int(dataset.num_classes),
        total_steps=epochs * steps,
        **options,
    )


def _train(dataset: "Dataset", config: ClassifierConfig, recipe: FeatureRecipe, seed: int) -> bytes:
    """Trains, measures the scale of the features over the training split, and returns the weights file."""
    init, chunk = _compiled_training(config, config.total_steps // recipe.epochs, recipe.batch_size)
    data = Examples(jnp.asarray(dataset.train.image), jnp.asarray(dataset.train.label))
    state = init(jax.random.key(seed))
    for _ in range(recipe.epochs):
        state, _ = chunk(state, data)
    params = jax.tree.map(np.asarray, state.params)
    unit = np.ones(config.feature_dim, np.float32)
    features = FeatureNetwork(config, params, 0 * unit, unit, 0.0, "").features(dataset.train.image).astype(np.float64)
    std = features.std(axis=0)
    tensors = {
        **{f"params/{name}": leaf for name, leaf in flatten_dict(params, sep="/").items()},
        "feature_mean": features.mean(axis=0).astype(np.float32),
        "feature_std": np.where(std > 1e-6, std, 1).astype(np.float32),
    }
    return safetensors.numpy.save(tensors)


def _open_weights(config: ClassifierConfig, weights: bytes, accuracy: float = 0.0) -> FeatureNetwork:
    tensors = safetensors.numpy.load(weights)
    mean, std = tensors.pop("feature_mean"), tensors.pop("feature_std")
    params = unflatten_dict({name.removeprefix("params/"): leaf for name, leaf in tensors.items()}, sep="/")
    return FeatureNetwork(config, params, mean, std, accuracy, hashlib.sha256(weights).hexdigest())


def _open(config: ClassifierConfig, identity: dict[str, Any], weights: bytes, record: dict[str, Any]) -> FeatureNetwork:
    digest = hashlib.sha256(weights).hexdigest()
    if record["weights_sha256"] != digest:
        raise ValueError(f"its SHA-256 is {digest}, recorded is {record['weights_sha256']}")
    if {name: record[name] for name in identity} != identity:
        raise ValueError("its record describes other data or settings")
    return _open_weights(config, weights, float(record["test_accuracy"]))


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
      ``frechet`` and ``floor`` (squared standardised feature units), ``ratio``, ``samples`` (``n``), ``floor_sets`` (sets
      averaged), ``class_balance_kl`` (nats, predicted classes of the samples against the class frequencies of the
      training split), ``class_balance_kl_floor`` (the same for the sets of training images), ``reference``, and
      ``feature_hash``; with ``pairs`` also ``kernel`` (kernel units, of either sign), ``precision``, ``recall``,
      ``density``, ``coverage`` and ``memorisation`` (the probability: above its floor is copying), and each with
      ``_floor``.

    Raises:
      ValueError: on images as in `FeatureNetwork.features`, fewer than 2 (with ``pairs`` 6, in the reference too), or
        another reference.
    """
    if reference not in ("test", "validation"):
        raise ValueError(f"reference = {reference!r}: choose 'validation' while tuning, 'test' for the final number.")
    fake = _checked_images(fake_images, network.config.image_shape)
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
        "ratio": frechet / floor,
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
    """`class_balance_kl` of predicted ``labels (n,)`` against the class frequencies of the training split, in nats."""
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
