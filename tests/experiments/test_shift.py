"""Shifted and synthetic data, and the scripts that measure on them."""

import json

import jax
import numpy as np
import pytest
from command_line import command
from helpers import uint8_data
from PIL import Image

from saegan_jax.data.shifts import enlarged, inverted, noisy, rotated
from saegan_jax.data.synthetic import draw_mixture, sparse_mixture
from saegan_jax.errors import ConfigError
from saegan_jax.evaluation.shift import UNSEEN, ShiftScores
from saegan_jax.report import frontier, shift_curves
from saegan_jax.report.shift import rows_of

IMAGES = np.asarray(uint8_data(6, (5, 5, 1)).image)


def test_shifts_of_images():
    np.testing.assert_array_equal(rotated(IMAGES, 90), np.rot90(IMAGES, 1, axes=(1, 2)))
    np.testing.assert_array_equal(rotated(IMAGES, 0), IMAGES)
    corner = np.zeros((1, 5, 5, 1), np.uint8)
    corner[0, 0, 0] = 255
    assert rotated(corner, 45).sum() < 255 / 4  # turned out of the picture, but for its edge
    np.testing.assert_array_equal(inverted(inverted(IMAGES)), IMAGES)
    assert inverted(IMAGES)[0, 0, 0, 0] == 255 - IMAGES[0, 0, 0, 0]
    grey = np.full((50, 20, 20, 1), 128, np.uint8)
    noise = noisy(grey, 0.1, seed=0).astype(float) - 128
    assert abs(noise.std() / 25.5 - 1) < 0.02
    assert abs(noise.mean()) < 1
    np.testing.assert_array_equal(noisy(grey, 0.1, seed=0), noisy(grey, 0.1, seed=0))
    assert (noisy(grey, 0.1, seed=1) != noisy(grey, 0.1, seed=0)).any()
    assert noisy(IMAGES, 2.0, seed=0).min() == 0  # clipped, not wrapped around
    large = enlarged(IMAGES, size=14, margin=2)
    assert large.shape == (6, 14, 14, 1)
    assert large[:, :2].max() == large[:, :, -2:].max() == 0
    np.testing.assert_array_equal(large[:, [2, 2, -3, -3], [2, -3, 2, -3]], IMAGES[:, [0, 0, -1, -1], [0, -1, 0, -1]])
    for made in (rotated(IMAGES, 10), noisy(IMAGES, 0.1, seed=0), inverted(IMAGES), large):
        assert made.dtype == np.uint8


def test_sparse_mixtures():
    mixture = sparse_mixture(jax.random.key(0), n_atoms=12, d=5, active=3.0, noise=0.0)
    np.testing.assert_allclose(np.linalg.norm(mixture.atoms, axis=1), 1, rtol=1e-6)
    x, h = jax.jit(lambda key: draw_mixture(mixture, key, 4000))(jax.random.key(1))
    np.testing.assert_allclose(x, h @ mixture.atoms, rtol=1e-4, atol=1e-5)
    on = np.asarray(h) > 0
    assert abs(on.sum(axis=1).mean() - 3) < 0.1
    assert 0.5 <= h[on].min() < 0.52
    assert 1.48 < h[on].max() <= 1.5
    noisier = mixture._replace(noise=0.3)
    y, same = jax.jit(lambda key: draw_mixture(noisier, key, 4000))(jax.random.key(1))
    np.testing.assert_array_equal(same, h)
    assert abs(np.std(y - x) / 0.3 - 1) < 0.03
    for bad in ({"active": 13.0}, {"active": 0.0}, {"active": 1.0, "noise": -1.0}):
        with pytest.raises(ConfigError):
            sparse_mixture(jax.random.key(0), n_atoms=12, d=5, **bad)


def test_rows_of_a_shift_by_hand():
    here = ShiftScores(mse=0.2, fvu=0.1, l0=3.0, density=np.array([0.5, 0.5, 0.0005, 0.0]), accuracy=0.9)
    there = ShiftScores(mse=0.5, fvu=0.4, l0=4.0, density=np.array([0.5, 0.0, 0.3, 0.0]), accuracy=0.6)
    rows = rows_of("model", {"none": [here], "s": [there], UNSEEN: [there]})
    found = {(row["shift"], row["metric"]): row["mean"] for row in rows}
    assert found["s", "reconstruction_ratio"] == pytest.approx(2.5)
    assert found["none", "reconstruction_ratio"] == 1
    assert found["s", "live_overlap"] == pytest.approx(1 / 3)
    assert found["s", "probe_accuracy"] == 0.6
    assert (UNSEEN, "probe_accuracy") not in found
    assert found[UNSEEN, "l0"] == 4


def test_the_shift_script(tmp_path):
    path = tmp_path / "shift.json"
    tiny = ["--sae.steps", "4", "--sae.d-sae", "8", "--sae.k", "2", "--sae.batch-size", "16", "--seeds", "2"]
    outcome = command(
        "shift",
        "--dataset",
        "digits",
        "--hold-out-classes",
        "3",
        "7",
        "--models",
        "topk",
        "dense",
        *tiny,
        "--results",
        path,
    )
    assert outcome.code == 0, outcome.err
    result = json.loads(path.read_text())
    found = {(row["arm"], row["shift"], row["metric"]): row for row in result["rows"]}
    arms = {arm for arm, _, _ in found}
    assert arms == {"topk", "dense", "PCA 2", "PCA 8"}
    for arm in arms:
        assert found[arm, "none", "reconstruction_ratio"]["mean"] == 1
        assert found[arm, "none", "live_overlap"]["mean"] == 1
        assert len(found[arm, "rotated 90", "fvu"]["values"]) == (1 if arm.startswith("PCA") else 2)
    assert found["topk", "noise 0.4", "l0"]["mean"] <= 2
    assert found["PCA 8", "none", "fvu"]["mean"] < found["PCA 2", "none", "fvu"]["mean"] < 1
    assert found["PCA 8", "none", "probe_accuracy"]["mean"] > 0.7
    assert found["PCA 8", "inverted", "reconstruction_ratio"]["mean"] > 2
    assert "PCA 8" in path.with_suffix(".md").read_text()
    assert min(size(path.with_suffix(".png"))) > 300
    for arguments, message in ((["--hold-out-classes", "10"], "hold_out_classes"), (["--results", "x"], "results")):
        refused = command("shift", "--dataset", "digits", *tiny, *arguments)
        assert refused.code == 2
        assert message in refused.err


def test_the_script_of_published_tables_recovers_atoms(tmp_path):
    arguments = [
        "--tables",
        "recovery",
        "--seeds",
        "2",
        "--steps",
        "3",
        "--atoms",
        "16",
        "100",
        "--out",
        tmp_path / "out",
    ]
    outcome = command("paper_tables", *arguments, "--results", tmp_path / "papers.json")
    assert outcome.code == 0, outcome.err
    rows = json.loads((tmp_path / "papers.json").read_text())["rows"]
    cosine = {row["arm"]: row for row in rows if row["metric"] == "mean cosine"}
    assert len(cosine) == 6
    for row in cosine.values():
        assert 0.1 < row["floor"] < 0.5
        # After three steps hardly better than chance, and each seed has atoms of its own.
        assert abs(row["mean"] - row["floor"]) < 0.2
        assert row["values"][0] != row["values"][1]
    again = command("paper_tables", *arguments, "--results", tmp_path / "again.json")
    assert "kept" in again.out
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == rows
    other = command("paper_tables", *arguments, "--seed", "1")
    assert other.code == 2
    assert "other settings" in other.err


def size(path):
    with Image.open(path) as picture:
        return picture.size


def point(arm, metric, mean, low=None, high=None, **more):
    return {"arm": arm, "variant": "v", "metric": metric, "mean": mean, "low": low, "high": high, **more}


def test_pictures_of_results(tmp_path):
    rows = [
        point("v k=1", "l0", 1.0, 0.9, 1.1),
        point("v k=1", "fvu_active", 0.5, 0.4, 0.6),
        point("v k=2", "l0", 2.0),
        point("v k=2", "fvu_active", 0.3),
        point("v failed", "l0", None),
        point("v failed", "fvu_active", None),
    ]
    frontier(rows, tmp_path / "a.png", title="t")
    frontier([*rows, point("v k=1", "probe_accuracy", 0.9)], tmp_path / "b.png")
    faint = [point("v k=1", "fvu", 0.3), point("v k=2", "fvu", 0.2)]
    frontier([*rows, *faint], tmp_path / "faint.png", title="t")
    assert (tmp_path / "faint.png").read_bytes() != (tmp_path / "a.png").read_bytes()  # a dotted line more
    frontier(
        [*rows, *(point(f["arm"], "fvu", g) for f, g in zip(faint, (0.5, 0.3), strict=True))],
        tmp_path / "same.png",
        title="t",
    )
    assert (tmp_path / "same.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    assert size(tmp_path / "b.png")[0] == 2 * size(tmp_path / "a.png")[0]
    with pytest.raises(ValueError, match="nothing to draw"):
        frontier(rows[-2:], tmp_path / "c.png")
    shifted = [point("m", "l0", 3.0, 2.0, 4.0, shift=s) for s in ("none", "noise")]
    shift_curves(shifted, tmp_path / "d.png")
    assert min(size(tmp_path / "d.png")) > 200
    with pytest.raises(ValueError, match="nothing to draw"):
        shift_curves([point("m", "other", 1.0, shift="none")], tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()
