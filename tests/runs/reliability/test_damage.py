"""Damage to a run folder: judged as it should be, and of every file of a checkpoint survived."""

import os
import random
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.files import write_json
from saegan_jax.runs.options import TrainGAN
from saegan_jax.runs.reliability import damage
from saegan_jax.runs.reliability.damage import HARMS, Case, checkpoint_cases, contents, damaged_checkpoint, mounted
from saegan_jax.runs.reliability.kills import Whole
from saegan_jax.runs.reliability.processes import Ended
from saegan_jax.runs.reliability.rows import damage_rows
from saegan_jax.runs.restore import abstract_phases
from saegan_jax.runs.session import recorded_options
from saegan_jax.training.checkpoint import Checkpoints, checksum, read_checksum

CONFIG = GANConfig(hidden=(64,), d_noise=3)


def filled(like: Any, seed: int) -> Any:
    """A state of these shapes."""
    rng = np.random.default_rng(seed)

    def leaf(x: Any) -> jax.Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.key(seed)
        return jnp.asarray(rng.normal(size=x.shape) * 10, x.dtype)

    return jax.tree.map(leaf, like)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never trained, with checkpoints of steps 5 and 10."""
    folder = tmp_path_factory.mktemp("run")
    options = recorded_options(TrainGAN(gan=CONFIG))
    write_json(
        folder / "config.json", {"script": "gan", "image_shape": [4, 4, 1], "num_classes": 2, "options": options}
    )
    (folder / "checkpoints" / "gan").mkdir(parents=True)
    (phase,) = abstract_phases(folder).values()
    with Checkpoints(folder / "checkpoints" / "gan") as checkpoints:
        for step in (5, 10):
            checkpoints.save(step, filled(phase, step), {})
    return folder


def test_a_flipped_bit_in_any_file_of_a_checkpoint_is_survived(run: Path) -> None:
    cases = list(checkpoint_cases("gan", run, random.Random(0), harms=["bit flipped"]))
    assert len(cases) >= 8
    assert [case for case in cases if case.fault] == []
    named = [case for case in cases if case.outcome == "named, the one before taken"]
    assert named


def test_what_is_not_survived_is_a_fault(run: Path, tmp_path: Path) -> None:
    folder = run / "checkpoints" / "gan"
    (like,) = abstract_phases(run).values()
    with Checkpoints(folder, read_only=True) as opened:
        sound = {step: checksum(opened.restore(like, step=step)[1]) for step in (5, 10)}  # type: ignore[index]
    (step, found), again = read_checksum(folder), read_checksum(folder)
    assert (step, found) == again == (10, found)
    assert damaged_checkpoint(folder, like, sound, contents(folder)) == ("harmless: the newest, equal to the bit", "")
    _, fault = damaged_checkpoint(folder, like, sound | {10: "0"}, contents(folder))
    assert fault == "step 10 is not what was saved"
    _, fault = damaged_checkpoint(folder, like, sound, contents(folder) | {"more": b""})
    assert fault == "files were changed"
    assert damaged_checkpoint(tmp_path, like, sound, {})[1] == "the older checkpoint was not taken"


@pytest.mark.parametrize("kind", HARMS)
def test_each_harm_changes_the_file(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"abc")
    HARMS[kind](file, random.Random(0))
    assert not file.exists() or file.read_bytes() != b"abc"


@pytest.mark.parametrize(
    ("code", "text", "wrong"),
    [
        (2, "error: out of room.\n", ""),
        (2, "Checkpoint gan/5 is damaged.\nerror: out of room.\n", ""),
        (1, "error: out of room.\n", "exit code 1"),
        (2, "Traceback\n  File x\nerror: y\n", "3 lines"),
        (2, "something\n", "no error:"),
    ],
)
def test_an_error_is_one_paragraph(code: int, text: str, wrong: str) -> None:
    found = damage.one_paragraph(code, text)
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)


@pytest.mark.parametrize(
    ("file", "differing", "outcome", "fault"),
    [
        ("metrics.jsonl", [], "resumed, equal", ""),
        ("metrics.jsonl", ["metrics"], "resumed, without lost metrics", ""),
        ("metrics.jsonl", ["metrics", "alarms"], "resumed, without lost metrics", "differs in alarms"),
        ("alarms.jsonl", ["metrics"], "resumed, equal", "differs in metrics"),
        ("config.json", ["metrics"], "resumed, equal", "differs in metrics"),
    ],
)
def test_of_a_damaged_file_only_its_own_rows_may_be_lost(
    file: str, differing: list[str], outcome: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = tmp_path / "half"
    half.mkdir()
    (half / file).write_text("x")
    monkeypatch.setattr(damage, "train", lambda *arguments: Ended(0, 1.0, ""))
    monkeypatch.setattr(damage, "fingerprint", lambda folder: dict.fromkeys(differing, 1))
    whole = Whole(1.0, 1.0, dict.fromkeys(differing, 0))
    cases = list(damage.run_file_cases("gan", tmp_path, half, whole, random.Random(0)))
    assert [case.kind for case in cases] == [f"run file, {kind}" for kind in HARMS]
    assert {(case.outcome, case.fault) for case in cases} == {(outcome, fault)}
    made = {(row.arm, row.metric): row for row in damage_rows(cases)}
    assert made[f"run file: {outcome}", "outcome"].mean == len(HARMS)


def test_what_could_not_be_tried_is_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "none") as impossible:
        assert impossible == "mounting needs root"
    cases = [Case(system="gan", kind="full disk", skipped=impossible), Case(system="gan", kind="full disk")]
    made = {(row.arm, row.metric): row for row in damage_rows(cases)}
    assert made["all", "cases"]["of"] == 1
    assert made["full disk: mounting needs root", "not tried"].mean == 1
