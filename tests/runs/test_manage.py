"""`saegan runs`: what is listed, compared and deleted, of folders made without any training."""

import io
import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers import filled
from rich.console import Console

from saegan_jax import cli
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.errors import ConfigError
from saegan_jax.runs import prune as pruning
from saegan_jax.runs import records
from saegan_jax.runs.listing import differences
from saegan_jax.runs.manage import ListRuns, parse_options
from saegan_jax.runs.options import TrainGAN, TrainSAE
from saegan_jax.runs.records import age, complete_steps, read_record, size_text
from saegan_jax.runs.session import open_run, recorded_options
from saegan_jax.training.checkpoint import Checkpoints
from saegan_jax.training.run_folder import lock_run
from saegan_jax.training.systems import abstract_system

SHAPE = (8, 8, 1)
SAE = SAEConfig(d_sae=4, k=1, steps=30, batch_size=4)


def write_run(folder: Path, *, k: int = 1, rows: dict | None = None, last: int = 0) -> Path:
    """A run of `saegan train sae` on the digits, without its checkpoints."""
    options = recorded_options(TrainSAE(sae=SAEConfig(d_sae=4, k=k, steps=30, batch_size=4), log_every=10))
    config = {"script": "sae", "version": "0.1.0", "image_shape": list(SHAPE), "num_classes": 10, "options": options}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text(
        "".join(f'{{"phase": "sae", "step": {s}}}\n' for s in range(10, last + 1, 10))
    )
    if rows is not None:
        (folder / "summary.json").write_text(json.dumps({"device": "cpu:0", "rows": rows, "alarms": []}))
    return folder


def row(*values: float | None, floor: float | None = None) -> dict:
    return {"values": values, "unit": "ratio", "note": "", "floor": floor}


def save(folder: Path, *steps: int) -> Path:
    """Real checkpoints of these steps."""
    _, shapes = abstract_system(SAE, image_shape=SHAPE, n_seeds=1)
    with Checkpoints(folder / "checkpoints" / "sae", keep=9) as checkpoints:
        for step in steps:
            checkpoints.save(step, filled(shapes), {})
    return folder


def said(*words: object, width: int = 60) -> str:
    out = io.StringIO()
    parse_options([str(word) for word in words]).act(Console(file=out, width=width, highlight=False))
    return out.getvalue()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """One run with checkpoints for all tests that leave it as it is."""
    return save(write_run(tmp_path_factory.mktemp("saved") / "run", last=20), 10, 20)


def test_every_state_is_told(tmp_path, saved):
    assert read_record(saved).state == "stopped"
    assert (read_record(saved).phase, read_record(saved).step, read_record(saved).steps) == ("sae", 20, 30)
    done = save(write_run(tmp_path / "done", rows={"SAE FVU": row(0.5)}, last=30), 30)
    assert read_record(done).state == "finished"
    with lock_run(done):
        assert (read_record(done).state, read_record(done).step) == ("running", 30)
    longer = save(write_run(tmp_path / "longer", rows={"SAE FVU": row(0.5)}, last=20), 20)
    assert (read_record(longer).state, read_record(longer).step) == ("stopped", 20)
    broken = write_run(tmp_path / "broken", last=10)
    event = {"phase": "sae", "step": 10, "member": 0, "kind": "non-finite", "state": "begins"}
    (broken / "alarms.jsonl").write_text(json.dumps(event) + "\n")
    assert read_record(broken).state == "failed"
    (broken / "alarms.jsonl").write_text(f"{json.dumps(event)}\n{json.dumps(event | {'state': 'ends'})}\n")
    assert read_record(broken).state == "stopped"


def test_a_run_without_scores_at_its_last_step_is_trained(tmp_path):
    assert read_record(save(write_run(tmp_path / "run", last=30), 30)).state == "trained"


def test_a_running_one_is_where_its_last_whole_row_is(tmp_path):
    run = write_run(tmp_path / "run", last=20)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"phase": "sae", "st')
    with lock_run(run):
        assert read_record(run).step == 20


def test_rows_fit_a_narrow_terminal_and_are_lines_of_a_wide_one(tmp_path):
    scores = {"Frechet / floor": row(1.0, 2.0), "memorisation": row(0.5, 0.5, floor=0.51), "SAE L0": row(None, 3.0)}
    text = json.dumps({"rows": scores, "non_finite": {"rows.SAE L0.values[0]": "nan"}})
    (write_run(tmp_path / "a" / ("long" * 20)) / "summary.json").write_text(text)
    write_run(tmp_path / "b")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "bert"}')
    narrow, wide = said(tmp_path, width=60), said(tmp_path, width=300)
    assert max(map(len, narrow.splitlines())) == 60
    assert "sae, digits, stopped" in narrow
    assert len(wide.splitlines()) == 3
    line = next(line for line in wide.splitlines() if line.startswith("a/longlong"))
    for part in ("Frechet", "memorisation", "size"):
        assert part in wide
    for part in ("1.5 [", "0.5 [0.5, 0.5] (floor 0.51)", " s ago"):
        assert part in line
    assert "other" not in wide


def test_a_damaged_run_does_not_hide_the_others(tmp_path, capsys):
    write_run(tmp_path / "good")
    (write_run(tmp_path / "bad") / "config.json").write_text("{")
    assert "good" in said(tmp_path)
    assert "its config.json is damaged" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"run = '.*bad' cannot be used: its config\.json is damaged"):
        said(tmp_path / "bad")


def test_settings_that_differ_and_scores_are_side_by_side(tmp_path):
    a = write_run(tmp_path / "a", rows={"SAE FVU": row(0.25), "memorisation": row(0.5, floor=0.51)})
    b = write_run(tmp_path / "b", k=2, rows={"SAE FVU": row(0.75), "ELBO": row(-3.0)})
    lines = [line.split() for line in said("compare", a, b, width=100).splitlines()]
    assert ["sae.k", "1", "2"] in lines
    assert ["SAE", "FVU", "0.25", "0.75"] in lines
    assert ["memorisation", "0.5", "(floor", "0.51)"] in lines
    assert ["ELBO", "-3"] in lines
    assert max(map(len, said("compare", a, b).splitlines()[3:])) <= 60
    assert "The configurations are equal." in said("compare", a, a)
    assert f"No scores yet: {write_run(tmp_path / 'c')}" in said("compare", a, tmp_path / "c")
    assert differences({"options": {"x": 1}}, {"y": {"z": 2}}) == [("x", 1, "unset"), ("y.z", "unset", 2)]


def test_old_checkpoints_are_deleted_and_the_newest_stays(tmp_path):
    run = save(write_run(tmp_path / "run", last=30), 10, 20, 30)
    assert "would delete sae/10 (" in said("prune", run, "--keep", 2, "--dry-run")
    assert complete_steps(run, "sae") == [10, 20, 30]
    text = said("prune", run, run, "--keep", 2)
    assert "run: deleted sae/10 (" in text
    assert "kept sae/20, sae/30" in text
    assert "nothing to delete" not in text
    assert "deleted sae/20" in said("prune", run)
    assert "nothing to delete; kept sae/30" in said("prune", run, "--keep", 5)
    assert [path.name for path in (run / "checkpoints").rglob("*") if path.parent.name in ("checkpoints", "sae")] == [
        "sae",
        "30",
    ]


def test_what_an_interrupted_deletion_left_is_no_checkpoint_and_goes_next_time(tmp_path, monkeypatch):
    run = save(write_run(tmp_path / "run"), 10, 20)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pruning.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            said("prune", run)
    assert complete_steps(run, "sae") == [20]
    assert ".deleted-sae-10" in os.listdir(run / "checkpoints")
    assert read_record(run).phase == "sae"
    assert "deleted .deleted-sae-10" in said("prune", run)
    assert os.listdir(run / "checkpoints") == ["sae"]


def test_nothing_is_deleted_where_the_newest_cannot_be_read(tmp_path):
    run = save(write_run(tmp_path / "run"), 10, 20)
    for path in (run / "checkpoints" / "sae" / "20" / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(b"damaged")
    text = " ".join(said("prune", run).split())
    assert "nothing to delete; kept all of sae, whose newest cannot be read (" in text
    assert "cannot be read (step" not in text
    assert "left as it is" not in text
    assert complete_steps(run, "sae") == [10, 20]


def test_what_may_not_be_read_or_is_gone_meanwhile_is_named_beside_the_other_runs(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "a", last=10)
    (write_run(tmp_path / "b") / "metrics.jsonl").unlink()
    (tmp_path / "b" / "metrics.jsonl").mkdir()  # which nobody can open, root included
    shown = said(tmp_path, width=200)
    assert "a " in shown.splitlines()[1]
    assert len(shown.splitlines()) == 2
    assert "Is a directory" in capsys.readouterr().err
    gone = write_run(tmp_path / "c")
    monkeypatch.setattr(records, "complete_steps", lambda folder, phase: shutil.rmtree(folder) or [])
    with pytest.raises(FileNotFoundError):
        read_record(gone)


def test_a_run_that_is_made_longer_has_no_scores_of_the_shorter_one(tmp_path):
    def opened(steps: int) -> bool:
        gan = GANConfig(hidden=(4,), d_noise=2, steps=steps, batch_size=4)
        resume = (tmp_path / "run").exists()
        options = TrainGAN(
            gan=gan,
            dataset="digits",
            out=tmp_path / "run",
            resume=resume,
            log_every=10,
            save_every=10,
            picture_every=10,
        )
        with ExitStack() as stack:
            open_run(stack, options, name="gan", model=gan, phases={"gan": gan})
        return (tmp_path / "run" / "summary.json").exists()

    assert not opened(10)
    (tmp_path / "run" / "summary.json").write_text("{}")
    assert opened(10)
    assert not opened(20)


def test_of_a_run_that_a_process_holds_and_of_others_named_beside_it_nothing_is_deleted(tmp_path, saved):
    held = write_run(tmp_path / "held")
    with lock_run(held), pytest.raises(ConfigError, match="held' cannot be used: a process is training in it; nothing"):
        said("prune", saved, held)
    assert complete_steps(saved, "sae") == [10, 20]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], r"folder = 'none' cannot be used: there is no such folder"),
        (["empty"], r"folder = 'empty' cannot be used: there is no run in it or below it"),
        (["compare", "empty", "empty"], r"run = 'empty' cannot be used: there is no config\.json in it"),
        (["compare", "foreign", "foreign"], r"run = 'foreign' cannot be used: its config\.json is not that of a run"),
        (["prune", "foreign"], r"run = 'foreign' cannot be used: its config\.json is not that of a run"),
        (["prune", "empty"], r"run = 'empty' cannot be used: there is no config\.json in it"),
        (["prune", "unscored"], r"run = 'unscored' cannot be used: its config\.json is damaged"),
        (["compare", "scored", "scored"], r"run = 'scored' cannot be used: its summary\.json is damaged"),
    ],
)
def test_bad_input_is_one_paragraph(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("foreign").mkdir()
    Path("foreign/config.json").write_text('{"model_type": "bert"}')
    (write_run(Path("unscored")) / "config.json").write_text("[")
    (write_run(Path("scored")) / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match=message) as error:
        said(*words)
    assert "\n" not in str(error.value)


def test_the_command_is_found_and_lists_by_default():
    module, rest, words = cli.module_of(["runs"])
    assert words == "saegan runs"
    assert module.parse_options(rest) == ListRuns(folder=Path("runs"))


def test_ages_and_sizes_are_short():
    assert [age(0, now=now) for now in (3, 120, 7200, 200_000)] == ["3 s", "2 min", "2 h", "2 d"]
    assert [size_text(n) for n in (5, 2048, 50 * 2**20, 3 * 2**30)] == ["5 B", "2.0 KiB", "50 MiB", "3.0 GiB"]
