"""What cannot work is told in one paragraph, before anything is compiled or written."""

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from command_line import Outcome, command, finished, start, tiny, tree
from PIL import Image

import saegan_jax.runs.session
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data import Dataset, Split
from saegan_jax.training import loop
from saegan_jax.training.interchange import export_sae

COMPILED: list[str] = []
jax.monitoring.register_event_duration_secs_listener(lambda event, seconds, **_: COMPILED.append(event))


def paragraph(outcome: Outcome) -> str:
    """What was said, on one line and out of tyro's box; everything that every failure has in common is checked here."""
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    if outcome.err.startswith("error: "):
        assert outcome.err.count("\n") == 1
    return re.sub(r"[\s│╭╮╰╯─]+", " ", outcome.err)


@pytest.fixture(autouse=True)
def nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in a folder that must stay as it is, and let nothing be trained or compiled."""

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(loop, "train", never)
    monkeypatch.setattr(saegan_jax.runs.session, "train", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("not a run")
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "empty").mkdir()
    before = tree(tmp_path)
    COMPILED.clear()
    yield
    assert tree(tmp_path) == before
    assert not [event for event in COMPILED if "backend_compile" in event]


def words(arguments: list[Any]) -> str:
    return " ".join(map(str, arguments))


CASES: list[tuple[str, list[Any], str]] = [
    # (script, arguments, what must be said: field, value, fix)
    ("train_saegan", ["--dataset", "digitz"], r"dataset='digitz' is unknown.* Known are digits, shapes, mnist"),
    ("train_saegan", ["--preset", "mnist-cp"], r"preset = 'mnist-cp' .* did you mean mnist-cpu\?"),
    ("train_gan", ["--preset", "none"], r"preset = 'none' .* choose one of auto, digits, mnist-cpu"),
    ("train_gan", ["--gan.batch-size", 1298], r"gan\.batch_size = 1298 .* 1297 images; use at most that"),
    ("train_sae", ["--sae.batch-size", 1298], r"sae\.batch_size = 1298 .* 1297 images; use at most that"),
    ("train_saegan", ["--gan.batch-size", 1298], r"gan\.batch_size = 1298 "),
    ("train_sae", ["--sae.rho", 0], r"sae\.rho = 0\.0 .* strictly between 0 and 1; try 0\.05"),
    ("train_sae", ["--sae.rho", 1], r"sae\.rho = 1\.0 "),
    ("train_saegan", ["--sae.rho", -0.1], r"sae\.rho = -0\.1 "),
    ("train_sae", ["--sae.variant", "l1", "--sae.decoder-norm", 0], r"decoder_norm = 0\.0 .* only shrinks codes"),
    ("train_sae", ["--sae.variant", "topk", "--sae.k", 9], r"k = 9 .* only d_sae=8 units"),
    ("train_sae", ["--sae.variant", "hoyer"], r"sae\.variant = 'hoyer' .* choose one of kl, rate_kl, l1, topk"),
    ("train_sae", ["--sae.variant", "jump_relu"], r"sae\.variant = 'jump_relu' .* did you mean jumprelu\?"),
    ("train_sae", ["--sae.patch-size", 5, "--sae.stride", 3], r"stride = 3 .* divide both sides of the 8x8 images"),
    (
        "train_saegan",
        ["--generator-output", "codes", "--sae.patch-size", 4],
        r"sae\.patch_size = 4 .* one code per image",
    ),
    ("train_sae", ["--sae.d-sae", 0], r"d_sae = 0 .* above zero"),
    ("train_sae", ["--sae.d-sae", 1, "--sae.k", 1], r"d_sae = 1 .* at least 2"),
    ("train_sae", ["--sae.beta", -1], r"beta = -1\.0 .* zero or above"),
    ("train_sae", ["--sae.learning-rate", "nan"], r"learning_rate = nan .* finite"),
    ("train_gan", ["--gan.hidden", 8, -8], r"hidden = \(8, -8\) .* at least one unit"),
    ("train_gan", ["--gan.d-noise", -1], r"d_noise = -1 "),
    ("train_gan", ["--gan.width", 0], r"width = 0 "),
    ("train_gan", ["--gan.batch-size", 0], r"gan\.batch_size = 0 "),
    ("train_gan", ["--gan.steps", -5], r"gan\.steps = -5 "),
    ("train_gan", ["--gan.beta1", 1], r"beta1 = 1\.0 .* \[0, 1\)"),
    ("train_gan", ["--gan.r1-gamma", "inf"], r"r1_gamma = inf "),
    ("train_gan", ["--gan.loss", "wgan"], r"--gan\.loss = .wgan. .* choose one of relativistic, .*wasserstein"),
    (
        "train_gan",
        ["--recipe", "wgan"],
        r"recipe = 'wgan' .* did you mean wgan_gp\? choose one of preset, r3gan, dcgan, wgan_gp",
    ),
    (
        "train_saegan",
        ["--recipe", "zzz"],
        r"recipe = 'zzz' cannot be used: choose one of preset, r3gan, dcgan, wgan_gp, sngan\.",
    ),
    ("train_gan", ["--recipe", "sngan"], r"gan\.batch_size = 16 .* d_steps=5 discriminator steps; use a multiple"),
    ("train_saegan", ["--gan.d-steps", 3], r"batch_size = 16 .* d_steps=3 "),
    ("train_gan", ["--gan.d-steps", 0], r"d_steps = 0 .* above zero"),
    ("train_gan", ["--gan.final-beta2", 1], r"final_beta2 = 1\.0 .* \[0, 1\)"),
    ("train_gan", ["--gan.final-gamma", -1], r"final_gamma = -1\.0 .* zero or above"),
    ("train_gan", ["--gan.generator-rate", 0], r"generator_rate = 0\.0 .* above zero"),
    ("train_gan", ["--gan.lecam", "nan"], r"lecam = nan .* finite"),
    ("train_gan", ["--gan.gradient-penalty", -10], r"gradient_penalty = -10\.0 "),
    ("train_gan", ["--gan.head-hidden", 0], r"head_hidden = \(0,\) .* at least one unit"),
    ("train_gan", ["--gan.scale", 0], r"scale = 0\.0 "),
    ("train_gan", ["--gan.augment", "colour"], r"--gan\.augment = .colour. .*color.*translation.*cutout"),
    (
        "train_gan",
        ["--gan.network", "residual", "--gan.stages", 4],
        r"network = 'residual' .*8x8 is not divisible by 16",
    ),
    (
        "train_saegan",
        ["--alignment", 1, "--generator-input", "gaussian"],
        r"alignment = 1\.0 .* generator_input='sparse'",
    ),
    ("train_saegan", ["--code-hidden", 0], r"code_hidden = \(0,\) "),
    ("train_gan", ["--seeds", 0], r"seeds = 0 .* at least one"),
    ("train_gan", ["--seed", -1], r"seed = -1 "),
    ("train_gan", ["--gan.steps", 21], r"gan\.steps = 21 .* log_every = 5; use 20 or 25"),
    ("train_saegan", ["--gan.steps", 21], r"gan\.steps = 21 "),
    ("train_saegan", ["--sae.steps", 21], r"sae\.steps = 21 "),
    ("train_gan", ["--save-every", 12], r"save_every = 12 .* use 10 or 15"),
    ("train_gan", ["--picture-every", 3], r"picture_every = 3 .* use 5"),
    ("train_gan", ["--log-every", 0], r"log_every = 0 "),
    ("train_gan", ["--gan.steps", 2**31 - 8], r"gan\.steps = 2147483640 .* at most 134217727"),
    ("train_gan", ["--out", "mine"], r"out = 'mine' .* no run; name another --out"),
    ("train_gan", ["--out", "file"], r"out = 'file' .* it is a file; name a folder"),
    ("train_gan", ["--out", "file/run"], r"out = 'file/run' .*/file is a file, and nothing can be written below it"),
    ("train_gan", ["--out", "empty", "--resume"], r"resume = True .*empty holds no run to continue"),
    ("train_gan", ["--out", "nowhere", "--resume"], r"resume = True .*nowhere holds no run to continue"),
    (
        "train_gan",
        ["--gan.learnign-rate", 1],
        r"option = .--gan\.learnign-rate. .* did you mean --gan\.learning-rate\?",
    ),
    ("train_gan", ["--tracker", "wandbb"], r"tracker = 'wandbb' .* did you mean wandb\? choose one of none, wandb"),
    ("train_gan", ["--gan.steps", "many"], r"--gan\.steps = .many. .* a whole number"),
]


@pytest.mark.parametrize(("script", "arguments", "message"), CASES, ids=[words(case[1]) for case in CASES])
def test_settings_that_cannot_work(script: str, arguments: list[Any], message: str) -> None:
    assert re.search(message, paragraph(command(script, *tiny(script, "--out", "run", *arguments))))


def test_a_tracker_that_is_missing_or_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    given = tiny("train_gan", "--out", "run", "--tracker", "wandb")
    monkeypatch.setitem(sys.modules, "wandb", None)  # its import then raises an ImportError
    assert "tracker = 'wandb' cannot be used: it needs the package wandb" in paragraph(command("train_gan", *given))
    refusing = types.ModuleType("wandb")  # which has no init
    monkeypatch.setitem(sys.modules, "wandb", refusing)
    assert re.search(r"tracker = 'wandb' .* it cannot start \(AttributeError", paragraph(command("train_gan", *given)))


def odd_images(height: int = 6, channels: int = 1) -> Dataset:
    split = Split(np.zeros((32, height, 8, channels), np.uint8), np.zeros(32, np.int32))
    return Dataset("[odd]", split, split, split, num_classes=1)


@pytest.mark.parametrize("script", ["train_gan", "train_saegan"])
def test_images_that_the_network_cannot_make(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saegan_jax.runs.session, "load", lambda *arguments, **options: odd_images())
    message = paragraph(command(script, *tiny(script, "--out", "run", "--gan.network", "dcgan")))
    assert re.search(r"network = 'dcgan' .*6x8 is not divisible by 4; use fewer stages, network='mlp', or pad", message)


def few_images(*, train: int = 100, test: int = 10, classes: int = 2, constant: bool = False) -> Dataset:
    """Random 8x8 images, and as many for validation as for the test."""

    def split(n: int) -> Split:
        image = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)
        return Split(image * 0 if constant else image, (np.arange(n) % classes).astype(np.int32))

    return Dataset("few", split(train), split(test), split(test), num_classes=2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"classes": 1}, "its training images are of one class"),
        ({"train": 40}, "its train split has 40 images and scores need 64"),
        ({"test": 1}, "its validation split has 1 images and scores need 6"),
        ({"constant": True}, "all images of its train split are equal"),
    ],
)
@pytest.mark.parametrize("script", ["train_gan", "train_saegan", "train_energy", "train_vae"])
def test_data_in_which_samples_cannot_be_scored(
    script: str, data: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saegan_jax.runs.session, "load", lambda *arguments, **options: few_images(**data))
    said = paragraph(
        command(
            script,
            "--out",
            "run",
            f"--{script.removeprefix('train_')}.steps" if script == "train_vae" else "--gan.steps",
            1000,
        )
    )
    assert re.search(rf"dataset = 'few' cannot be used: {message}.*add --no-evaluate", said), said


def image_folder(folder: Path, n: int, *, classes: tuple[str, ...] = ("",), sides: tuple[int, ...] = (8,)) -> Path:
    """``n`` random grey images of each class, of the sides by turns."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            side = sides[i % len(sides)]
            Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(folder / name / f"{i}.png")
    return folder


OWN: list[tuple[str, dict[str, Any], list[Any], str]] = [
    # (script, the folder, further arguments, what must be said)
    ("train_gan", {"n": 0}, [], r"folder '.*own' has no images \(it is empty\)"),
    ("train_gan", {"n": 1}, [], r"has 1 image to train on, and one must be held out for test and for validation"),
    ("train_gan", {"n": 99, "sides": (8, 9)}, [], r"images of several sizes, such as 8x8 .* add --image-size 64"),
    (
        "train_gan",
        {"n": 99, "classes": ("a",)},
        ["--evaluate"],
        r"its training images are of one class .*--no-evaluate",
    ),
    (
        "train_gan",
        {"n": 3, "sides": (6,)},
        ["--gan.network", "dcgan", "--gan.batch-size", 1],
        r"6x6 is not divisible by 4",
    ),
    ("train_gan", {"n": 30}, ["--gan.conditional"], r"conditional = True .* the data has no classes"),
    ("train_sae", {"n": 30}, ["--image-size", 0], r"image_size = 0 .* from 1 to 4096"),
    ("train_sae", {"n": 30}, ["--max-skipped", -1], r"max_skipped = -1"),
    ("train_sae", {"n": 30}, ["--normalise", "scale"], r"normalise = 'scale' .* for vectors"),
    ("train_sae", {"n": 30}, ["--from", "nowhere"], r"from = 'nowhere' .* has no cfg.json"),
    ("train_sae", {"n": 3}, [], r"batch_size = 16 .* has 1 images"),
]


@pytest.mark.parametrize(("script", "made", "arguments", "message"), OWN, ids=[case[3][:30] for case in OWN])
def test_folders_that_cannot_be_trained_on(
    script: str, made: dict[str, Any], arguments: list[Any], message: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = image_folder(tmp_path_factory.mktemp("data") / "own", **made)
    given = tiny(script, "--out", "run", "--dataset", f"folder:{folder}", *arguments)
    assert re.search(message, paragraph(command(script, *given)))


def test_a_class_of_one_image_where_labels_are_needed(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = image_folder(tmp_path_factory.mktemp("data") / "own", 90, classes=("ant", "bee"))
    image_folder(folder, 1, classes=("cow",))
    given = tiny("train_gan", "--out", "run", "--dataset", f"folder:{folder}", "--evaluate")
    assert re.search(r"its class 'cow' has [01] training images and needs two", paragraph(command("train_gan", *given)))


VECTORS: list[tuple[str, list[Any], str]] = [
    ("nan", [], r"row 3 of x.npy is not finite"),
    ("few", [], r"has 9 vectors, and some must be held out"),
    ("equal", [], r"all vectors are equal"),
    ("widths", [], r"x.npy has vectors of width 6 and y.npy of 5"),
    ("plain", ["--fraction", 0.5], r"fraction = 0.5 .* by class"),
    ("plain", ["--sae.patch-size", 2], r"sae.patch_size = 2 .* no patches"),
    ("plain", ["--image-size", 8], r"image_size = 8 .* for image files"),
    ("plain", ["--normalise", "centre", "--sae.pre-bias", "none"], r"sae.pre_bias = 'none' .* use mean"),
    ("plain", ["--sae.tied", "--sae.decoder-norm", 0], r"sae.tied = True"),
    ("plain", ["--sae.batch-size", 999], r"batch_size = 999"),
    ("plain", ["--from", "saved"], r"weights are for inputs of width 5, and these data have 6"),
]


def vector_folder(folder: Path, kind: str) -> Path:
    """Vectors of width 6 that something may be wrong with, and saved weights of width 5."""
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    x = {"few": x[:9], "equal": 0 * x + 1}.get(kind, x)
    if kind == "nan":
        x[3, 2] = np.nan
    (folder / "v").mkdir()
    np.save(folder / "v" / "x.npy", x)
    if kind == "widths":
        np.save(folder / "v" / "y.npy", x[:, :5])
    config = SAEConfig(variant="kl", d_sae=8)
    weights = {"W_enc": (5, 8), "b_enc": (8,), "W_dec": (8, 5), "b_dec": (5,)}
    params = {"params": {name: np.ones(shape, np.float32) for name, shape in weights.items()}}
    export_sae(folder / "saved", config, params, image_shape=(1, 1, 5))
    return folder


@pytest.mark.parametrize(
    ("kind", "arguments", "message"), VECTORS, ids=[words([case[0], *case[1]]) for case in VECTORS]
)
def test_vectors_that_cannot_be_trained_on(
    kind: str, arguments: list[Any], message: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = vector_folder(tmp_path_factory.mktemp("data"), kind)
    arguments = [folder / "saved" if word == "saved" else word for word in arguments]
    given = tiny("train_sae", "--out", "run", "--dataset", f"vectors:{folder / 'v'}", "--sae.variant", "kl", *arguments)
    assert re.search(message, paragraph(command("train_sae", *given)))


def test_vectors_are_for_autoencoders_alone() -> None:
    said = paragraph(command("train_gan", *tiny("train_gan", "--out", "run", "--dataset", "vectors:x.npy")))
    assert "saegan train sae` alone takes them" in said


def test_images_that_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saegan_jax.runs.session, "load", lambda *arguments, **options: odd_images(8, channels=2))
    message = paragraph(command("train_sae", *tiny("train_sae", "--out", "run")))
    # Brackets are text, not rich's markup.
    assert "dataset = '[odd]' cannot be used: its images have 2 channels" in message


SAMPLES: list[tuple[list[Any], str]] = [
    ([], r"--run"),
    (["--run", "nowhere"], r"run = 'nowhere' .* no config\.json in it; give the folder of a run"),
    (["--run", "mine"], r"run = 'mine' .* no config\.json"),
    (["--run", "file"], r"run = 'file' .* no config\.json"),
    (["--run", "mine", "--n", 0], r"n = 0 .* at least one"),
    (["--run", "mine", "--seed", -1], r"seed = -1 "),
    (["--run", "mine", "--label", "seven"], r"--label.*seven"),
    (["--run", "mine", "--out", "x.jpg"], r"out = 'x\.jpg' .* ends in \.png"),
]


@pytest.mark.parametrize(("arguments", "message"), SAMPLES, ids=[words(case[0]) for case in SAMPLES])
def test_samples_that_cannot_be_drawn(arguments: list[Any], message: str) -> None:
    assert re.search(message, paragraph(command("sample", *arguments)))


def test_the_same_from_a_process_of_its_own() -> None:
    # Both at once: what each mostly does is import.
    wrong = start("train_saegan", *tiny("train_saegan", "--out", "run", "--sae.rho", 2))
    unknown = start("train_gan", *tiny("train_gan", "--out", "run", "--dataset", "digitz"))
    assert re.search(r"sae\.rho = 2\.0 .* between 0 and 1; try 0\.05", paragraph(finished(wrong)))
    assert re.search(r"dataset='digitz' is unknown.* Known are", paragraph(finished(unknown)))
