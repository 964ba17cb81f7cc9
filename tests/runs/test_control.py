"""`saegan sample` of chosen codes: an image's, mixtures, ways between two, and units on and off."""

from pathlib import Path

import numpy as np
import pytest
from command_line import QUICK_TO_COMPILE, command, tiny
from PIL import Image

from saegan_jax.data import load
from saegan_jax.errors import ConfigError
from saegan_jax.runs.control import Controls, file_image, parse_on


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A generator that reads codes, and one that reads none."""
    folder = tmp_path_factory.mktemp("runs")
    topk = ["--sae.variant", "topk", "--sae.k", "3", "--sae.auxk", "0"]
    found = {}
    for name, places in {
        "joint": ["--discriminator", "joint", "--sampler", "learned", "--prior-steps", "20"],
        "plain": ["--generator-input", "gaussian", "--discriminator", "pixels"],
    }.items():
        found[name] = folder / name
        code, _, err = command(
            "train_saegan", *tiny("train_saegan", *QUICK_TO_COMPILE, *topk, *places, "--out", found[name])
        )
        assert code == 0, err
    return found


def sample(runs, tmp_path, *arguments, n=4):
    """What the command wrote: images as floats, and their codes."""
    out = tmp_path / "drawn.png"
    code, _, err = command("sample", "--run", runs["joint"], "--n", n, "--out", out, *arguments)
    assert code == 0, err
    with np.load(out.with_suffix(".npz")) as file, Image.open(out) as picture:
        assert picture.size[0] > 0
        return file["images"], file["code"]


def test_variations_keep_the_code_and_begin_with_the_image(runs, tmp_path):
    images, codes = sample(runs, tmp_path, "--like", "test:5")
    np.testing.assert_array_equal(images[0], load("digits").test.image[5])
    assert codes.shape == (5, 8)
    np.testing.assert_array_equal(codes, np.broadcast_to(codes[:1], codes.shape))
    assert 0 < (codes[0] > 0).sum() <= 3
    assert len(np.unique(images[1:].reshape(4, -1), axis=0)) == 4  # of several noises


def test_an_image_may_be_a_file(runs, tmp_path):
    file = tmp_path / "five.png"
    Image.fromarray(load("digits").test.image[5, ..., 0]).save(file)
    from_file, from_test = (sample(runs, tmp_path, "--like", name)[1] for name in (file, "test:5"))
    np.testing.assert_allclose(from_file, from_test, rtol=1e-6)


def test_units_on_and_off_beside_the_same_codes_and_noise(runs, tmp_path):
    images, codes = sample(runs, tmp_path, "--on", "2=3.5", "--off", "1")
    before, after = codes[:4], codes[4:]
    np.testing.assert_array_equal(after[:, 2], np.full(4, 3.5, np.float32))
    np.testing.assert_array_equal(after[:, 1], np.zeros(4))
    rest = [0, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(after[:, rest], before[:, rest])
    assert (images[:4] != images[4:]).any()


def test_units_alone_have_a_row_each_of_one_noise(runs, tmp_path):
    images, codes = sample(runs, tmp_path, "--only", "2=3.5", "1=1", "2=3.5", n=3)
    alone = np.zeros((2, 8), np.float32)
    alone[0, 2], alone[1, 1] = 3.5, 1
    np.testing.assert_array_equal(codes, alone.repeat(3, axis=0))  # named twice is drawn once
    assert (images[:3] != images[3:]).any()
    np.testing.assert_array_equal(sample(runs, tmp_path, "--only", "1=1", n=3)[0], images[3:])


def test_a_mixture_and_a_way(runs, tmp_path):
    images, codes = sample(runs, tmp_path, "--mix", "test:1", "test:2")
    assert len(images) == 6
    assert (codes[2:] == codes[2]).all()
    assert ((codes[2] == codes[0]) | (codes[2] == codes[1]) | (codes[2] == 0)).all()
    images, codes = sample(runs, tmp_path, "--interpolate", "test:1", "test:2", n=3)
    assert len(images) == 5
    np.testing.assert_array_equal(codes[1], codes[0])
    np.testing.assert_array_equal(codes[3], codes[4])
    np.testing.assert_allclose(codes[2], (codes[0] + codes[4]) / 2, rtol=1e-6)


def test_the_same_command_gives_the_same_bytes(runs, tmp_path):
    first, second = (sample(runs, tmp_path, "--like", "test:0")[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--on", "8"], "on = 8 cannot be used: the codes have the units 0 to 7."),
        (["--off", "9"], "off = 9 cannot be used"),
        (["--on", "x"], "on = 'x' cannot be used: give a unit's number"),
        (["--on", "1", "--off", "1"], "off = [1] cannot be used: these units are turned on as well"),
        (["--like", "none.png"], "like = 'none.png' cannot be used: there is no such image"),
        (
            ["--like", "test:100000"],
            "like = 'test:100000' cannot be used: the data set digits has the test images 0 to",
        ),
        (["--only", "8"], "only = 8 cannot be used: the codes have the units 0 to 7."),
        (["--only", "1=x"], "only = '1=x' cannot be used: give a unit's number, or number=value, as in --only 5"),
        (
            ["--only", "1", "--on", "2"],
            "only = (1,) cannot be used: these units are drawn alone; leave on and off out.",
        ),
        (["--only", "1", "--like", "test:1"], "only one of like, mix, interpolate, only"),
        (["--like", "test:1", "--mix", "test:1", "test:2"], "only one of like, mix, interpolate"),
        (["--like", "test:1", "--label", "3"], "label = 3 cannot be used: codes stand for classes here"),
    ],
)
def test_what_cannot_be_drawn_is_one_paragraph(runs, tmp_path, arguments, message):
    out = tmp_path / "a.png"
    code, said, err = command("sample", "--run", runs["joint"], "--out", out, *arguments)
    assert (code, said) == (2, "")
    assert message in " ".join(err.replace("│", " ").split())  # a message may be in a box
    assert "Traceback" not in err
    assert not out.exists()


def test_an_image_of_another_size_and_a_file_that_is_none(runs, tmp_path):
    Image.fromarray(np.zeros((4, 9), np.uint8)).save(tmp_path / "small.png")
    Path(tmp_path / "text.png").write_text("no image")
    for name, message in {"small.png": "9x4 pixels and the run's 8x8; resize it", "text.png": "cannot be read"}.items():
        code, _, err = command("sample", "--run", runs["joint"], "--like", tmp_path / name, "--out", tmp_path / "a.png")
        assert code == 2
        assert message in err


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "I;16"])
def test_a_file_becomes_pixels_as_training_images_do(mode, channels, tmp_path):
    """Whatever its channels and bits, and upright."""
    grey = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
    picture = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    if mode == "RGBA":
        picture.putpixel((0, 0), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "x.png", exif=exif)
    found = file_image(str(tmp_path / "x.png"), (6, 4, channels), "like")
    expected = np.rot90(grey, -1).copy()
    colour = found[..., :3].mean(axis=2)
    if mode == "RGBA":
        assert (found[0, -1, -1], colour[0, -1]) == ((0, 0) if channels == 4 else (255, 255))
        colour[0, -1] = expected[0, -1]
    assert (found.shape, found.dtype) == ((6, 4, channels), np.uint8)
    np.testing.assert_array_equal(colour, expected)
    with pytest.raises(ConfigError, match=r"the image has 4x6 pixels and the run's 6x4; resize it"):
        file_image(str(tmp_path / "x.png"), (4, 6, channels), "like")


def test_a_generator_without_codes_says_how_to_train_one(runs, tmp_path):
    code, _, err = command("sample", "--run", runs["plain"], "--like", "test:1", "--out", tmp_path / "a.png")
    assert code == 2
    assert "its generator reads no codes; train with" in err


def test_values_of_units():
    assert parse_on("5") == (5, None)
    assert parse_on("5=2.5") == (5, 2.5)
    for wrong in ("=2", "5=x", "5=inf", "a"):
        with pytest.raises(ConfigError, match="on = "):
            parse_on(wrong)
    assert not Controls()
    assert Controls(off=(0,))


def test_the_study_of_control_reads_such_runs(runs, tmp_path):
    results = tmp_path / "control.json"
    code, out, err = command("control", "--runs", runs["joint"], "--units", "3", "--codes", "20", "--results", results)
    assert code == 0, err
    table = results.with_suffix(".md").read_text()
    assert "| joint |" in table
    assert "| joint, decoder |" in table  # the reference
    assert "auc" in table
    assert "auc" in out
