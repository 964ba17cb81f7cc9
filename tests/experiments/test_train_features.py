"""The script that trains feature networks: what it prints is what scoring uses, and it trains only once."""

import functools
import hashlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from command_line import command

from saegan_jax import data
from saegan_jax.evaluation import features
from saegan_jax.evaluation.features import FeatureRecipe, load_feature_network

TINY = FeatureRecipe(epochs=1, batch_size=128, width=4, feature_dim=8, max_shift=1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "load_feature_network", functools.partial(load_feature_network, recipe=TINY))


def printed(out: str) -> dict[str, str]:
    return {line[:17].strip(): line[18:].strip() for line in out.splitlines()}


@pytest.mark.usefixtures("quick")
def test_it_prints_what_scoring_will_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = command("train_features", "--cache-dir", tmp_path)
    assert (first.code, first.err) == (0, "")
    found = printed(first.out)
    digits = data.load("digits")
    monkeypatch.setattr(features, "_train", lambda *_: pytest.fail("trained again"))
    network = load_feature_network(digits, cache_dir=tmp_path, recipe=TINY)
    (weights,) = tmp_path.glob("*.safetensors")
    assert found["data set"] == "digits, seed 0"
    assert found["file"] == str(weights)
    assert found["hash"] == network.hash == hashlib.sha256(weights.read_bytes()).hexdigest()
    right = network.predict_labels(digits.test.image) == digits.test.label
    assert found["test accuracy"] == f"{right.mean():.4f} on {len(right)} images"
    assert found["features"] == "8"
    sizes = {name: tensor.size for name, tensor in safetensors.numpy.load(weights.read_bytes()).items()}
    scale = sizes.pop("feature_mean") + sizes.pop("feature_std")
    assert scale == 16
    assert int(found["parameters"].replace(",", "")) == sum(sizes.values())
    condition = np.linalg.cond(np.cov(network.features(digits.test.image).T.astype(np.float64)))
    assert float(found["condition number"]) == pytest.approx(condition, rel=0.01)
    assert command("train_features", "--cache-dir", tmp_path) == first


@pytest.mark.usefixtures("quick")
def test_seed_and_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(features.CACHE_VARIABLE, str(tmp_path / "cache"))
    hashes = {printed(command("train_features", "--seed", seed).out)["hash"] for seed in (0, 1)}
    assert len(hashes) == 2
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2


def test_a_constant_feature_makes_the_condition_number_infinite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_feature_network(data.load("digits"), cache_dir=tmp_path, recipe=TINY)
    for column in (0.3, network.features(data.load("digits").test.image)[:, 1]):

        def degenerate(images: np.ndarray, column: object = column) -> np.ndarray:
            values = features.FeatureNetwork.run(network, images)[1].copy()
            values[:, 0] = column
            return values

        object.__setattr__(network, "features", degenerate)
        monkeypatch.setattr(features, "load_feature_network", lambda *_, **__: network)
        assert printed(command("train_features").out)["condition number"] == "inf"


def test_what_cannot_work_is_told_in_one_paragraph(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments, named in (
        (["--seed", -1], "seed"),
        (["--dataset", "no_such_set", "--data-dir", tmp_path], "no_such_set"),
        (["--cache-dir", tmp_path / "file"], "file"),
    ):
        outcome = command("train_features", *arguments)
        assert outcome.code == 2
        assert named in outcome.err
        assert "Traceback" not in outcome.err
        assert outcome.out == ""
