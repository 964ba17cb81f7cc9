"""Images without labels: scored in random features, under names that say so."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from saegan_jax.data import Dataset, Split
from saegan_jax.errors import ConfigError
from saegan_jax.evaluation.features import FeatureRecipe, load_feature_network
from saegan_jax.evaluation.sample_quality import check_scorable, sample_quality

RECIPE = FeatureRecipe(epochs=1, batch_size=8, width=4, feature_dim=6)


def images(n: int, seed: int, low: int = 0) -> Split:
    image = np.random.default_rng(seed).integers(low, 256, (n, 8, 8, 1), dtype=np.uint8)
    return Split(image, np.zeros(n, np.int32))


DATA = Dataset("plain", images(60, 0), images(20, 1), images(20, 2), num_classes=1, labelled=False)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Any:
    cache = tmp_path_factory.mktemp("cache")
    found = load_feature_network(DATA, recipe=RECIPE, cache_dir=cache, allow_random=True)
    assert not list(cache.iterdir())  # it is made, not trained
    return found


def test_it_is_named_as_what_it_is(network):
    assert not network.trained
    assert network.title == f"random network {network.hash[:8]}, never trained"
    assert network.suffix == ", random features"
    features = network.features(DATA.train.image)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-4)
    assert load_feature_network(DATA, recipe=RECIPE, allow_random=True).hash == network.hash
    assert load_feature_network(DATA, recipe=RECIPE, seed=1, allow_random=True).hash != network.hash


def test_it_tells_images_of_another_kind_apart(network):
    alike = sample_quality(network, images(20, 3).image, DATA, pairs=False)
    unlike = sample_quality(network, images(20, 3, low=220).image, DATA, pairs=False)
    assert unlike["frechet"] > 1.5 * alike["frechet"]
    assert np.isnan(alike["class_balance_kl"])


def test_who_does_not_say_so_gets_none():
    with pytest.raises(ConfigError, match="its images have no classes"):
        load_feature_network(DATA, recipe=RECIPE)


def test_labels_are_not_asked_for():
    check_scorable(DATA)
    with pytest.raises(ConfigError, match="are of one class"):
        check_scorable(dataclasses.replace(DATA, labelled=True))
    few = dataclasses.replace(DATA, test=Split(DATA.test.image[:5], DATA.test.label[:5]))
    with pytest.raises(ConfigError, match="its test split has 5 images"):
        check_scorable(few)
