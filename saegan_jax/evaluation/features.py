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
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from saegan_jax.errors import ConfigError, require
from saegan_jax.files import is_remote, write_bytes, write_json
from saegan_jax.images import to_unit_float
from saegan_jax.training.transforms import compile_chunk, many_steps

if TYPE_CHECKING:
    from saegan_jax.data import Dataset

CACHE_VARIABLE = "SAEGAN_JAX_CACHE"
_PREDICT_BATCH = 1000


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
      trained: False of the network of images without labels, whose weights are the random initial ones.
    """

    config: ClassifierConfig
    params: Any
    mean: np.ndarray
    std: np.ndarray
    accuracy: float
    hash: str
    file: Path | None = None
    trained: bool = True

    @property
    def title(self) -> str:
        """What it is, as it is said beside numbers."""
        if not self.trained:
            return f"random network {self.hash[:8]}, never trained"
        return f"classifier {self.hash[:8]}, accuracy {self.accuracy:.4f}"

    @property
    def suffix(self) -> str:
        """What the names of its numbers end in: those of random features are no others under the same name."""
        return "" if self.trained else ", random features"

    def run(self, images: np.ndarray | jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """``(logits (n, num_classes), features (n, feature_dim))``, float32, in one pass; see `features`."""
        images = checked_images(images, self.config.image_shape)
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


def checked_images(images: np.ndarray | jax.Array, image_shape: tuple[int, ...]) -> np.ndarray:
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
    folder = Path(cache_dir or os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "saegan_jax").expanduser()
    fix = "the cache is a folder on this machine; name one."
    require(not is_remote(folder), "cache_dir" if cache_dir else CACHE_VARIABLE, str(folder), fix)
    return folder


def load_feature_network(
    dataset: "Dataset",
    *,
    seed: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    recipe: FeatureRecipe | None = None,
    allow_random: bool = False,
) -> FeatureNetwork:
    """The feature network of a data set: from the cache, or trained on ``dataset.train`` and then cached.

    Two files, ``<name>-<key>.safetensors`` (weights and feature scale) and ``<name>-<key>.json`` (settings, hashes of
    the weights and of the data, test accuracy, versions), where the key is made from the data, the recipe and the seed.
    A damaged pair is named in a warning and trained again.

    Of images without labels it is not trained, where ``allow_random`` says that the caller names its numbers accordingly: its
    weights are the random initial ones, a fixed function of the seed, and nothing is cached. Random features tell how alike two
    sets of images are, not how alike they look to people.

    Args:
      dataset: its training split is fitted, its test split only gives the accuracy that is reported.
      seed: of initialisation, order, dropout and shifts; training is deterministic on one machine.
      cache_dir: see `cache_folder`.
      recipe: `FeatureRecipe.for_image` by default.
      allow_random: see above.

    Raises:
      ValueError: if a training split is smaller than one batch, or the recipe cannot work.
      ConfigError: if the cache folder cannot be written, or the images have no labels and ``allow_random`` is off.

    Source: Naeem et al., Reliable fidelity and diversity metrics for generative models, 2020 (random features).
    """
    if not dataset.labelled:
        fix = "its images have no classes, and a classifier of them is needed here; put them into subfolders by class."
        require(allow_random, "dataset", dataset.name, fix)
        return random_network(dataset, seed=seed, recipe=recipe)
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
    _require_writable(weights_path.parent)  # before minutes of training, not after
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


def random_network(dataset: "Dataset", *, seed: int = 0, recipe: FeatureRecipe | None = None) -> FeatureNetwork:
    """The classifier's network with the initial weights of ``seed``, its features scaled over the training split."""
    recipe = recipe or FeatureRecipe.for_image(dataset.image_shape)
    config = ClassifierConfig(
        image_shape=dataset.image_shape,
        num_classes=2,
        total_steps=1,
        width=recipe.width,
        feature_dim=recipe.feature_dim,
        max_shift=0,
    )
    state = jax.jit(classifier(config).init)(jax.random.key(seed))
    weights = _with_scale(config, jax.tree.map(np.asarray, state.params), dataset.train.image)
    return dataclasses.replace(_open_weights(config, weights, float("nan")), trained=False)


def _require_writable(folder: Path) -> None:
    """Make the cache folder.

    Raises:
      ConfigError: it cannot be made, or written to.
    """
    fix = (
        f"the feature network is kept there and it cannot be written ({{}}); name another folder by ${CACHE_VARIABLE}."
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError("cache folder", str(folder), fix.format(error.strerror)) from None


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
            f"{recipe.batch_size} of the feature network in which samples are scored: use more images (in Python also a "
            "FeatureRecipe with a smaller batch_size)."
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
    return _with_scale(config, jax.tree.map(np.asarray, state.params), dataset.train.image)


def _with_scale(config: ClassifierConfig, params: Any, images: np.ndarray) -> bytes:
    """The weights file: ``params``, and the mean and standard deviation of their features of ``images``."""
    unit = np.ones(config.feature_dim, np.float32)
    features = FeatureNetwork(config, params, 0 * unit, unit, 0.0, "").features(images).astype(np.float64)
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
