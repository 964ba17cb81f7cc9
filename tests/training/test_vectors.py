"""A stranger's script: an array or a function in, codes, metrics and a file out; the file trains on."""

import jax
import numpy as np
import pytest

from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.data.vector_dataset import vector_dataset
from saegan_jax.data.vectors import open_vectors
from saegan_jax.errors import ConfigError
from saegan_jax.metrics import sae_metrics
from saegan_jax.training import vectors as module
from saegan_jax.training.saved_weights import read_saved
from saegan_jax.training.vectors import train_on_vectors

CONFIG = SAEConfig(variant="topk", d_sae=24, k=2, pre_bias="mean", learning_rate=1e-2, batch_size=64, steps=300)


def mixture(n: int) -> np.ndarray:
    """Two of twelve directions at a time, in an odd place and unit."""
    rng = np.random.default_rng(0)
    atoms = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    on = rng.permuted(np.tile(np.arange(12) < 2, (n, 1)), axis=1)
    return ((on * rng.uniform(0.5, 1.5, on.shape)) @ atoms * 300 + 40).astype(np.float32)


X = mixture(1000)


@pytest.fixture(scope="module")
def trained():
    said = []
    return train_on_vectors(X, CONFIG, progress=lambda step, means: said.append((step, means["l0"]))), said


def test_it_learns_what_there_is_and_says_how_well(trained):
    sae, said = trained
    assert sae.metrics.fvu < 0.1
    assert sae.metrics.l0 == 2
    assert [step for step, _ in said] == [100, 200, 300]
    held_out = X[25::100]
    codes = sae.encode(held_out)
    assert codes.shape == (10, 24)
    found = sae_metrics(held_out, sae.reconstruct(held_out), codes, threshold=0.0)
    assert found.fvu < 0.1  # of the vectors as they are
    assert (codes > 0).sum(axis=1).max() <= 2


def test_the_export_encodes_vectors_as_they_are(trained, tmp_path):
    sae, _ = trained
    sae.export(tmp_path / "sae")
    saved = read_saved(tmp_path / "sae")
    codes = autoencoder(saved.config, image_shape=(1, 1, 12)).encode(saved.params, X[:50].reshape(-1, 1, 1, 12))
    np.testing.assert_allclose(codes, sae.encode(X[:50]), rtol=1e-3, atol=1e-3)


def test_a_function_streams_the_same_training(trained, monkeypatch):
    monkeypatch.setattr(module, "data_budget", lambda: 0)
    found = train_on_vectors(lambda index: X[index], CONFIG, n=1000, d=12)
    for name, value in trained[0].params["params"].items():
        np.testing.assert_allclose(found.params["params"][name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("budget", [10**9, 0])
def test_the_last_chunk_may_be_shorter(monkeypatch, budget):
    """It goes on where the one before ended: chunks of 3 steps and 1 give what one of 4 gives."""
    monkeypatch.setattr(module, "data_budget", lambda: budget)
    config, found = SAEConfig(**{**CONFIG.__dict__, "steps": 4}), {}
    for longest in (100, 3):
        said: list[int] = []
        monkeypatch.setattr(module, "LONGEST_CHUNK", longest)
        sae = train_on_vectors(X[:100], config, progress=lambda step, means, said=said: said.append(step))
        found[longest] = sae.params["params"], said
    assert [found[longest][1] for longest in (100, 3)] == [[4], [3, 4]]
    for name, value in found[100][0].items():
        np.testing.assert_allclose(found[3][0][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_all_rows_are_read_in_blocks(monkeypatch):
    monkeypatch.setattr(module, "LOOKED_THROUGH", 4 * 12 * 7)
    source = vector_dataset(open_vectors(X[:50])).source
    read, asked = type(source).read, []
    monkeypatch.setattr(type(source), "read", lambda self, index: asked.append(len(index)) or read(self, index))
    found = module.examples_of(source)
    assert asked == [7, 7, 7, 7, 7, 5]
    np.testing.assert_array_equal(found.image, read(source, np.arange(40)).image, strict=True)
    assert found.label.shape == (40,)


def test_training_goes_on_from_saved_weights(trained, tmp_path):
    sae, _ = trained
    sae.export(tmp_path)
    config = SAEConfig(**{**CONFIG.__dict__, "steps": 1, "learning_rate": 1e-9})
    again = train_on_vectors(X[:500], config, start_from=tmp_path)
    assert again.normalisation.scale == sae.normalisation.scale
    np.testing.assert_allclose(again.encode(X[:50]), sae.encode(X[:50]), rtol=1e-3, atol=1e-3)
    with pytest.raises(ConfigError, match=r"sae.d_sae = 48"):
        train_on_vectors(X, SAEConfig(**{**CONFIG.__dict__, "d_sae": 48}), start_from=tmp_path)


@pytest.mark.parametrize(
    ("vectors", "config", "message"),
    [
        (X, None, "config = None"),
        (X, SAEConfig(batch_size=801, steps=1), "batch_size = 801 .* 800"),
        (X[:, :0], CONFIG, "rows"),
        (np.where(X > 0, np.nan, X), CONFIG, "not finite"),
        (X, SAEConfig(tied=True, decoder_norm=0.0, variant="l1"), "sae.tied"),
    ],
)
def test_what_cannot_work_is_said_before_training(vectors, config, message, monkeypatch):
    monkeypatch.setattr(jax, "jit", lambda *_, **__: pytest.fail("training began"))
    with pytest.raises(ValueError, match=message):
        train_on_vectors(vectors, config)


def test_vectors_of_another_width(trained):
    with pytest.raises(ValueError, match="rows of width 12"):
        trained[0].encode(X[:, :5])
