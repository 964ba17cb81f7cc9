"""Configurations to JSON and back, and which folders a run may write to."""

import dataclasses
import fcntl
import json
import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from command_line import tree

from saegan_jax.algorithms.sae import VARIANTS
from saegan_jax.errors import ConfigError
from saegan_jax.files import UNFINISHED, create_json, from_text, to_text, write_bytes, write_json
from saegan_jax.runs.options import RunOptions, TrainGAN, TrainSAE, TrainSAEGAN
from saegan_jax.runs.parse import parse
from saegan_jax.runs.presets import PRESETS
from saegan_jax.runs.session import recorded_options
from saegan_jax.training import run_folder
from saegan_jax.training.phase import check_schedule
from saegan_jax.training.run_folder import (
    Longer,
    check_folder,
    from_json,
    is_locked,
    lock_run,
    open_folder,
    read_config,
    tidy,
    to_json,
)

KINDS = (TrainSAE, TrainGAN, TrainSAEGAN)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_parses_is_consistent_and_comes_back_from_json(kind: type[RunOptions], preset: str) -> None:
    options = parse(kind, ["--preset", preset, "--seed", "3"])
    assert (options.preset, options.dataset, options.seed) == (preset, PRESETS[preset].dataset, 3)
    assert from_json(kind, json.loads(json.dumps(to_json(options)))) == options
    # What a run folder keeps is enough, too.
    assert from_json(kind, recorded_options(options)) == dataclasses.replace(options, preset="auto")
    model = getattr(options, "model", options)
    for phase in ("sae", "gan"):
        if hasattr(model, phase):
            every = {name: getattr(options, name) for name in ("log_every", "save_every", "picture_every")}
            check_schedule(phase, steps=getattr(model, phase).steps, **every)


def test_the_preset_is_chosen_by_name_or_by_data_set_and_options_win() -> None:
    assert parse(TrainGAN, []).preset == "digits"
    assert parse(TrainGAN, ["--dataset", "kmnist"]).preset == "mnist-cpu"
    assert parse(TrainGAN, ["--dataset=kmnist"]).dataset == "kmnist"
    tutorial = parse(TrainSAEGAN, ["--preset", "tutorial", "--gan.batch-size", "48", "--dataset", "digits"])
    assert tutorial.model.gan == dataclasses.replace(PRESETS["tutorial"].model.gan, batch_size=48)
    assert tutorial.model.sae == PRESETS["tutorial"].model.sae
    assert tutorial.dataset == "digits"


@pytest.mark.parametrize("preset", PRESETS)
def test_pairs_are_played_unless_another_critic_or_generator_is_named(preset: str) -> None:
    plain, pairs = PRESETS[preset].model, PRESETS[preset].pairs or PRESETS[preset].model
    named = ["--preset", preset]
    assert parse(TrainSAEGAN, named).model == pairs
    assert parse(TrainSAEGAN, [*named, "--discriminator", "ensemble"]).model == plain
    assert parse(TrainSAEGAN, [*named, "--discriminator=codes"]).model == dataclasses.replace(
        plain, discriminator="codes"
    )
    assert parse(TrainSAEGAN, [*named, "--generator-input", "gaussian"]).model.discriminator == "ensemble"
    # Systems without placements have none of it.
    assert parse(TrainSAE, named).sae == plain.sae
    assert parse(TrainGAN, named).gan == plain.gan
    # The units of the preset belong to its variant; another variant has its own starting values.
    own, other = parse(TrainSAEGAN, [*named, "--sae.variant", pairs.sae.variant]), VARIANTS["l1"].defaults
    assert own.model == pairs
    l1 = parse(TrainSAEGAN, [*named, "--sae.variant", "l1"]).model.sae
    assert l1 == dataclasses.replace(plain.sae, variant="l1", **other)


def test_other_values_than_the_defaults_survive_json() -> None:
    arguments = (
        "--generator-input sparse --discriminator codes --alignment 0.5 --code-hidden 7 9 --sae.variant l1 "
        "--gan.hidden --gan.loss hinge --gan.learning-rate 1e-07 --no-evaluate --seeds 4"
    )
    options = parse(TrainSAEGAN, arguments.split())
    assert options.model.code_hidden == (7, 9)
    assert options.model.gan.hidden == ()
    back = from_json(TrainSAEGAN, json.loads(json.dumps(to_json(options))))
    assert back == options
    assert isinstance(back.model.gan.hidden, tuple)


def test_an_unknown_setting_is_named_wherever_it_is() -> None:
    values = to_json(parse(TrainGAN, []))
    with pytest.raises(ConfigError, match=r"momentum = 0\.9 .*TrainGAN has no such setting"):
        from_json(TrainGAN, values | {"momentum": 0.9})
    values["gan"]["momentum"] = True
    with pytest.raises(ConfigError, match=r"momentum = True .*GANConfig has no such setting"):
        from_json(TrainGAN, values)


def test_values_from_json_are_validated_again() -> None:
    values = to_json(parse(TrainSAE, []))
    values["sae"]["rho"] = 1.5
    with pytest.raises(ConfigError, match=r"rho = 1\.5 "):
        from_json(TrainSAE, values)


CONFIG = {"script": "gan", "version": "1", "image_shape": [8, 8, 1], "options": {"seed": 0, "gan": {"hidden": [8]}}}


def folder_with(path: Path, *, config: Any = None, other: bool = False) -> Path:
    path.mkdir()
    if config is not None:
        (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if other:
        (path / "notes.txt").write_text("mine")
    return path


def changed(**options: Any) -> dict[str, Any]:
    return CONFIG | {"options": CONFIG["options"] | options}  # type: ignore[operator]


def test_folders_that_a_run_may_write_to(tmp_path: Path) -> None:
    check_folder(tmp_path / "new", CONFIG, resume=False)
    check_folder(folder_with(tmp_path / "empty"), CONFIG, resume=False)
    check_folder(folder_with(tmp_path / "run", config=CONFIG, other=True), CONFIG, resume=True)
    # The same configuration trained by another version of this package.
    check_folder(tmp_path / "run", CONFIG | {"version": "2"}, resume=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("content", "config", "resume", "message"),
    [
        ({}, CONFIG, True, r"resume = True .*holds no run to continue"),
        (None, CONFIG, True, r"resume = True .*holds no run to continue"),
        ({"other": True}, CONFIG, False, r"out = '.*folder' .*files that are no run"),
        ({"other": True}, CONFIG, True, r"out = '.*folder' .*files that are no run"),
        ({"config": CONFIG}, CONFIG, False, r"out = '.*folder' .*holds this run already; add --resume"),
        ({"config": CONFIG}, changed(seed=1), False, r"another configuration \(options\.seed: 0 there, 1 here\)"),
        ({"config": CONFIG}, changed(seed=1), True, r"another configuration \(options\.seed: 0 there, 1 here\)"),
        ({"config": CONFIG}, changed(gan={"hidden": [9]}), True, r"options\.gan\.hidden: \[8\] there, \[9\] here"),
        ({"config": CONFIG}, changed(new=1), True, r"options\.new: 'unset' there, 1 here"),
        ({"config": CONFIG}, changed(**{f"o{i}": 1 for i in range(7)}), True, r"; and 2 more\)"),
        ({"config": "{"}, CONFIG, True, r"config\.json is damaged"),
        ({"config": "[1]"}, CONFIG, True, r"config\.json is not that of a run"),
    ],
)
def test_folders_that_it_may_not(
    content: dict[str, Any] | None, config: dict[str, Any], resume: bool, message: str, tmp_path: Path
) -> None:
    if content is not None:
        folder_with(tmp_path / "folder", **content)
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=message):
        check_folder(tmp_path / "folder", config, resume=resume)
    assert tree(tmp_path) == before


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="it is a file"):
        check_folder(tmp_path / "file", CONFIG, resume=False)
    for path in (tmp_path / "file", tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=r"no config\.json in it"):
            read_config(path)


def test_the_configuration_is_written_once(tmp_path: Path) -> None:
    open_folder(tmp_path / "a" / "run", CONFIG)
    assert read_config(tmp_path / "a" / "run") == CONFIG
    open_folder(tmp_path / "a" / "run", changed(seed=9))
    assert read_config(tmp_path / "a" / "run") == CONFIG


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file.json"
    write_json(path, {"a": [1, 2]})
    assert json.loads(path.read_text()) == {"a": [1, 2]}
    assert path.stat().st_mode & 0o777 == 0o644

    def fail(*arguments: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"half")
    assert json.loads(path.read_text()) == {"a": [1, 2]}
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_json_has_no_numbers_that_are_not_finite(tmp_path: Path) -> None:
    value = {"rows": [{"a": 1.0, "b": math.nan}, {"c": (math.inf, 2)}], "name": "nan"}
    write_json(tmp_path / "file.json", value)
    text = (tmp_path / "file.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "rows": [{"a": 1.0, "b": None}, {"c": [None, 2]}],
        "name": "nan",
        "non_finite": {"rows[0].b": "nan", "rows[1].c[0]": "inf"},
    }
    back = from_text(text)
    assert math.isnan(back["rows"][0]["b"])
    assert back["rows"][1]["c"] == [math.inf, 2]
    assert set(back) == {"rows", "name"}
    with pytest.raises(ValueError, match=r"^\[1\]\.a is nan: JSON has no such number"):
        to_text([1.0, {"a": math.nan}])
    with pytest.raises(ValueError, match=r"^the value is -inf: "):
        to_text(-math.inf)


@dataclasses.dataclass(frozen=True)
class Inner:
    beta: float


@dataclasses.dataclass(frozen=True)
class Settings:
    sae: Inner


def test_settings_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^sae\.beta = inf cannot be used: it must be a finite number"):
        to_json(Settings(sae=Inner(beta=math.inf)))


def test_a_path_that_checkpoints_cannot_be_read_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^out = '.*run\[1\]' cannot be used: its path holds \["):
        check_folder(tmp_path / "run[1]", CONFIG, resume=False)


def test_a_folder_is_held_by_one_training_at_a_time(tmp_path: Path) -> None:
    open_folder(tmp_path, CONFIG)
    before = (tmp_path / "config.json").read_bytes()
    assert not is_locked(tmp_path)
    with lock_run(tmp_path):
        assert is_locked(tmp_path)
        assert read_config(tmp_path) == CONFIG  # whoever only reads may
        with pytest.raises(ConfigError, match="another process is training in it") as error, lock_run(tmp_path):
            pass
        assert error.value.field == "out"
        module = "saegan_jax.training.run_folder"
        script = (
            f"from pathlib import Path; from {module} import lock_run; lock_run(Path({str(tmp_path)!r})).__enter__()"
        )
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "another process is training in it" in other.stderr
    with lock_run(tmp_path):
        pass
    assert (tmp_path / "config.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_training_waits_for_whoever_only_tests_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_folder(tmp_path, CONFIG)
    with (tmp_path / "config.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        monkeypatch.setattr(run_folder.time, "sleep", lambda seconds: fcntl.flock(file, fcntl.LOCK_UN))
        with lock_run(tmp_path):
            assert is_locked(tmp_path)


def test_a_longer_run_goes_on_where_the_schedule_allows_it_and_else_the_message_says_why(tmp_path: Path) -> None:
    def config(steps: int, k: int = 3, first: int = 5) -> dict[str, Any]:
        return {"options": {"sae": {"steps": steps, "k": k}, "first": {"steps": first}}}

    folder, may, may_not = tmp_path / "run", Longer("options.sae.steps", ""), Longer("options.sae.steps", "it falls")
    open_folder(folder, config(20))
    assert check_folder(folder, config(40), resume=True, longer=may)
    assert not check_folder(folder, config(20), resume=True, longer=may)
    with pytest.raises(ConfigError, match="holds this run already; add --resume"):
        check_folder(folder, config(40), resume=False, longer=may)
    length = r"another length \(options\.sae\.steps: 20 there, 40 here\), and it cannot go on to this one: "
    with pytest.raises(ConfigError, match=length + r"it falls\. Name another --out"):
        check_folder(folder, config(40), resume=True, longer=may_not)
    for longer, wanted in (
        (may, config(10)),
        (may, config(40, first=6)),
        (None, config(40)),
        (may, config(20, first=6)),
    ):
        with pytest.raises(ConfigError, match=r"another length .*: only the last phase of a run may become longer"):
            check_folder(folder, wanted, resume=True, longer=longer)
    with pytest.raises(ConfigError, match=r"another configuration \(options\.sae\.k: 3 there, 4 here; "):
        check_folder(folder, config(40, k=4), resume=True, longer=may)


def test_what_a_kill_left_half_written_is_no_run_and_is_removed_by_who_holds_the_folder(tmp_path: Path) -> None:
    (tmp_path / f".config.json.abc{UNFINISHED}").write_text("{")
    assert not check_folder(tmp_path, CONFIG, resume=False)
    open_folder(tmp_path, CONFIG)
    tidy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_of_several_that_begin_a_run_at_once_one_writes_its_configuration(tmp_path: Path) -> None:
    path, barrier = tmp_path / "config.json", threading.Barrier(8)

    def begin(number: int) -> bool:
        barrier.wait()
        return create_json(path, {"number": number})

    with ThreadPoolExecutor(8) as threads:
        wrote = list(threads.map(begin, range(8)))
    assert sum(wrote) == 1
    assert json.loads(path.read_text()) == {"number": wrote.index(True)}
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
