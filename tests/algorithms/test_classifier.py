"""The feature classifier: accuracy, determinism, its cache, and the sample quality measured in its features."""

import dataclasses
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax import data
from saegan_jax.algorithms.base import Batch
from saegan_jax.algorithms.classifier import ClassifierConfig, classifier, random_shift
from saegan_jax.evaluation import features
from saegan_jax.evaluation import sample_quality as quality
from saegan_jax.evaluation.features import FeatureNetwork, FeatureRecipe, load_feature_network
from saegan_jax.evaluation.sample_quality import sample_quality
from saegan_jax.metrics import frechet_distance, kernel_distance, memorisation, neighbour_metrics
from saegan_jax.networks.classifiers import Classifier

TINY = FeatureRecipe(epochs=1, batch_size=128, width=4, feature_dim=8, max_shift=1)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="module")
def network(digits: data.Dataset, tmp_path_factory: pytest.TempPathFactory) -> FeatureNetwork:
    return load_feature_network(digits, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (64, 64, 3), (9, 31, 3)])
def test_any_image_size(key: jax.Array, shape: tuple[int, int, int]) -> None:
    net = Classifier(num_classes=5, width=3, feature_dim=7)
    (logits, feats), variables = jax.eval_shape(net.init_with_output, key, jnp.ones((2, *shape)))
    assert (logits.shape, feats.shape) == ((2, 5), (2, 7))
    assert logits.dtype == feats.dtype == jnp.float32
    # The dense layer does not grow with the image.
    assert variables["params"]["features"]["kernel"].shape[0] <= 8 * 8 * 4 * 3


def test_random_shift_moves_whole_pixels_and_covers_the_range(key: jax.Array) -> None:
    images = jnp.zeros((400, 9, 9, 1)).at[:, 4, 4].set(1.0)
    shifted = np.asarray(random_shift(key, images, max_shift=2))[..., 0]
    assert (shifted.sum(axis=(1, 2)) == 1).all()
    assert {(y - 4, x - 4) for _, y, x in np.argwhere(shifted)} == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}
    # What leaves on one side does not come back on the other.
    corner = random_shift(key, jnp.ones((400, 3, 3, 1)), max_shift=2)
    assert {int(s) for s in corner.sum(axis=(1, 2, 3))} == {1, 2, 3, 4, 6, 9}


def test_step_is_pure_and_vmaps_over_seeds() -> None:
    algorithm = classifier(ClassifierConfig((8, 8, 1), 3, total_steps=5, width=4, feature_dim=6))
    batch = Batch(jax.random.uniform(jax.random.key(1), (12, 8, 8, 1)), jnp.arange(12) % 3)
    keys = jax.random.split(jax.random.key(0), 2)
    states = jax.jit(jax.vmap(algorithm.init))(keys)
    many, infos = jax.jit(jax.vmap(algorithm.step, in_axes=(0, None)))(states, batch)
    step = jax.jit(algorithm.step)
    for seed in range(2):
        state, info = step(jax.tree.map(lambda leaf, seed=seed: leaf[seed], states), batch)
        np.testing.assert_allclose(infos.loss[seed], info.loss, rtol=1e-5)
        assert state.step == many.step[seed] == 1
    assert infos.loss[0] != infos.loss[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_classes", 1),
        ("total_steps", 0),
        ("dropout", 1.0),
        ("max_shift", 8),
        ("learning_rate", float("nan")),
        ("num_classes", 3.0),
        ("total_steps", 5.5),
        ("width", 4.0),
        ("feature_dim", True),
        ("max_shift", 1.0),
    ],
)
def test_bad_settings_are_named(field: str, value: float) -> None:
    settings = {"image_shape": (8, 8, 1), "num_classes": 3, "total_steps": 5} | {field: value}
    with pytest.raises(ValueError, match=field):
        ClassifierConfig(**settings)


def test_integer_images_pretrained_and_samples_are_refused() -> None:
    algorithm = classifier(ClassifierConfig((8, 8, 1), 3, total_steps=5, width=4, feature_dim=6))
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    stored = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.uint8)
    with pytest.raises(ValueError, match="but these are uint8"):
        jax.eval_shape(algorithm.step, state, Batch(stored, jax.ShapeDtypeStruct((2,), jnp.int32)))
    assert algorithm.predict is not None
    with pytest.raises(ValueError, match="but these are uint8"):
        jax.eval_shape(algorithm.predict, state.params, stored)
    with pytest.raises(ValueError, match="without pretrained"):
        algorithm.init(jax.random.key(0), {})
    with pytest.raises(ValueError, match="draws no samples"):
        algorithm.sample(state, jax.random.key(0), 1)


def test_digits_accuracy_and_feature_scale(digits: data.Dataset, network: FeatureNetwork) -> None:
    accuracy = np.mean(network.predict_labels(digits.test.image) == digits.test.label)
    assert accuracy == network.accuracy
    assert accuracy >= 0.96
    train = network.features(digits.train.image)
    assert train.shape == (len(digits.train.image), 32)
    np.testing.assert_allclose(train.mean(axis=0, dtype=np.float64), 0, atol=1e-4)
    np.testing.assert_allclose(train.std(axis=0, dtype=np.float64), 1, rtol=1e-4)
    assert np.linalg.cond(np.cov(train.T)) < 1e6


def test_features_do_not_depend_on_dtype_or_batching(digits: data.Dataset, network: FeatureNetwork) -> None:
    images = digits.train.image[:1003]  # two passes, the second padded
    whole = network.features(images)
    np.testing.assert_allclose(network.features(images.astype(np.float32) / 255), whole, atol=1e-4)
    np.testing.assert_allclose(network.features(jnp.asarray(images[1000:])), whole[1000:], atol=1e-4)


def test_bad_images_are_named(network: FeatureNetwork) -> None:
    good = np.zeros((2, 8, 8, 1), np.float32)
    for bad in (good[0], good[:0], good[:, :4], good.astype(int)):
        with pytest.raises(ValueError, match="images must be"):
            network.features(bad)
    for value in (255.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            network.features(good + np.float32(value))


def test_training_is_deterministic_given_the_seed(digits: data.Dataset, tmp_path: Path) -> None:
    a, b, c = (
        load_feature_network(digits, seed=seed, cache_dir=tmp_path / name, recipe=TINY)
        for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    )
    assert a.hash == b.hash
    assert a.hash != c.hash


def test_cache_gives_the_same_network_without_training(
    digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(features.CACHE_VARIABLE, str(tmp_path))
    first = load_feature_network(digits, recipe=TINY)
    assert first.file is not None
    assert first.file.parent == tmp_path
    monkeypatch.setattr(features, "_train", lambda *_: pytest.fail("trained again"))
    again = load_feature_network(digits, recipe=TINY)
    assert (again.hash, again.accuracy, again.config, again.file) == (
        first.hash,
        first.accuracy,
        first.config,
        first.file,
    )
    np.testing.assert_array_equal(again.features(digits.test.image), first.features(digits.test.image))
    (record_path,) = tmp_path.glob("*.json")
    record = json.loads(record_path.read_text())
    assert record["weights_sha256"] == first.hash
    assert record["test_accuracy"] == first.accuracy
    assert record["versions"]["jax"] == jax.__version__
    assert len(list(tmp_path.iterdir())) == 2


def test_other_data_seed_or_recipe_is_another_network(digits: data.Dataset, tmp_path: Path) -> None:
    one_pixel = digits.train.image.copy()
    one_pixel[0, 0, 0, 0] ^= 1
    changed = dataclasses.replace(digits, train=digits.train._replace(image=one_pixel))
    wider = dataclasses.replace(TINY, width=5)
    networks = [
        load_feature_network(digits, cache_dir=tmp_path, recipe=TINY),
        load_feature_network(changed, cache_dir=tmp_path, recipe=TINY),
        load_feature_network(digits, cache_dir=tmp_path, recipe=wider),
        load_feature_network(digits, cache_dir=tmp_path, recipe=TINY, seed=3),
    ]
    assert len({network.hash for network in networks}) == 4
    assert len(list(tmp_path.iterdir())) == 8


def test_damaged_cache_is_named_and_trained_again(
    digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_feature_network(digits, cache_dir=tmp_path, recipe=TINY)
    (weights,), (record,) = tmp_path.glob("*.safetensors"), tmp_path.glob("*.json")
    content, text = weights.read_bytes(), record.read_text()
    fields = json.loads(text)
    damages = {
        "flipped bit": (content[:-5] + bytes([content[-5] ^ 1]) + content[-4:], text),
        "cut weights": (content[:-100], text),
        "cut record": (content, text[:-20]),
        "record without hash": (content, json.dumps({k: v for k, v in fields.items() if k != "weights_sha256"})),
        "record of another seed": (content, json.dumps(fields | {"seed": 5})),
        "record that is no object": (content, "[]"),
    }
    train, calls = features._train, []
    monkeypatch.setattr(features, "_train", lambda *args: calls.append(args) or train(*args))
    for number, (name, (new_content, new_text)) in enumerate(damages.items(), 1):
        weights.write_bytes(new_content)
        record.write_text(new_text)
        with pytest.warns(UserWarning, match=f"{weights.name} is damaged"):
            again = load_feature_network(digits, cache_dir=tmp_path, recipe=TINY)
        assert len(calls) == number, name
        assert again.hash == first.hash, name
        assert (weights.read_bytes(), record.read_text()) == (content, text), name


def test_too_little_data_is_named(digits: data.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        load_feature_network(digits, cache_dir=tmp_path, recipe=FeatureRecipe(epochs=1, batch_size=5000))


def test_floor_is_that_of_disjoint_random_training_sets(digits: data.Dataset, network: FeatureNetwork) -> None:
    order = np.random.default_rng(0).permutation(len(digits.train.image))
    target = network.features(digits.test.image)
    distances = [
        frechet_distance(target, network.features(digits.train.image[order[i : i + 250]])) for i in range(0, 1250, 250)
    ]
    result = sample_quality(network, digits.train.image[order[:250]], digits)
    assert result["floor"] == pytest.approx(np.mean(distances), rel=1e-5)
    # The samples are permuted too, which leaves the distance of a whole set as it is.
    assert result["frechet"] == pytest.approx(distances[0], rel=1e-5)
    assert result["ratio"] == pytest.approx(result["frechet"] / result["floor"])
    assert (result["samples"], result["floor_sets"], result["reference"]) == (250, 5, "test")
    assert result["feature_hash"] == network.hash
    assert 0 < result["class_balance_kl_floor"] < 0.05
    # All training images as samples are the floor's only set: the memorising generator.
    assert sample_quality(network, digits.train.image, digits)["ratio"] == pytest.approx(1)


def test_unseen_real_images_are_near_the_floor_and_broken_samples_are_not(
    digits: data.Dataset, network: FeatureNetwork
) -> None:
    # Validation images are unseen by the classifier, so a floor inflated by its overfitting would put them far below 1.
    assert 0.5 < sample_quality(network, digits.validation.image, digits)["ratio"] < 1.3
    rng = np.random.default_rng(0)
    training = digits.train.image
    noisy = [np.clip(training + rng.normal(0, s, training.shape), 0, 255).astype(np.uint8) for s in (0, 30, 60, 120)]
    ratios = [sample_quality(network, images[:600], digits)["ratio"] for images in noisy]
    assert ratios == sorted(ratios)
    assert ratios[2] > 2 * ratios[0]

    collapsed = sample_quality(network, training[digits.train.label == 3], digits)
    assert collapsed["ratio"] > 3
    assert 1.8 < collapsed["class_balance_kl"] < 2.4  # ln 10, less the few images called another digit


def test_sample_quality_rounds_floats_and_takes_either_reference(digits: data.Dataset, network: FeatureNetwork) -> None:
    images = digits.train.image[:300]
    result = sample_quality(network, images, digits, reference="validation")
    nudged = np.clip(images / 255 + 0.0015, 0, 1)
    assert sample_quality(network, nudged, digits, reference="validation") == result
    target = network.features(digits.validation.image)
    assert result["frechet"] == pytest.approx(frechet_distance(target, network.features(images)), rel=1e-5)
    assert result["reference"] == "validation"
    with pytest.raises(ValueError, match="reference"):
        sample_quality(network, images, digits, reference="train")  # type: ignore[arg-type]


PAIRED = ("kernel", "precision", "recall", "density", "coverage", "memorisation")


def test_measures_of_pairs_are_those_of_the_metrics_beside_floors_of_training_sets(
    digits: data.Dataset, network: FeatureNetwork
) -> None:
    rng = np.random.default_rng(0)
    images = np.clip(digits.train.image[:400] + rng.normal(0, 20, (400, 8, 8, 1)), 0, 255).astype(np.uint8)
    result = sample_quality(network, images, digits)
    target, fake = network.features(digits.test.image), network.features(images)
    order = np.random.default_rng(0).permutation(len(digits.train.image))
    training = network.features(digits.train.image[order])
    sets = [training[i : i + 400] for i in range(0, 1200, 400)]
    assert result["kernel"] == pytest.approx(kernel_distance(target, fake), rel=1e-4)
    floor = np.mean([kernel_distance(target, part) for part in sets])
    assert result["kernel_floor"] == pytest.approx(floor, rel=1e-3)
    # Each a mean of counts: one pair at a boundary may fall the other way where features were computed in other batches.
    expected, floors = neighbour_metrics(target, fake), [neighbour_metrics(target, part) for part in sets]
    for name in ("precision", "recall", "density", "coverage"):
        assert result[name] == pytest.approx(getattr(expected, name), abs=0.006)
        floor = np.mean([getattr(one, name) for one in floors])
        assert result[f"{name}_floor"] == pytest.approx(floor, abs=0.006)
    assert result["memorisation"] == pytest.approx(memorisation(training, target, fake).probability, abs=1e-3)
    # Each training image against the others, by plain distances.
    gap = np.linalg.norm(training[:, None].astype(np.float64) - training[None], axis=2)
    np.fill_diagonal(gap, np.inf)
    held_out = np.linalg.norm(target[:, None].astype(np.float64) - training[None], axis=2).min(1)
    floor = np.mean(gap.min(1)[:, None] < held_out)
    assert result["memorisation_floor"] == pytest.approx(floor, abs=1e-3)


def test_measures_of_pairs_see_copies_noise_and_a_missing_class(digits: data.Dataset, network: FeatureNetwork) -> None:
    training = digits.train.image
    fresh = sample_quality(network, digits.validation.image, digits)
    for name in ("precision", "recall", "density", "coverage"):
        assert fresh[name] == pytest.approx(fresh[f"{name}_floor"], abs=0.12)
    assert fresh["memorisation"] == pytest.approx(fresh["memorisation_floor"], abs=0.1)
    assert 0.4 < fresh["memorisation_floor"] < 0.6
    # Not the first 250: those are of few writers.
    order = np.random.default_rng(1).permutation(len(training))
    copies = sample_quality(network, training[order[:250]], digits)
    assert copies["memorisation"] == 1
    for name in ("kernel", "precision", "recall", "density", "coverage"):
        # What the other measures cannot see.
        assert copies[name] == pytest.approx(copies[f"{name}_floor"], abs=0.12)
    noise = np.random.default_rng(0).normal(0, 90, training[:250].shape)
    noisy = sample_quality(network, np.clip(training[:250] + noise, 0, 255).astype(np.uint8), digits)
    assert noisy["memorisation"] < 0.3
    assert noisy["kernel"] > fresh["kernel"] + 0.1  # 0.21 against -0.03; two sets of real images are within 0.02
    assert noisy["density"] < 0.7 * noisy["density_floor"]
    missing = sample_quality(network, training[digits.train.label < 5][:250], digits)
    assert missing["recall"] < 0.75
    assert missing["coverage"] < 0.65
    assert missing["precision"] > 0.8


def test_pairs_can_be_left_out_and_are_capped(
    digits: data.Dataset, network: FeatureNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = digits.train.image[:90]
    whole = sample_quality(network, images, digits)
    assert set(whole) >= {*PAIRED, *(f"{name}_floor" for name in PAIRED)}
    assert all(np.isfinite(whole[name]) and np.isfinite(whole[f"{name}_floor"]) for name in PAIRED)
    parted = sample_quality(network, images, digits, pairs=False)
    assert parted == {k: v for k, v in whole.items() if k.removesuffix("_floor") not in PAIRED}
    with pytest.raises(ValueError, match="fake_features have 5 rows"):
        sample_quality(network, images[:5], digits)
    assert sample_quality(network, images[:5], digits, pairs=False)["samples"] == 5

    for name, value in (("_PAIRED", 60), ("_PAIRED_SETS", 2), ("_PAIRED_TRAINING", 500)):
        monkeypatch.setattr(quality, name, value)
    calls: list[tuple[str, int, int]] = []

    def counted(name: str) -> None:
        original = getattr(quality, name)

        def measure(a: np.ndarray, b: np.ndarray | None = None, **options: int) -> object:
            calls.append((name, len(a), -1 if b is None else len(b)))
            return original(a, b, **options)

        monkeypatch.setattr(quality, name, measure)

    for name in ("kernel_distance", "neighbour_metrics", "nearest_distances"):
        counted(name)
    other = dataclasses.replace(network)  # none of the caches knows it
    capped = sample_quality(other, images, digits)
    pairs = [(name, 60, 60) for name in ("kernel_distance", "neighbour_metrics")]
    training = [("nearest_distances", 500, size) for size in (60, -1, 60)]
    assert sorted(calls) == sorted([*pairs * 3, *training])  # the samples and two floor sets
    assert capped["frechet"] == whole["frechet"]
    calls.clear()
    assert sample_quality(other, images, digits) == capped
    assert sorted(calls) == sorted([*pairs, ("nearest_distances", 500, 60)])  # floors are remembered


@pytest.mark.slow
@pytest.mark.skipif(
    "SAEGAN_JAX_MANUAL_DIR" not in os.environ, reason="SAEGAN_JAX_MANUAL_DIR names no folder with MNIST"
)
def test_mnist_accuracy(tmp_path: Path) -> None:
    mnist = data.load("mnist", data_dir=tmp_path / "data")
    for seed in (0, 1):  # samples are scored in both
        assert load_feature_network(mnist, seed=seed, cache_dir=tmp_path).accuracy >= 0.99  # 0.9925 each, when tuned
