"""Runs on a user's own data: what they write, and what goes on from what."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import command, score_quickly, tiny
from PIL import Image

from saegan_jax.training.saved_weights import read_saved


def test_a_run_on_vectors_is_exported_for_vectors_as_they_are_and_trained_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(2, 50, (200, 6)).astype(np.float32)
    np.save("x.npy", x)
    dataset = ["--dataset", "vectors:x.npy"]
    topk = ["--sae.variant", "topk", "--sae.k", 2, "--data-on", "host"]
    first = command("train_sae", *tiny("train_sae", "--out", "run", *dataset, *topk))
    assert first.code == 0, first.err
    assert "200 vectors of width 6" in first.out
    rows = json.loads(Path("run/summary.json").read_text())["rows"]
    assert {"SAE FVU", "SAE L0", "SAE dead units", "||mean|| / ||std||"} <= rows.keys()
    stored = json.loads(Path("run/data.json").read_text())
    assert len(stored["splits"]["test"]) == 20
    assert not Path("run/dictionary.png").exists()
    assert command("export_sae", "--run", "run", "--out", "saved").code == 0
    saved = read_saved("saved")
    assert saved.normalisation is not None
    assert saved.normalisation.scale == stored["normalisation"]["scale"]

    again = command("train_sae", *tiny("train_sae", "--out", "next", *dataset, "--from", "saved"))
    assert again.code == 0, again.err
    options = json.loads(Path("next/config.json").read_text())["options"]
    assert (options["sae"]["variant"], options["sae"]["k"]) == ("topk", 2)
    np.save("x.npy", 2 * x)
    changed = command("train_sae", *tiny("train_sae", "--out", "run", *dataset, *topk, "--resume"))
    assert "another configuration (data.sha256" in changed.err
    Path("run/data.json").unlink()
    assert "its data.json" in command("export_sae", "--run", "run", "--out", "none").err


def test_a_gan_of_images_without_classes_is_scored_in_random_features(tmp_path, monkeypatch):
    score_quickly(monkeypatch, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    Path("own").mkdir()
    rng = np.random.default_rng(0)
    for i in range(80):
        Image.fromarray(rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)).save(f"own/{i}.png")
    Path("own/bad.png").write_bytes(b"no image")
    found = command("train_gan", *tiny("train_gan", "--out", "run", "--dataset", "folder:own", "--evaluate"))
    assert found.code == 0, found.err
    assert "80 images of 8x8, RGBA, without classes." in found.out
    rows = json.loads(Path("run/summary.json").read_text())["rows"]
    assert "Frechet distance, random features" in rows
    assert rows["Frechet / floor, random features"]["note"].startswith("random network ")
    assert not {"Frechet distance", "class balance KL", "class balance KL, random features"} & rows.keys()
    metrics = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert any("frechet_random_features" in row for row in metrics)
    assert not any("frechet" in row for row in metrics)
    data = json.loads(Path("run/data.json").read_text())
    assert {name: len(files) for name, files in data["splits"].items()} == {"train": 65, "test": 8, "validation": 7}
    assert data["skipped"] == {"train": [["bad.png", "it is no image that Pillow can read"]]}
    assert json.loads(Path("run/config.json").read_text())["image_shape"] == [8, 8, 4]
    picture = np.asarray(Image.open(max(Path("run/samples").iterdir())))
    assert picture.shape[-1] == 3


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_of_a_run_are_those_asked_for(channels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (10, 12), (20 * i, 0, 99)).save(tmp_path / "own" / name / f"{i}.png")
    given = ["--dataset", "folder:own", "--image-size", 8, "--channels", channels, "--sae.steps", 5, "--save-every", 5]
    found = command(
        "train_sae", *tiny("train_sae", "--out", "run", *given, "--sae.batch-size", 4, "--picture-every", 5)
    )
    assert found.code == 0, found.err
    assert "resized, and cropped about the centre" in found.out
    assert json.loads(Path("run/config.json").read_text())["image_shape"] == [8, 8, channels]
    assert json.loads(Path("run/config.json").read_text())["num_classes"] == 2
