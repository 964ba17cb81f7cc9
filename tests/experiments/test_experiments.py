"""The scripts from end to end, on the embedded digits and at tiny size."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import (
    QUICK_TO_COMPILE,
    command,
    finished,
    metrics,
    score_quickly,
    start,
    tiny,
    tree,
)
from PIL import Image

import saegan_jax.algorithms.gan
import saegan_jax.data
import saegan_jax.runs.scores
import saegan_jax.runs.session
from saegan_jax.algorithms.gan import gan
from saegan_jax.algorithms.sae import VARIANTS, SAEInfo
from saegan_jax.runs.options import TrainGAN, TrainSAE, TrainSAEGAN
from saegan_jax.runs.parse import parse
from saegan_jax.runs.presets import PRESETS
from saegan_jax.runs.program import keep_compiled
from saegan_jax.runs.recipes import RECIPES
from saegan_jax.runs.restore import restore_run
from saegan_jax.training.interchange import import_sae
from saegan_jax.training.writers import read_alarms

SCRIPTS = ("train_sae", "train_gan", "train_saegan")
SAE_ROWS = {"SAE FVU", "SAE FVU, active", "SAE L0", "SAE dead units", "SAE Hoyer"}
PROBE_ROWS = {"||mean|| / ||std||", "SAE probe", "SAE probe, 1 unit", "SAE probe, 5 units"}  # of eight units
MEASURES = ("class balance KL", "kernel distance", "precision", "recall", "density", "coverage", "memorisation")
SAMPLE_ROWS = {"Frechet distance", "Frechet / floor", "Frechet / floor, second network", *MEASURES}
EVALUATIONS = {"first evaluation", "best evaluation", "last evaluation"}
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each script, two members of the SAE-GAN; the GAN's scored by a classifier that is hardly trained."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        score_quickly(patch, folder / "cache")
        for script, extra in zip(
            SCRIPTS,
            (
                ["--evaluate"],
                [*QUICK_TO_COMPILE, "--evaluate"],
                [*QUICK_TO_COMPILE, "--discriminator", "codes", "--seeds", 2],
            ),
            strict=True,
        ):
            outcome = command(script, *tiny(script, "--out", folder / script, *extra))
            assert outcome.code == 0, outcome.err
            # Twenty steps are too few for images like those of the data: the evaluation says so, and nothing else is said.
            told = [f"Alarm: {a['kind']} {a['state']} at step {a['step']}" for a in read_alarms(folder / script)]
            assert [line.split(",")[0] for line in outcome.err.splitlines()] == told
            assert bool(told) == (script == "train_gan")
            (folder / f"{script}.out").write_text(outcome.out)
    return {script: folder / script for script in SCRIPTS}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(folder)): pixels(path).shape[1::-1] for path in sorted(folder.rglob("*.png"))}


def test_a_sparse_autoencoder(runs: dict[str, Path]) -> None:
    folder = runs["train_sae"]
    pictures = sizes(folder)
    assert list(pictures) == ["curves.png", "dictionary.png", "samples/sae-0000020.png"]
    # 64 digits of 8x8, seven times enlarged, and 2 pixels between them.
    assert pictures["samples/sae-0000020.png"] == (8 * 58 + 2, 8 * 58 + 2)
    assert pictures["dictionary.png"] == (3 * 58 + 2, 3 * 58 + 2)
    rows = metrics(folder)
    assert [(row["phase"], row["step"]) for row in rows] == [("sae", step) for step in (5, 10, 15, 20)]
    assert set(rows[0]) == {"phase", "step", *SAEInfo._fields}
    assert all(np.isfinite(value) for row in rows for name, value in row.items() if name != "phase")
    assert sorted(p.name for p in (folder / "checkpoints" / "sae").iterdir()) == ["10", "20"]
    assert any(p.name.startswith("events.out.tfevents") for p in (folder / "tensorboard").iterdir())
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["rows"]) == SAE_ROWS | PROBE_ROWS | {"alarms"}
    (one,), (five,) = (summary["rows"][f"SAE probe, {k}"]["values"] for k in ("1 unit", "5 units"))
    assert 0.55 < one < five < 1  # hardly trained, but digits are not at chance
    assert summary["rows"]["||mean|| / ||std||"]["values"] == [pytest.approx(1.49, abs=0.02)]
    config = json.loads((folder / "config.json").read_text())
    assert config["script"] == "sae"
    assert config["image_shape"] == [8, 8, 1]
    assert config["options"]["sae"]["d_sae"] == 8
    assert "out" not in config["options"]


def test_a_gan_is_scored_beside_the_floor(runs: dict[str, Path]) -> None:
    folder = runs["train_gan"]
    assert list(sizes(folder)) == ["curves.png", "samples/gan-0000020.png"]
    rows = json.loads((folder / "summary.json").read_text())["rows"]
    assert set(rows) == SAMPLE_ROWS | EVALUATIONS | {"alarms"}
    (distance,), floor = rows["Frechet distance"]["values"], rows["Frechet distance"]["floor"]
    assert distance > floor > 0
    assert rows["Frechet / floor"]["values"] == [pytest.approx(distance / floor)]
    assert set(metrics(folder)[0]) >= {"phase", "step", "discriminator_loss", "generator_loss", "r1", "r2"}
    # Two networks, each with its record.
    assert [p.suffix for p in sorted((folder.parent / "cache").iterdir())] == [".json", ".safetensors"] * 2
    notes = [rows[name]["note"] for name in ("Frechet / floor", "Frechet / floor, second network")]
    assert all(re.fullmatch(r"classifier [0-9a-f]{8}, accuracy 0\.\d{4}", note) for note in notes)
    assert notes[0] != notes[1]
    for name in MEASURES:
        assert np.isfinite([*rows[name]["values"], rows[name]["floor"]]).all()
    for name in ("precision", "recall", "coverage", "memorisation"):
        assert 0 <= rows[name]["values"][0] <= 1


def test_the_evaluations_on_the_way_and_the_alarms_are_in_the_summary(runs: dict[str, Path]) -> None:
    folder = runs["train_gan"]
    summary = json.loads((folder / "summary.json").read_text())
    evaluations = [row for row in metrics(folder) if row["phase"] == "gan-scores"]
    assert [row["step"] for row in evaluations] == [20]  # every picture
    assert set(evaluations[0]) == {"phase", "step", "frechet", "class_balance_kl", "recall"}
    for name in EVALUATIONS:
        assert summary["rows"][name]["values"] == [evaluations[0]["frechet"]]
    assert summary["alarms"] == read_alarms(folder)
    begun = sum(alarm["state"] == "begins" for alarm in summary["alarms"])
    assert summary["rows"]["alarms"]["values"] == [begun]
    assert begun >= 1
    assert {alarm["kind"] for alarm in summary["alarms"]} == set(summary["rows"]["alarms"]["note"].split(", "))
    # Without scores there is none, and nothing went wrong.
    other = json.loads((runs["train_saegan"] / "summary.json").read_text())
    assert other["rows"]["alarms"]["values"] == [0, 0]
    assert other["alarms"] == []


def test_a_member_that_fails_is_told_scored_as_nan_and_drawn_grey(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_gan(*arguments: Any, **options: Any) -> Any:
        algorithm = gan(*arguments, **options)

        def step(state: Any, batch: Any) -> Any:
            own = jax.random.key_data(state.key)
            second = jax.random.key_data(jax.random.split(jax.random.key(1))[1])
            after, info = algorithm.step(state, batch)
            bad = (state.step >= 7) & (own == second).all()
            spoil = lambda tree: jax.tree.map(lambda x: jnp.where(bad, jnp.nan, x), tree)  # noqa: E731
            return after.replace(ema=spoil(after.ema), params=spoil(after.params)), info

        return algorithm._replace(step=step)

    score_quickly(monkeypatch, runs["train_gan"].parent / "cache")
    monkeypatch.setattr("saegan_jax.runs.train.gan.gan", broken_gan)
    folder = tmp_path / "run"
    arguments = tiny("train_gan", *QUICK_TO_COMPILE, "--evaluate", "--seeds", 2, "--picture-every", 10, "--out", folder)
    code, out, err = command("train_gan", *arguments)
    assert code == 0, err
    assert "Alarm: non-finite begins at step 10, member 1 (discriminator_loss, " in err
    assert "nan" in out
    summary = json.loads((folder / "summary.json").read_text(), parse_constant=pytest.fail)
    rows = summary["rows"]
    assert summary["non_finite"]["rows.recall.values[1]"] == "nan"
    for name in SAMPLE_ROWS | EVALUATIONS:
        assert [v is not None for v in rows[name]["values"]] == [True, False], name
    assert rows["Frechet distance"]["floor"] > 0
    picture = pixels(folder / "samples" / "gan-0000020.png")
    assert (picture[60:116, 2:58] == 128).all()  # the second row
    assert len(np.unique(picture[2:58, 2:58])) > 4
    assert [step for step, _ in evaluations_of(folder)] == [10, 20]

    # Its images cannot be had, those of the other can.
    code, _, err = command("sample", "--run", folder, "--out", tmp_path / "a.png")
    assert code == 2
    assert "member = 1 cannot be used: its training failed" in err
    assert not (tmp_path / "a.png").exists()
    assert len(draw(folder, tmp_path / "a.png", "--n", 5, "--member", 0)["images"]) == 5


def evaluations_of(folder: Path) -> list[tuple[Any, Any]]:
    return [(row["step"], row["frechet"]) for row in metrics(folder) if row["phase"] == "gan-scores"]


def test_two_sae_gans_at_once(runs: dict[str, Path]) -> None:
    folder = runs["train_saegan"]
    pictures = sizes(folder)
    assert list(pictures) == ["curves.png", "dictionary.png", "samples/gan-0000020.png"]
    assert pictures["samples/gan-0000020.png"] == (16 * 58 + 2, 2 * 58 + 2)  # a row a member
    rows = metrics(folder)
    assert [(row["phase"], row["step"]) for row in rows] == [(p, s) for p in ("sae", "gan") for s in (5, 10, 15, 20)]
    for row in rows:
        for name in set(row) - {"phase", "step"}:
            values: Any = row[name]
            assert len(values) == 2
            same = ("generator_extra", "r1", "r2", "penalty", "accuracy", "auxiliary", "dead_fraction")
            assert values[0] != values[1] or name in same
    assert set(os.listdir(folder / "checkpoints")) == {"sae", "gan"}
    summary = json.loads((folder / "summary.json").read_text())["rows"]
    assert set(summary) == SAE_ROWS | {"alarms"}
    assert all(len(row["values"]) == 2 for row in summary.values())


@pytest.mark.parametrize("script", SCRIPTS)
def test_stdout_is_the_table_alone(script: str, runs: dict[str, Path]) -> None:
    out = runs[script].with_suffix(".out").read_text()
    assert not CONTROL.search(out)
    names = set(json.loads((runs[script] / "summary.json").read_text())["rows"])
    told: list[str] = []
    for line in out.splitlines():
        if match := re.match(r"│ ([^│]*)│([^│]*)│", line):
            name, value = match[1].strip(), match[2].strip()
            told = [*told, name] if value else [*told[:-1], f"{told[-1]} {name}".strip()]  # a long name goes on below
    assert set(told) == names
    assert len(told) == len(names)
    header = ["mean of 2", "95 % interval", "every seed"] if script == "train_saegan" else ["value"]
    assert all(part in out for part in header)


def test_a_process_of_its_own_is_quiet_too(runs: dict[str, Path], tmp_path: Path) -> None:
    arguments = tiny("train_sae", "--out", tmp_path / "run", "--seed", 0, "--evaluate")
    code, out, err = finished(start("train_sae", *arguments))
    assert (code, err) == (0, "")
    assert not CONTROL.search(out)
    assert "Traceback" not in out
    # The same numbers as in this process.
    assert metrics(tmp_path / "run") == metrics(runs["train_sae"])
    assert (tmp_path / "run" / "summary.json").read_bytes() == (runs["train_sae"] / "summary.json").read_bytes()


def test_a_member_is_the_run_of_its_seed(runs: dict[str, Path], tmp_path: Path) -> None:
    assert command("train_sae", *tiny("train_sae", "--out", tmp_path / "two", "--seeds", 2)).code == 0
    one, two = metrics(runs["train_sae"]), metrics(tmp_path / "two")
    for a, b in zip(one, two, strict=True):
        for name in ("loss", "reconstruction", "sparsity", "l0"):
            values: Any = b[name]
            np.testing.assert_allclose(values[0], a[name], rtol=1e-4, err_msg=name)
            if name != "l0":
                assert values[0] != values[1]


def test_runs_are_left_alone_unless_resumed_with_the_same_configuration(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs["train_sae"], tmp_path / "run"))
    before = tree(folder)
    for extra, message in (
        ([], "it holds this run already; add --resume to continue it"),
        (["--sae.d-sae", 9, "--resume"], "options.sae.d_sae: 8 there, 9 here"),
        (["--sae.steps", 40, "--resume"], "options.sae.steps: 20 there, 40 here"),
    ):
        code, out, err = command("train_sae", *tiny("train_sae", "--out", folder, "--evaluate", *extra))
        assert (code, out) == (2, "")
        assert message in err
    code, out, err = command("train_gan", *tiny("train_gan", "--out", folder))
    assert code == 2
    assert "script: 'sae' there, 'gan' here" in err
    assert tree(folder) == before

    # A finished run resumed is scored and shown again, and trains no more.
    resumed = command("train_sae", *tiny("train_sae", "--out", folder, "--evaluate", "--resume"))
    assert (resumed.code, resumed.err) == (0, "")
    after = tree(folder)
    assert {name for name in before if after[name] != before[name]} <= {"curves.png"}
    assert after.keys() == before.keys()


@pytest.mark.parametrize("script", [*SCRIPTS, "sample"])
def test_help_names_every_default(script: str) -> None:
    code, out, err = command(script, "--help" if script == "sample" else "--help-all")
    assert (code, err) == (0, "")
    assert not CONTROL.search(out)
    described = [text for text in re.split(r"\n[ │]+(?=-)", out)[1:] if not text.startswith(("-h,", "---"))]
    assert len(described) >= 6
    for option in described:
        assert re.search(r"\((default:\s.*|required)\)", option, re.DOTALL), option
    if script != "sample":
        assert "(default: digits)" in out
        for preset in ("digits", "mnist-cpu", "mnist-gpu", "tutorial"):
            assert f"\n  {preset}: " in out


# Samples


def sampled(out: Path) -> dict[str, np.ndarray]:
    with np.load(out.with_suffix(".npz")) as file:
        return dict(file)


def draw(run: Path, out: Path, *arguments: object) -> dict[str, np.ndarray]:
    code, said, err = command("sample", "--run", run, "--out", out, *arguments)
    assert (code, err) == (0, "")
    assert said.count("\n") == 1
    return sampled(out)


@pytest.mark.parametrize("script", SCRIPTS)
def test_samples_need_the_run_folder_alone_and_leave_it_alone(
    script: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_data(*arguments: object, **options: object) -> None:
        raise AssertionError("the data set was loaded")

    monkeypatch.setattr(saegan_jax.data, "load", no_data)
    monkeypatch.setattr(saegan_jax.runs.session, "load", no_data)
    # A checkpoint that a training is writing at the moment.
    phase = "sae" if script == "train_sae" else "gan"
    (runs[script] / "checkpoints" / phase / "30.orbax-checkpoint-tmp").mkdir(exist_ok=True)
    before = tree(runs[script])
    members = 2 if script == "train_saegan" else 1
    drawn = draw(runs[script], tmp_path / "a.png", "--n", 20)
    assert drawn["images"].shape == (20 * members, 8, 8, 1)
    assert drawn["images"].dtype == np.uint8
    assert len(np.unique(drawn["images"].reshape(len(drawn["images"]), -1), axis=0)) > 4
    np.testing.assert_array_equal(drawn["member"], np.repeat(np.arange(members), 20))
    assert (drawn["seed"], drawn["step"], drawn["run"]) == (0, 20, script)
    assert tree(runs[script]) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "a.png"]


def test_the_same_seed_gives_the_same_bytes_in_any_process(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = runs["train_saegan"]
    other = start("sample", "--run", run, "--n", 600)
    first = draw(run, tmp_path / "a.png", "--n", 600)
    assert finished(other).code == 0
    for suffix in (".png", ".npz"):
        default = tmp_path / f"train_saegan-step20-seed0{suffix}"
        assert default.read_bytes() == (tmp_path / "a.png").with_suffix(suffix).read_bytes()
    assert not np.array_equal(draw(run, tmp_path / "b.png", "--n", 600, "--seed", 1)["images"], first["images"])
    assert not np.array_equal(draw(run, tmp_path / "c.png", "--n", 600, "--step", 10)["images"], first["images"])
    assert sampled(tmp_path / "c.png")["step"] == 10
    # One member alone draws what it draws among the others.
    for member in (0, 1):
        own = draw(run, tmp_path / "d.png", "--n", 600, "--member", member)
        np.testing.assert_array_equal(own["images"], first["images"][first["member"] == member])
        assert set(own["member"]) == {member}


def test_samples_are_those_that_the_training_drew(runs: dict[str, Path], tmp_path: Path) -> None:
    draw(runs["train_gan"], tmp_path / "a.png", "--n", 64, "--seed", saegan_jax.runs.session.SAMPLE_SEED)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), pixels(runs["train_gan"] / "samples" / "gan-0000020.png"))


def test_a_picture_of_many_shows_some_and_of_members_keeps_them_apart(runs: dict[str, Path], tmp_path: Path) -> None:
    assert len(draw(runs["train_gan"], tmp_path / "many.png", "--n", 1500)["images"]) == 1500
    assert pixels(tmp_path / "many.png").shape == (32 * 58 + 2, 32 * 58 + 2)
    draw(runs["train_saegan"], tmp_path / "two.png", "--n", 20)
    picture = pixels(tmp_path / "two.png")
    assert picture.shape == (5 * 58 + 2, 16 * 58 + 2)  # two rows, an empty one, two rows
    assert (picture[2 * 58 + 2 : 3 * 58 + 2] == 255).all()
    assert not (picture[: 2 * 58] == 255).all()
    assert not (picture[3 * 58 + 2 :] == 255).all()


def test_samples_that_cannot_be_had(runs: dict[str, Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs["train_saegan"], tmp_path / "run"))
    out = ["--out", tmp_path / "a.png"]
    before = tree(run)
    for arguments, message in (
        (["--step", 7], "step = 7 cannot be used: "),
        (["--member", 2], "member = 2 cannot be used: the run has 2, counted from 0."),
        (["--member", -1], "member = -1 cannot be used: they are counted from 0."),
    ):
        code, said, err = command("sample", "--run", run, *out, *arguments)
        assert (code, said) == (2, "")
        assert err.count("\n") <= 6
        assert message in err
    assert tree(run) == before

    # The newest damaged: said, and the older one used.
    for file in (run / "checkpoints" / "gan" / "20").rglob("d/*"):
        file.write_bytes(b"")
    code, said, err = command("sample", "--run", run, *out)
    assert code == 0
    assert err.startswith("Damaged checkpoints were skipped (step 20: ")
    assert sampled(tmp_path / "a.png")["step"] == 10

    shutil.rmtree(run / "checkpoints" / "gan")
    assert "nothing has been saved yet" in command("sample", "--run", run, *out).err
    config = json.loads((run / "config.json").read_text())
    for broken in (
        {**config, "script": "flow"},
        {**config, "options": 3},
        {k: v for k, v in config.items() if k != "options"},
    ):
        (run / "config.json").write_text(json.dumps(broken))
        code, said, err = command("sample", "--run", run, *out)
        assert code == 2
        assert "is not that of a run that this version can read" in err
    assert not (run / "checkpoints" / "gan").exists()


def test_the_autoencoder_of_a_run_is_exported_and_read_back(runs: dict[str, Path], tmp_path: Path) -> None:
    for script, member, d_sae in (("train_sae", 0, 8), ("train_saegan", 1, 8)):
        outcome = command("export_sae", "--run", runs[script], "--out", tmp_path / script, "--member", member)
        assert outcome.code == 0, outcome.err
        config, params, shape = import_sae(tmp_path / script)
        assert (config.d_sae, shape) == (d_sae, (8, 8, 1))
        restored = restore_run(runs[script])
        trained = restored.state.params if script == "train_sae" else restored.state.pretrained.sae
        own = trained["params"]["W_enc"] if script == "train_sae" else trained["params"]["W_enc"][1]
        np.testing.assert_array_equal(params["params"]["W_enc"], own)
    again = command("export_sae", "--run", runs["train_sae"], "--out", tmp_path / "train_sae")
    assert again.code == 2
    assert "overwrite" in again.err
    plain = command("export_sae", "--run", runs["train_gan"], "--out", tmp_path / "gan")
    assert plain.code == 2
    assert "it is a GAN, without" in plain.err
    assert not (tmp_path / "gan").exists()


# Recipes and classes


def test_a_recipe_comes_with_its_settings_and_the_user_has_the_last_word() -> None:
    preset = PRESETS["mnist-cpu"].model.gan
    for name, settings in RECIPES.items():
        chosen = parse(TrainGAN, ["--dataset", "mnist", "--recipe", name])
        assert chosen.recipe == name
        assert chosen.gan == dataclasses.replace(preset, **settings)
        assert parse(TrainSAEGAN, ["--dataset", "mnist", f"--recipe={name}"]).model.gan == chosen.gan
    assert set(RECIPES) == {"preset", "r3gan", "dcgan", "wgan_gp", "sngan"}
    mine = parse(TrainGAN, ["--recipe", "wgan_gp", "--gan.beta1", "0.5", "--gan.d-steps", "4", "--preset", "tutorial"])
    want = {**RECIPES["wgan_gp"], "beta1": 0.5, "d_steps": 4}
    assert mine.gan == dataclasses.replace(PRESETS["tutorial"].model.gan, **want)
    # Before it, too: the order on the command line does not matter.
    assert parse(TrainGAN, ["--gan.beta1", "0.5", "--recipe", "wgan_gp"]).gan.beta1 == 0.5


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"preset"}))
def test_every_recipe_trains(name: str, tmp_path: Path) -> None:
    short = ["--log-every", 1, "--save-every", 2, "--picture-every", 2, "--gan.steps", 2, "--gan.batch-size", 20]
    small = ["--gan.width", 2, "--gan.stages", 1, "--gan.blocks", 1]
    arguments = tiny("train_gan", *short, *small, "--recipe", name, "--out", tmp_path / "run")
    code, _, err = command("train_gan", *arguments)
    assert (code, err) == (0, "")
    rows = metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == [1, 2]
    assert all(np.isfinite(value) for row in rows for key, value in row.items() if key != "phase")
    penalties = {key: rows[0][key] for key in ("r1", "r2", "penalty")}
    assert {key for key, value in penalties.items() if value} == {
        "r3gan": {"r1", "r2"},
        "wgan_gp": {"penalty"},
    }.get(name, set())
    told = json.loads((tmp_path / "run" / "config.json").read_text())["options"]
    assert told["gan"]["loss"] == RECIPES[name]["loss"]
    assert told["gan"]["batch_size"] == 20
    assert "recipe" not in told  # its settings are there


def test_a_conditional_run_draws_the_class_asked_for(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # A high rate, so that classes differ after a few steps.
    options = [*QUICK_TO_COMPILE, "--gan.conditional", "--gan.learning-rate", 0.05, "--gan.ema-half-life", 0]
    code, _, err = command("train_gan", *tiny("train_gan", *options, "--out", folder))
    assert (code, err) == (0, "")
    restored = restore_run(folder)
    assert restored.n_classes == 10
    assert restored.state.class_count.sum() == 10 + 20 * 16
    three = draw(folder, tmp_path / "three.png", "--n", 12, "--label", 3)["images"]
    key = jax.random.fold_in(jax.random.key(0), 0)
    for label in (3, 8):
        own = restored.algorithm.sample(restored.state, key, 12, label=jnp.full(12, label, jnp.int32))
        same = np.abs(np.rint(np.asarray(own) * 255) - three.astype(np.float64)).max() <= 1
        assert same == (label == 3)
    mixed = draw(folder, tmp_path / "all.png", "--n", 12)["images"]
    assert not np.array_equal(mixed, three)
    for run, label, message in (
        (folder, 10, "label = 10 cannot be used: the run knows the classes 0 to 9."),
        (folder, -1, "label = -1 cannot be used: they are counted from 0."),
        (runs["train_gan"], 3, "label = 3 cannot be used: the run knows no classes; train with --gan.conditional."),
        (runs["train_saegan"], 3, "label = 3 cannot be used: the run knows no classes; train with --gan.conditional."),
        (runs["train_sae"], 3, "label = 3 cannot be used: the run knows no classes"),
    ):
        code, said, err = command("sample", "--run", run, "--out", tmp_path / "no.png", "--label", label)
        assert (code, said) == (2, "")
        assert err.count("\n") <= 6
        assert message in err
    assert not (tmp_path / "no.png").exists()


def test_a_convolutional_autoencoder(tmp_path: Path) -> None:
    patches = ["--sae.patch-size", 4, "--sae.k", 2, "--sae.variant", "topk"]
    outcome = command("train_sae", *tiny("train_sae", "--out", tmp_path / "run", *patches))
    assert outcome.code == 0, outcome.err
    l0 = json.loads((tmp_path / "run" / "summary.json").read_text())["rows"]["SAE L0"]
    assert l0["unit"] == "of 4 x 4 x 8 units"
    assert 2 < l0["values"][0] <= 4 * 4 * 2  # two at every position, over all positions
    assert sizes(tmp_path / "run")["dictionary.png"] == (
        3 * 58 + 2,
        3 * 58 + 2,
    )  # eight patches of 4x4, 14 times enlarged


def test_a_variant_comes_with_what_it_wants_unless_the_user_says_otherwise() -> None:
    chosen = parse(TrainSAE, ["--sae.variant", "topk", "--sae.auxk", "0", "--dataset", "mnist"]).sae
    assert (chosen.variant, chosen.pre_bias, chosen.k, chosen.auxk, chosen.decoder_norm) == (
        "topk",
        "mean",
        20,
        0.0,
        1.0,
    )
    assert chosen.d_sae == PRESETS["mnist-cpu"].model.sae.d_sae
    assert parse(TrainSAE, ["--dataset", "mnist"]).sae == PRESETS["mnist-cpu"].model.sae
    assert parse(TrainSAEGAN, ["--sae.variant", "gated"]).model.sae.pre_bias == "mean"
    assert all(parse(TrainSAE, ["--sae.variant", name]).sae.variant == name for name in VARIANTS)


def test_compiled_programs_are_kept_beside_the_feature_networks_unless_jax_was_told_where(monkeypatch, tmp_path):
    monkeypatch.setenv("SAEGAN_JAX_CACHE", str(tmp_path / "cache"))
    names = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = {name: getattr(jax.config, name) for name in names}
    try:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
        keep_compiled()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
        jax.config.update("jax_compilation_cache_dir", None)
        keep_compiled()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache" / "xla")
        assert jax.config.jax_persistent_cache_min_compile_time_secs < 0.5  # JAX's own 1 s would leave most out
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
