"""The autoencoders that come with the package: small, whole, and as good as their cards say."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import saegan_jax
from saegan_jax.data import load
from saegan_jax.data.shapes import FACTORS, render
from saegan_jax.errors import ConfigError
from saegan_jax.metrics import sae_metrics
from saegan_jax.training.pretrained import SHIPPED

NAMES = ("digits-topk", "shapes-topk")
MOST_BYTES = 300_000


def held_out(name: str) -> np.ndarray:
    """Test images of the digits, and as many shapes as are drawn in a moment, of the same distribution as its test images."""
    if name.startswith("digits"):
        return load("digits").test.image
    rng = np.random.default_rng(0)
    return render(np.stack([rng.integers(0, n, 200) for n in FACTORS.values()], axis=1).astype(np.int32))


def published(name: str, measure: str) -> float:
    """What the card says."""
    found = re.search(rf"^\| SAE {measure} \| (\S+) \|", (SHIPPED / name / "README.md").read_text(), re.MULTILINE)
    assert found is not None
    return float(found[1])


# The card has three digits; 200 other shapes differ from the 1,000 test images.
@pytest.mark.parametrize(("name", "tolerance"), [("digits-topk", 0.005), ("shapes-topk", 0.1)])
def test_codes_reach_the_published_scores(name, tolerance):
    model = saegan_jax.pretrained(name)
    images = jnp.asarray(held_out(name).astype(np.float32) / 255)
    codes = jax.jit(model.encode)(images)
    x_hat = jax.jit(model.decode)(codes)
    by_image = codes.reshape(len(codes), -1)
    flat, back = (x.reshape(len(x), -1) for x in (images, x_hat))
    scores = sae_metrics(flat, back, by_image, threshold=model.config.active_above)
    assert float(scores.fvu) == pytest.approx(published(name, "FVU"), rel=tolerance)
    assert float(scores.l0) == pytest.approx(published(name, "L0"), rel=tolerance)
    assert float(codes.min()) >= 0
    assert int((codes > 0).sum(axis=-1).max()) == model.config.k


def test_they_are_small_and_each_has_its_card():
    assert sorted(path.name for path in SHIPPED.iterdir()) == sorted(NAMES)
    for name in NAMES:
        files = {path.name for path in (SHIPPED / name).iterdir()}
        assert files == {"README.md", "cfg.json", "sae_weights.safetensors"}
        assert "saegan train sae --dataset" in (SHIPPED / name / "README.md").read_text()
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < MOST_BYTES


@pytest.mark.parametrize("name", ["digits_topk", "", "../shipped"])
def test_another_name_is_refused_with_those_there_are(name):
    with pytest.raises(
        ConfigError, match=rf"name = {name!r} cannot be used: .*choose one of digits-topk, shapes-topk\."
    ):
        saegan_jax.pretrained(name)
