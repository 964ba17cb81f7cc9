"""The script that compares samplers of sparse codes: trained here or read from a run, with and without a generator."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from command_line import QUICK_TO_COMPILE, command, tiny
from PIL import Image

from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.data import load
from saegan_jax.evaluation.features import FeatureRecipe, load_feature_network
from saegan_jax.evaluation.prior_gap import Drawer, Subject, ordered
from saegan_jax.metrics import two_sample_accuracy
from saegan_jax.priors import SAMPLERS, BootstrapPrior

TINY = [
    "--sae.steps",
    "20",
    "--sae.d-sae",
    "8",
    "--sae.batch-size",
    "16",
    "--sae.k",
    "2",
    "--n-clusters",
    "2",
    "--draws",
    "1",
]


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path_factory):
    """Few steps of both classifiers, whose own tests are elsewhere."""
    few = functools.partial(two_sample_accuracy, folds=2, epochs=1, hidden=(8,))
    monkeypatch.setattr("saegan_jax.evaluation.prior_gap.two_sample_accuracy", few)
    cache = tmp_path_factory.getbasetemp() / "prior_gap"
    recipe = FeatureRecipe(epochs=1, batch_size=256, width=4)
    network = functools.partial(load_feature_network, cache_dir=cache, recipe=recipe)
    monkeypatch.setattr("saegan_jax.evaluation.features.load_feature_network", network)


def gaps(path):
    rows = json.loads(path.read_text())["rows"]
    return {(row["arm"], row["metric"]): row for row in rows}


def size(path):
    with Image.open(path) as picture:
        return picture.size


def test_the_script_trains_and_compares(tmp_path):
    path = tmp_path / "gap.json"
    outcome = command("prior_gap", "--sae.variant", "topk", *TINY, "--seeds", "2", "--results", path)
    assert outcome.code == 0, outcome.err
    found = gaps(path)
    assert [arm for arm, metric in found if metric == "l0"] == [*(s for s in SAMPLERS if s != "bootstrap"), "bootstrap"]
    for sampler in SAMPLERS:
        own = {metric: row for (arm, metric), row in found.items() if arm == sampler}
        assert all(len(row["values"]) == 2 and np.isfinite(row["values"]).all() for row in own.values())
        gap = np.subtract(own["frechet"]["values"], found["bootstrap", "frechet"]["values"])
        np.testing.assert_allclose(own["prior_gap"]["values"], gap)
        assert own["frechet"]["mean"] > own["frechet"]["floor"] > 0
        assert 0.4 < own["two_sample"]["mean"] <= 1
        assert own["l0"]["mean"] == pytest.approx(own["l0"]["floor"], abs=0.3)
    # TopK codes have two active units each, and independent units do not know.
    assert found["bootstrap", "l0_distance"]["mean"] < 0.1 < found["factorised", "l0_distance"]["mean"]
    assert found["factorised", "co_activation"]["mean"] > 2 * found["bootstrap", "co_activation"]["mean"]
    table = path.with_suffix(".md").read_text()
    assert "| real codes |" in table
    assert "| factorised |" in table
    width, height = size(path.with_suffix(".png"))
    assert width / 16 == pytest.approx(height / 6, rel=0.01)  # 16 columns; test images and five samplers


def test_the_script_reads_a_run_and_feeds_its_generator(tmp_path):
    folder, path = tmp_path / "run", tmp_path / "gap.json"
    trained = command(
        "train_saegan", *tiny("train_saegan", "--out", folder, "--discriminator", "pixels", *QUICK_TO_COMPILE)
    )
    assert trained.code == 0, trained.err
    arguments = ["--run", folder, "--samplers", "factorised", "--draws", "1", "--results", path]
    outcome = command("prior_gap", *arguments)
    assert outcome.code == 0, outcome.err
    found = gaps(path)
    assert {arm for arm, _ in found} == {"factorised", "bootstrap"}
    assert found["factorised", "generator_gap"]["mean"] == pytest.approx(
        found["factorised", "generator_frechet"]["mean"] - found["bootstrap", "generator_frechet"]["mean"]
    )
    assert found["factorised", "generator_frechet"]["mean"] != found["bootstrap", "generator_frechet"]["mean"]
    assert size(tmp_path / "gap-generator.png") == size(tmp_path / "gap.png")
    assert json.loads(path.read_text())["config"]["d_sae"] == 8  # the run's, not the preset's


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "gap.txt"], "results = 'gap.txt'"),
        (["--draws", "0"], "draws = 0"),
        (["--n-clusters", "0"], "n_clusters = 0"),
        (["--sae.patch-size", "4"], "sae.patch_size = 4"),
        (["--run", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_named_and_nothing_is_written(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    outcome = command("prior_gap", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_the_bootstrap_comes_last_whatever_was_asked_for():
    assert ordered(("bootstrap", "copula")) == ("copula", "bootstrap")
    assert ordered(("clusters", "factorised")) == ("factorised", "clusters", "bootstrap")


def test_codes_for_the_classifier_do_not_repeat_and_images_are_whole():
    dataset = load("digits")
    dataset = dataclasses.replace(dataset, test=type(dataset.test)(*(part[:30] for part in dataset.test)))
    config = SAEConfig(d_sae=4)
    params = sae(config, image_shape=(8, 8, 1)).init(jax.random.key(0)).params
    drawer = Drawer(Subject(dataset, dataset.train, config, [params]))
    codes = np.arange(80, dtype=np.float32).reshape(20, 4) / 80
    prior = BootstrapPrior(codes=codes, count=np.int32(20), scale=np.ones(4, np.float32))
    drawn = drawer.distinct("bootstrap", prior, jax.random.key(0), 8)
    assert drawn.shape == (8, 4)
    assert len({row.tobytes() for row in drawn} & {row.tobytes() for row in codes}) == 8
    assert drawer.codes("bootstrap", prior, jax.random.key(0), 70).shape == (70, 4)
    images = drawer.images(params, np.concatenate([codes, codes, codes]))
    assert images.shape == (60, 8, 8, 1)
    np.testing.assert_allclose(images[:20], images[40:], atol=1e-6)
    assert (images >= 0).all()
    assert (images <= 1).all()
