"""Translations by a finished run of train_cyclegan: whose they are, of which images, and what cannot be translated."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import command, tree
from helpers import assert_same, filled
from PIL import Image

import saegan_jax.data.domains
import saegan_jax.runs.train.cyclegan as script
from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.cyclegan import CycleGANConfig, cyclegan
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.data.domains import load_domains
from saegan_jax.errors import ConfigError
from saegan_jax.runs.options import TrainCycleGAN, TrainGAN
from saegan_jax.runs.restore import restore_run
from saegan_jax.runs.translate import SHOWN, Translate, arrange, read_images
from saegan_jax.runs.translations import Scored
from saegan_jax.training.checkpoint import Checkpoints
from saegan_jax.training.run_folder import open_folder, to_json
from saegan_jax.training.systems import abstract_system

STEPS = 4
N = 20  # everywhere, so that programs compile once
SPARSE = (
    "--cyclegan.kind sparse --cyclegan.shift-hidden 4 --cyclegan.d-width 2 --cyclegan.d-stages 1 --cyclegan.batch-size 2 "
    f"--cyclegan.learning-rate 0.02 --cyclegan.identity 0 --cyclegan.steps {STEPS} --sae.d-sae 8 --sae.k 3 --sae.auxk 0 "
    f"--sae.batch-size 4 --sae.steps 2 --log-every 2 --save-every 2 --picture-every {STEPS} --no-evaluate --seeds 2"
)
PLAIN = TrainCycleGAN(cyclegan=CycleGANConfig(width=2, stages=1, blocks=1, d_width=2, d_stages=1, history=0))
MEMBERS = {"plain": 1, "sparse": 2}


class Trained(NamedTuple):
    """A run's folder, and what was in memory when its last checkpoint was written."""

    folder: Path
    algorithm: Algorithm
    state: Any


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """A sparse run of two members as its script trains it, its scores left out; and a plain one that was not trained."""
    folder = tmp_path_factory.mktemp("runs")
    left: list[Any] = []

    def scores(domains: Any, algorithm: Any, state: Any, **options: Any) -> Scored:
        left.extend([algorithm, state])
        return Scored({}, {})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "scores", scores)
        for name in ("sae_rows", "picture_of", "cycle_robustness_picture", "finish"):
            patch.setattr(script, name, lambda *arguments, **options: {})
        script.run(script.parse_options([*SPARSE.split(), "--out", str(folder / "sparse")]))
    algorithm = cyclegan(PLAIN.cyclegan, image_shape=(8, 8, 1))
    state = filled(jax.eval_shape(algorithm.init, jax.random.key(0)))
    record = {"script": "cyclegan", "image_shape": [8, 8, 1], "options": to_json(PLAIN)}
    open_folder(folder / "plain", record)
    with Checkpoints(folder / "plain" / "checkpoints" / "cyclegan") as checkpoints:
        checkpoints.save(STEPS, state, record)
    return {"sparse": Trained(folder / "sparse", *left), "plain": Trained(folder / "plain", algorithm, state)}


def translate(run: Path, out: Path, *arguments: object) -> dict[str, np.ndarray]:
    code, said, err = command("translate", "--run", run, "--out", out, *arguments)
    assert (code, err) == (0, "")
    assert said.count("\n") == 1
    with np.load(out.with_suffix(".npz")) as file:
        return dict(file)


def refused(command_name: str, *arguments: object) -> str:
    code, said, err = command(command_name, *arguments)
    assert (code, said, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")
    return err


@pytest.mark.parametrize(("kind", "direction", "other"), [("plain", "ba", "ab"), ("sparse", "ab", "ba")])
def test_translations_are_those_of_the_trained_state(
    runs: dict[str, Trained], tmp_path: Path, kind: str, direction: str, other: str
) -> None:
    folder, algorithm, state = runs[kind]
    before = tree(folder)
    found = translate(folder, tmp_path / "a.png", "--direction", direction, "--n", N)
    assert tree(folder) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "a.png"]
    members = MEMBERS[kind]
    for name in ("source", "translation", "back"):
        assert (found[name].shape, found[name].dtype) == ((N * members, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(found["member"], np.repeat(np.arange(members), N))
    assert (found["direction"], found["step"], found["run"], found["seed"]) == (direction, STEPS, kind, 0)

    domains = load_domains("digits_inverted_rotated")
    test = (domains.a if direction == "ab" else domains.b).test
    chosen = np.random.default_rng(0).permutation(len(test.label))[:N]
    translations = jax.jit(algorithm.translate, static_argnums=2)
    for member in range(members):
        own = found["member"] == member
        np.testing.assert_array_equal(found["source"][own], test.image[chosen])
        np.testing.assert_array_equal(found["label"][own], test.label[chosen])
        one = jax.tree.map(lambda x, i=member: x[i], state) if members > 1 else state
        there = translations(one, jnp.asarray(test.image[chosen], jnp.float32) / 255, direction)
        for name, wanted in (("translation", there), ("back", translations(one, there, other))):
            assert np.abs(np.asarray(wanted) * 255 - found[name][own]).max() < 0.51
            assert len(np.unique(found[name][own].reshape(N, -1), axis=0)) > 4
    # Nothing of this would show in translators that leave the image as it is, or in members that are alike.
    assert np.abs(found["translation"] - found["source"].astype(float)).mean() > 10
    if members > 1:
        first, second = found["translation"].reshape(2, N, 8, 8, 1)
        assert not np.array_equal(first, second)
    assert_same(restore_run(folder).state, state)


def test_the_same_bytes_again_and_others_of_another_seed_or_step(
    runs: dict[str, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = runs["sparse"].folder
    first = translate(folder, tmp_path / "a.png", "--n", N)
    code, said, err = command("translate", "--run", folder, "--n", N)
    assert (code, err) == (0, "")
    name = f"sparse-step{STEPS}-ab-seed0"
    told = (
        f"{name}.png and {name}.npz: {N} test images of digits_inverted_rotated, A to B and back by each of 2 members"
    )
    assert said == f"{told}, from sparse at step {STEPS}\n"
    for suffix in (".png", ".npz"):
        assert Path(name + suffix).read_bytes() == Path("a" + suffix).read_bytes()
    for option, value in (("--seed", 1), ("--step", 2)):
        other = translate(folder, tmp_path / "b.png", "--n", N, option, value)
        assert not np.array_equal(other["translation"], first["translation"])
        assert np.array_equal(other["source"], first["source"]) == (option == "--step")
    assert (first["step"], other["step"]) == (STEPS, 2)
    # One member alone translates as it does among the others.
    own = translate(folder, tmp_path / "c.png", "--n", N, "--member", 1)
    assert set(own["member"]) == {1}
    for part in ("source", "translation", "back", "label"):
        np.testing.assert_array_equal(own[part], first[part][N:])


def test_images_of_a_file_need_no_data_set(
    runs: dict[str, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs["plain"].folder
    wanted = translate(folder, tmp_path / "a.png", "--n", N)

    def no_data(*arguments: object, **options: object) -> None:
        raise AssertionError("the data set was loaded")

    monkeypatch.setattr(saegan_jax.data.domains, "load_domains", no_data)
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "mine.npy", wanted["source"])
    np.savez(tmp_path / "own.npz", images=wanted["source"], other=np.zeros(3))
    found = translate(folder, tmp_path / "b.png", "--images", "mine.npy")
    assert set(wanted) - set(found) == {"label", "seed"}
    for part in found:
        np.testing.assert_array_equal(found[part], wanted[part])
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    code, said, _ = command("translate", "--run", folder, "--images", "own.npz", "--direction", "ba")
    assert code == 0
    with np.load(f"plain-step{STEPS}-ba-own.npz") as file:
        np.testing.assert_array_equal(file["source"], wanted["source"])
        assert not np.array_equal(file["translation"], wanted["translation"])
    assert said.startswith(
        f"plain-step{STEPS}-ba-own.png and plain-step{STEPS}-ba-own.npz: {N} images of own.npz, B to A"
    )


def test_the_picture_has_rows_of_source_translation_and_back(runs: dict[str, Trained], tmp_path: Path) -> None:
    found = translate(runs["sparse"].folder, tmp_path / "a.png", "--n", N)
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture)
    # For each member three rows of 16, an empty one and three rows of 4; two empty ones between members.
    assert pixels.shape == ((2 * 7 + 2) * 58 + 2, 16 * 58 + 2)
    cells = pixels[2:, 2:].reshape(16, 58, 16, 58)[:, :56:7, :, :56:7].swapaxes(1, 2)
    for member in range(2):
        for row, name in enumerate(("source", "translation", "back")):
            strip = found[name][member * 20 : member * 20 + 20, ..., 0]
            np.testing.assert_array_equal(cells[9 * member + row], strip[:16])
            np.testing.assert_array_equal(cells[9 * member + 4 + row, :4], strip[16:])
    assert (cells[[3, 7, 8, 12]] == 255).all()
    many, columns = arrange(np.zeros((2, 3, 4000, 1, 1, 1), np.uint8))
    assert columns == 16
    assert SHOWN - 6 < (many == 0).sum() <= SHOWN


def test_what_cannot_be_translated_is_told_and_nothing_is_written(runs: dict[str, Trained], tmp_path: Path) -> None:
    folder, out = runs["sparse"].folder, tmp_path / "a.png"
    images = np.zeros((3, 8, 8, 1), np.uint8)
    arrays = {
        "size": images[:, :7], "gray": images[..., 0], "one": images[0], "none": images[:0],
        "floats": images.astype(np.float32), "ints": images.astype(np.int32),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "key.npz", image=images, label=images)
    np.savez(tmp_path / "a.npz", images=images)
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "half.npz").write_bytes((tmp_path / "key.npz").read_bytes()[:300])
    (tmp_path / "gan").mkdir()
    trained = TrainGAN(gan=GANConfig(hidden=(), d_noise=2))
    told = {"script": "gan", "image_shape": [8, 8, 1], "num_classes": 10, "options": to_json(trained)}
    (tmp_path / "gan" / "config.json").write_text(json.dumps(told))
    with Checkpoints(tmp_path / "gan" / "checkpoints" / "gan") as checkpoints:
        checkpoints.save(STEPS, filled(abstract_system(trained.gan, image_shape=(8, 8, 1), n_seeds=1)[1]), told)
    before, run_before = tree(tmp_path), tree(folder)
    wanted = "the run translates uint8 images of shape (n, 8, 8, 1)"
    for name, message in (
        ("size.npy", f"it holds uint8 of shape (3, 7, 8, 1); {wanted}."),
        ("gray.npy", f"it holds uint8 of shape (3, 8, 8); {wanted}."),
        ("one.npy", f"it holds uint8 of shape (8, 8, 1); {wanted}."),
        ("none.npy", "there is no image in it."),
        ("floats.npy", f"it holds float32 of shape (3, 8, 8, 1); {wanted}."),
        ("ints.npy", f"it holds int32 of shape (3, 8, 8, 1); {wanted}."),
        ("key.npz", "it holds image, label; the key must be images."),
        ("missing.npy", "it is no .npy or .npz file that can be read (FileNotFoundError: "),
        ("objects.npy", "it is no .npy or .npz file that can be read (ValueError: "),
        ("text.npy", "it is no .npy or .npz file that can be read (ValueError: "),
        ("empty.npy", "it is no .npy or .npz file that can be read (EOFError: "),
        ("half.npz", "it is no .npy or .npz file that can be read (BadZipFile: "),
        ("gan", "it is no .npy or .npz file that can be read (IsADirectoryError: "),
    ):
        with pytest.raises(ConfigError) as error:
            read_images(tmp_path / name, (8, 8, 1))
        assert str(error.value).startswith(f"images = '{tmp_path / name}' cannot be used: {message}")
    for arguments, message in (
        (["--images", tmp_path / "missing.npy"], "missing.npy' cannot be used: it is no .npy or .npz file"),
        (["--images", tmp_path / "a.npz"], "its a.npz would replace --images; choose another name."),
        (["--n", 251], "n = 251 cannot be used: domain A of digits_inverted_rotated has 250 test images"),
        (["--step", 3], "step = 3 cannot be used: "),
        (["--member", 2], "member = 2 cannot be used: the run has 2, counted from 0."),
    ):
        assert message in refused("translate", "--run", folder, "--out", out, *arguments)
    err = refused("translate", "--run", tmp_path / "gan", "--out", out)
    assert f"run = '{tmp_path / 'gan'}' cannot be used: it translates nothing; give a run of train_cyclegan." in err
    assert "there is no config.json in it" in refused("translate", "--run", tmp_path, "--out", out)
    code, said, err = command("translate", "--run", folder, "--out", out, "--direction", "aa")
    assert (code, said) == (2, "")
    assert "choose one of ab, ba" in err
    options: dict[str, Any]
    for options, message in (
        ({"direction": "aa"}, "direction = 'aa' cannot be used: choose one of ab, ba"),
        ({"n": 0}, "n = 0 cannot be used: translate at least one image."),
        ({"seed": -1}, "seed = -1 cannot be used: it must be a number from 0"),
        ({"out": Path("b.jpg")}, "out = 'b.jpg' cannot be used: it is a PNG"),
    ):
        with pytest.raises(ConfigError, match=message):
            Translate(run=folder, **options)
    assert tree(tmp_path) == before
    assert tree(folder) == run_before


def test_a_member_that_failed_is_told(
    runs: dict[str, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its images cannot be had, those of the other can."""
    folder, _, state = runs["sparse"]
    restored = restore_run(folder)
    bias = np.array(state.pretrained["params"]["b_dec"])
    bias[1] = np.nan
    spoil = lambda path, x: jnp.asarray(bias) if "b_dec" in jax.tree_util.keystr(path) else x  # noqa: E731
    generator = jax.tree_util.tree_map_with_path(spoil, state.params.generator)
    spoilt = restored._replace(state=state.replace(params=state.params._replace(generator=generator)))
    monkeypatch.setattr("saegan_jax.runs.translate.restore_run", lambda *arguments, **options: spoilt)
    err = refused("translate", "--run", folder, "--n", N, "--out", tmp_path / "a.png")
    assert "member = 1 cannot be used: its training failed" in err
    assert list(tmp_path.iterdir()) == []
    assert len(translate(folder, tmp_path / "a.png", "--n", N, "--member", 0)["back"]) == N


@pytest.mark.parametrize("kind", MEMBERS)
def test_scripts_that_draw_or_export_refuse_it(runs: dict[str, Trained], tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(runs[kind].folder, tmp_path / "run"))
    before = tree(tmp_path)
    for name, message in (
        ("sample", "it is a CycleGAN, which translates images and draws none; saegan translate is its command."),
        ("export_sae", "without a sparse autoencoder of its own to export; give a run of train_sae or train_saegan."),
    ):
        assert message in refused(name, "--run", folder, "--out", tmp_path / "a.png")
    assert tree(tmp_path) == before
