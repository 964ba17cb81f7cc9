"""`saegan push` and `saegan pull`: folders that give the codes and samples of the run, their card, and a hub that is a fake."""

import json
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import saegan_jax
from saegan_jax.algorithms.energy import EnergyConfig
from saegan_jax.algorithms.energy.config import EnergyGANConfig
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.errors import ConfigError
from saegan_jax.report.card import data_name, shared_settings, without_folders
from saegan_jax.runs import pull, push
from saegan_jax.runs.options import TrainGAN, TrainSAE
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.runs.restore import Restored, restore_run
from saegan_jax.runs.session import recorded_options
from saegan_jax.training.checkpoint import Checkpoints
from saegan_jax.training.generators import GENERATOR_WEIGHTS, export_generator, import_generator
from saegan_jax.training.systems import abstract_system, draw

SHAPE = (4, 4, 1)
SAE = SAEConfig(variant="topk", d_sae=6, k=2)
GAN = GANConfig(hidden=(5,), d_noise=3, conditional=True)
ROWS = {
    "memorisation": {"values": [0.4, 0.75], "floor": 0.51, "unit": "probability", "note": "a|b"},
    "SAE L0": {"values": [3.0, None], "floor": None, "unit": "units", "note": ""},
}


def stored(folder: Path, script: str, options: Any, settings: Any) -> Path:
    """A run of two members whose state is random, saved as a training would."""
    config = {
        "script": script, "version": "0.0.9", "image_shape": list(SHAPE), "num_classes": 3,
        "options": recorded_options(options) | {"dataset": "folder:/home/someone/secret/cats"},
    }  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    summary = {"rows": ROWS, "non_finite": {"rows.SAE L0.values[1]": "nan"}}
    (folder / "summary.json").write_text(json.dumps(summary))
    _, shapes = abstract_system(settings, image_shape=SHAPE, n_seeds=2, n_classes=3)
    with Checkpoints(folder / "checkpoints" / script) as checkpoints:
        checkpoints.save(7, filled(shapes), config)
    return folder


def filled(shapes: Any) -> Any:
    """A state of these shapes."""
    rng = np.random.default_rng(0)

    def leaf(like: Any) -> Any:
        if jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0), like.shape)
        return jax.numpy.asarray(np.abs(rng.normal(scale=2, size=like.shape)).astype(like.dtype))

    return jax.tree.map(leaf, shapes)


def static(function: Any) -> Any:
    """``function(state, key, n, ...)`` compiled."""
    return jax.jit(function, static_argnums=2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    return {
        "sae": stored(root / "sae", "sae", TrainSAE(seeds=2, seed=5, sae=SAE), SAE),
        "gan": stored(root / "gan", "gan", TrainGAN(seeds=2, seed=5, gan=GAN), GAN),
    }


@pytest.fixture(scope="module")
def pushed(runs, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pushed")
    for name, run in runs.items():
        command = f"saegan train {name} --seeds 2"
        push.run(push.Push(run=run, out=root / name, member=1, licence="cc-by-4.0", command=command))
    return {name: root / name for name in runs}


def test_codes_are_those_of_the_run(runs, pushed):
    model = saegan_jax.from_pretrained(pushed["sae"])
    images = jax.random.uniform(jax.random.key(1), (3, *SHAPE))
    member = jax.tree.map(lambda leaf: leaf[1], restore_run(runs["sae"]).state.params)
    own = autoencoder(SAE, image_shape=SHAPE)
    codes = own.encode(member, images)
    assert (np.asarray(codes) > 0).any()
    np.testing.assert_array_equal(model.encode(images), codes)
    np.testing.assert_array_equal(model.decode(codes), own.decode(member, codes))


def test_samples_are_those_of_the_run_and_nothing_else_of_it_is_in_the_folder(runs, pushed):
    model = saegan_jax.from_pretrained(pushed["gan"])
    restored = restore_run(runs["gan"])
    member = jax.tree.map(lambda leaf: leaf[1], restored.state)
    expected = draw(restored.algorithm, member, seed=3, n=4, n_seeds=1)[0]
    assert expected.std() > 0
    np.testing.assert_array_equal(model.draw(n=4, seed=3), expected)
    labels = jax.numpy.asarray([0, 2], "int32")
    np.testing.assert_array_equal(
        model.sample(jax.random.key(0), 2, label=labels),
        static(restored.algorithm.sample)(member, jax.random.key(0), 2, label=labels),
    )
    assert {name.split("/")[0] for name in model.arrays} == {"ema", "class_count"}
    with pytest.raises(ConfigError, match="reads no codes; leave code out"):
        model.sample(jax.random.key(0), 2, code=labels)
    with pytest.raises(ConfigError, match="reads no codes; only sample it"):
        model.draw_codes(jax.random.key(0), 2)


def test_the_card_says_where_the_weights_are_from_and_names_no_folder(pushed):
    text = (pushed["gan"] / "README.md").read_text()
    assert text.startswith("---\nlicense: cc-by-4.0\n")
    for part in (
        "| data set | folder:cats |",
        "| seed | 6 (member 1 of 2 in the run) |",
        "| step | 7 |",
        "| trained with | saegan_jax 0.0.9 |",
        "| memorisation | 0.75 | 0.51 | 0.4 0.75 | probability | a\\|b |",
        "| SAE L0 | not finite |  | 3 not finite | units |  |",
        "| gan.hidden | [5] |",
        "```bash\nsaegan train gan --seeds 2\n```",
        "| dataset | folder:cats |",
    ):
        assert part in text
    assert "secret" not in text
    assert [without_folders(v) for v in (3, "mnist", "/a/b", "C:\\a\\b")] == [3, "mnist", "b", "b"]
    assert [data_name(v) for v in ("imagenet_resized/8x8", "vectors:/a/b")] == ["imagenet_resized/8x8", "vectors:b"]
    settings = {"dataset": "imagenet_resized/8x8", "start_from": "a/b", "beside": ["/a/b", "c"], "seed": 1}
    assert shared_settings(settings) == settings | {"start_from": "b", "beside": ["b", "c"]}


def test_scores_are_those_of_the_last_step_alone(runs, tmp_path):
    run = shutil.copytree(runs["gan"], tmp_path / "run")
    shutil.copytree(run / "checkpoints" / "gan" / "7", run / "checkpoints" / "gan" / "9")
    push.run(push.Push(run=run, out=tmp_path / "out", step=7))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "memorisation" not in card
    assert "## Training" not in card  # no command was given


def test_of_an_energy_based_gan_the_generator_is_taken(tmp_path):
    energy = EnergyConfig(sae=SAE, gan=EnergyGANConfig(hidden=(5,), d_noise=3))
    algorithm, shapes = abstract_system(energy, image_shape=SHAPE, n_seeds=1)
    restored = Restored(TRAININGS["energy"], None, energy, SHAPE, algorithm, shapes, 1, 7, 0)
    options = push.Push(run=tmp_path, out=tmp_path / "out")
    assert push.part_of(options, restored) == "generator"
    assert push.part_of(replace(options, part="sae"), restored) == "sae"
    alone = restored._replace(training=TRAININGS["sae"])
    assert push.part_of(options, alone) == "sae"


def test_codes_and_samples_of_a_generator_that_reads_codes_are_compiled_once_and_those_of_the_run(tmp_path):
    settings = SAEGANConfig(sae=SAE, gan=GANConfig(hidden=(5,), d_noise=3), code_hidden=(4,), generator_hidden=(4,))
    algorithm, shapes = abstract_system(settings, image_shape=SHAPE, n_seeds=1)
    state = filled(shapes)
    model = import_generator(export_generator(tmp_path, settings, state, image_shape=SHAPE))
    images, key = jax.random.uniform(jax.random.key(1), (3, *SHAPE)), jax.random.key(2)
    codes, drawn = model.encode(images), model.draw_codes(key, 3)
    own_codes, own_drawn = jax.jit(algorithm.encode)(state, images), static(algorithm.draw_codes)(state, key, 3)
    np.testing.assert_array_equal(codes, own_codes)
    np.testing.assert_array_equal(drawn, own_drawn)
    np.testing.assert_array_equal(
        model.sample(key, 3, code=codes), static(algorithm.sample)(state, key, 3, code=own_codes)
    )
    np.testing.assert_array_equal(model.draw(n=4, seed=3), draw(algorithm, state, seed=3, n=4, n_seeds=1)[0])

    traced: list[str] = []

    def noted(name: str) -> Any:
        function = getattr(algorithm, name)
        return lambda *rest, **given: traced.append(name) or function(*rest, **given)

    names = "encode", "draw_codes", "sample"
    model = replace(model, algorithm=algorithm._replace(**{name: noted(name) for name in names}))
    for seed in range(3):
        model.encode(images + seed)
        model.draw_codes(jax.random.key(seed), 3)
        model.sample(jax.random.key(seed), 3, code=codes)
    assert sorted(traced) == sorted(names)
    model.draw(n=4, seed=1)
    model.draw(n=4, seed=2)
    assert traced.count("sample") == 2


def test_what_is_there_is_not_replaced_unless_asked(runs, pushed):
    again = push.Push(run=runs["gan"], out=pushed["gan"], member=1)
    with pytest.raises(ConfigError, match=r"it has generator\.json and generator\.safetensors already"):
        push.run(again)
    with pytest.raises(ConfigError, match=r"it holds the other part of a run \(cfg\.json\)"):
        push.run(push.Push(run=runs["gan"], out=pushed["sae"]))


def test_a_run_without_the_part_is_refused(runs, tmp_path):
    with pytest.raises(ConfigError, match="without a sparse autoencoder"):
        push.run(push.Push(run=runs["gan"], out=tmp_path / "out", part="sae"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("generator.json", b"{", r"generator\.json is missing or damaged"),
        ("generator.json", b'{"format": 2, "system": "gan"}', "of format 2, and this version reads 1"),
        ("generator.json", b'{"format": 1, "system": "x"}', "a system 'x', which this version does not know"),
        ("generator.json", b'{"format": 1, "system": "gan", "settings": {"x": 1}}', "does not describe a generator"),
        ("generator.safetensors", b"x", r"generator\.safetensors is missing or damaged"),
    ],
)
def test_damaged_files_are_named(pushed, tmp_path, name, content, message):
    folder = shutil.copytree(pushed["gan"], tmp_path / "copy")
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        saegan_jax.from_pretrained(folder)


def test_arrays_that_do_not_fit_are_named(pushed, tmp_path):
    folder = shutil.copytree(pushed["gan"], tmp_path / "copy")
    config = json.loads((folder / "generator.json").read_text())
    config["settings"]["d_noise"] = 4
    (folder / "generator.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"does not fit its settings: ema/params/.*kernel is float32\(.*expected"):
        saegan_jax.from_pretrained(folder)
    (folder / "generator.json").unlink()
    with pytest.raises(ConfigError, match=r"neither cfg\.json nor generator\.json"):
        saegan_jax.from_pretrained(folder)


def fake_hub(kept: Path) -> types.ModuleType:
    """A hub of one repository, in a folder."""

    class HfApi:
        def create_repo(self, *, repo_id: str, private: bool, exist_ok: bool) -> None:
            assert (repo_id, private, exist_ok) == ("me/gan", True, True)
            kept.mkdir()

        def upload_folder(self, *, repo_id: str, folder_path: str, allow_patterns: list[str]) -> None:
            for name in allow_patterns:
                if (Path(folder_path) / name).exists():
                    shutil.copy(Path(folder_path) / name, kept)

    def snapshot_download(*, repo_id: str, local_dir: str, allow_patterns: list[str]) -> None:
        if repo_id != "me/gan":
            raise OSError("404")
        shutil.copytree(kept, local_dir)

    module = types.ModuleType("huggingface_hub")
    module.HfApi, module.snapshot_download = HfApi, snapshot_download  # type: ignore[attr-defined]
    return module


def test_what_was_uploaded_is_downloaded(runs, pushed, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake_hub(tmp_path / "kept"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    push.run(
        push.parse_options([str(runs["gan"]), "--out", str(tmp_path / "out"), "--repo", "me/gan", "--member", "1"])
    )
    assert "uploaded to me/gan" in capsys.readouterr().out
    pull.run(pull.parse_options(["me/gan", "--out", str(tmp_path / "back")]))
    assert "Generator of 4x4x1, from me/gan" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == [
        "README.md", "generator.json", "generator.safetensors",
    ]  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "kept", "out"]
    weights = (tmp_path / "back" / GENERATOR_WEIGHTS).read_bytes()
    assert weights == (pushed["gan"] / GENERATOR_WEIGHTS).read_bytes()
    with pytest.raises(ConfigError, match="it is there and not empty; name a new folder"):
        pull.run(pull.Pull(name="me/gan", out=tmp_path / "back"))


def test_a_failed_download_leaves_nothing_in_the_way(pushed, tmp_path, monkeypatch):
    kept, out = tmp_path / "kept", tmp_path / "new" / "out"
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake_hub(kept))
    shutil.copytree(pushed["gan"], kept)
    config = (kept / "generator.json").read_bytes()
    (kept / "generator.json").write_bytes(b"{")
    with pytest.raises(ConfigError, match=r"name = 'me/gan' cannot be used: its generator\.json is missing or damaged"):
        pull.run(pull.Pull(name="me/gan", out=out))
    with pytest.raises(OSError, match="404"):
        pull.run(pull.Pull(name="me/other", out=out))
    assert list(out.parent.iterdir()) == []
    (kept / "generator.json").write_bytes(config)
    out.mkdir()
    pull.run(pull.Pull(name="me/gan", out=out))
    assert (out / "generator.json").read_bytes() == config


def test_without_the_package_nothing_is_written(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"repo = 'me/gan' .* pip install 'saegan_jax\[hub\]'"):
        push.run(push.Push(run=runs["gan"], out=tmp_path / "out", repo="me/gan"))
    with pytest.raises(ConfigError, match=r"name = 'me/gan' .* needs the package huggingface_hub"):
        pull.run(pull.Pull(name="me/gan", out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_names_and_licences_that_cannot_be_meant():
    with pytest.raises(ConfigError, match=r"repo = 'a b' cannot be used: it is no name of a repository"):
        push.Push(run=Path("run"), out=Path("out"), repo="a b")
    with pytest.raises(ConfigError, match=r"licence = 'MIT\\nx: y' cannot be used"):
        push.Push(run=Path("run"), out=Path("out"), licence="MIT\nx: y")
    with pytest.raises(ConfigError, match=r"command = 'a\\nb' cannot be used: it is one line"):
        push.Push(run=Path("run"), out=Path("out"), command="a\nb")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = saegan_jax.nothing
