"""`saegan invert`: what it writes, and what it says of an image or a run that cannot be inverted."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.registry import build
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.errors import ConfigError
from saegan_jax.runs import invert
from saegan_jax.runs.invert import Invert, run
from saegan_jax.runs.options import TrainGAN
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.runs.restore import Restored


def untrained(system: str, settings) -> Restored:
    """A run of one member as it would be restored at its first step."""
    algorithm = build(settings, image_shape=(8, 8, 1), n_classes=10)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    return Restored(TRAININGS[system], TrainGAN(), settings, (8, 8, 1), algorithm, state, 1, 0, 10)


@pytest.fixture(scope="module")
def gan() -> Restored:
    return untrained("gan", GANConfig(network="mlp", hidden=(16,), d_noise=4))


def test_a_sample_is_found_again(gan, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("saegan_jax.runs.invert.restore_run", lambda *a, **k: gan)
    sample = np.asarray(gan.algorithm.sample(gan.state, jax.random.key(7), 1))[0, ..., 0]
    pixels = np.rint(sample * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "sample.png")
    out = tmp_path / "found.png"
    run(Invert(run=Path("run"), image=str(tmp_path / "sample.png"), starts=3, steps=300, out=out))
    with np.load(out.with_suffix(".npz")) as file, Image.open(out) as picture:
        np.testing.assert_array_equal(file["image"][..., 0], pixels)
        assert (file["images"].shape, file["latent"].shape) == ((3, 8, 8, 1), (3, 4))
        assert (np.diff(file["error"]) >= 0).all()
        assert file["error"][0] < 0.01
        assert np.abs(file["images"][0, ..., 0].astype(int) - pixels).max() <= 4
        assert picture.size == (2 * 58 + 2, 2 * 58 + 2)
    said = capsys.readouterr().out
    assert "root mean square error" in said
    assert "at the nearest start; norm of the latent" in said


def test_latents_are_drawn_under_jit_and_a_start_that_diverges_leaves_the_others(gan, tmp_path, monkeypatch):
    traced, descend = [], invert._descend

    def sample(state, key, n):
        traced.append(isinstance(key, jax.core.Tracer) or isinstance(jax.tree.leaves(state)[0], jax.core.Tracer))
        return gan.algorithm.sample(state, key, n)

    def one_fails(*arguments):
        found, images = descend(*arguments)
        error, errors = found.error.at[0].set(np.nan), found.errors.at[:, 0].set(np.nan)
        return found._replace(error=error, errors=errors), images.at[0].set(np.nan)

    restored = gan._replace(algorithm=gan.algorithm._replace(sample=sample))
    monkeypatch.setattr(invert, "restore_run", lambda *a, **k: restored)
    monkeypatch.setattr(invert, "_descend", one_fails)
    out = tmp_path / "found.png"
    run(Invert(run=Path("run"), image="test:1", starts=3, steps=2, out=out))
    assert all(traced)  # nothing of the layers in between is kept
    with np.load(out.with_suffix(".npz")) as file:
        assert np.isnan(file["error"]).tolist() == [False, False, True]


def test_what_cannot_be_inverted_is_one_paragraph(gan, tmp_path, monkeypatch):
    restored = gan
    monkeypatch.setattr("saegan_jax.runs.invert.restore_run", lambda *a, **k: restored)
    out = tmp_path / "a.png"
    with pytest.raises(ConfigError, match=r"image = .*there is no such image"):
        run(Invert(run=Path("run"), image="none.png", out=out))
    with pytest.raises(ConfigError, match=r"image = 'test:9999' .*has the test images 0 to"):
        run(Invert(run=Path("run"), image="test:9999", out=out))
    with pytest.raises(ConfigError, match=r"out = .*ends in \.png"):
        run(Invert(run=Path("run"), image="test:1", out=tmp_path / "a.jpg"))
    restored = untrained("sae", SAEConfig(d_sae=4))
    with pytest.raises(ConfigError, match=r"run = .*no generator that draws images of a latent"):
        run(Invert(run=Path("run"), image="test:1", out=out))
    assert list(tmp_path.iterdir()) == []
