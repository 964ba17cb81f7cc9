"""`saegan data`: what there is, and what a data set holds."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saegan_jax.data import load
from saegan_jax.errors import ConfigError
from saegan_jax.runs.data import DataOptions, parse_options, run


def said(capsys, *words: object) -> str:
    run(parse_options(list(map(str, words))))
    return " ".join(capsys.readouterr().out.split())


def test_the_list_has_what_is_built_in_and_what_is_prepared(tmp_path, capsys):
    (tmp_path / "cats" / "large" / "1.0.0").mkdir(parents=True)
    (tmp_path / "cats" / "large" / "1.0.0" / "dataset_info.json").write_text("{}")
    text = said(capsys, "list", "--data-dir", tmp_path)
    assert "digits 8x8x1, embedded" in text
    assert "cats/large:1.0.0 prepared here" in text
    assert "folder:PATH your own images" in text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("ant", "bee")):
        (tmp_path / "own" / name).mkdir(parents=True)
        for j in range(20):
            Image.fromarray(np.full((6, 8), 100 * i + (j if j else 1), np.uint8)).save(
                tmp_path / "own" / name / f"{j}.png"
            )
    return tmp_path / "own"


def test_a_folder_is_described_and_drawn(folder, capsys):
    out = folder.parent / "picture.png"
    text = said(capsys, "inspect", "--dataset", f"folder:{folder}", "--out", out)
    assert "40 images of 6x8, grey, in 2 classes." in text
    assert "folder:own: 6x8x1, 33 train, 3 validation, 4 test" in text
    assert "ant 17 1 2 bee 16 2 2" in text or "ant 16 2 2 bee 17 1 2" in text
    assert "from 1 to 119 (training images)" in text
    train = load(f"folder:{folder}").train.image
    # In each class 0.png equals 1.png: one pair is in the training images, of the other one image is.
    assert "copies: 1 training images of others, 1 test images of training images" in text
    assert f"mean {train.mean():.1f}, standard deviation {train.std():.1f}, from 1 to 119" in text
    # Two classes by turns, enlarged seven times, six columns.
    picture = np.asarray(Image.open(out))
    assert picture[10, 10] < 100 <= picture[10, 10 + 58]


def test_vectors_are_described(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    x[:, 2] = 0
    np.save(tmp_path / "x.npy", x)
    text = said(capsys, "inspect", "--dataset", f"vectors:{tmp_path / 'x.npy'}")
    assert "200 vectors of width 4 in 1 part; 20 are held out" in text
    assert "coordinates that never vary: 1 of 4" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"action = '' .* saegan data \{list,inspect,prepare\}"),
        (["show"], "action = 'show'"),
    ],
)
def test_what_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        parse_options(words)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": Path("a.jpg")}, r"ends in \.png"),
        ({"image_size": 0}, "image_size = 0"),
        ({"dataset": "vectors:x.npy", "out": Path("a.png")}, r"out = .*a\.png.* these are vectors; leave it out"),
        ({"dataset": "vectors:x.npy", "channels": 3}, "channels = 3 .* these are vectors; leave it out"),
    ],
)
def test_options_that_cannot_be_meant(options, message):
    with pytest.raises(ConfigError, match=message):
        DataOptions(action="inspect", **options)
