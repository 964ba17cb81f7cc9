"""Tiny trainings as processes: killed, asked to stop, and resumed to the same end."""

import importlib
import random
import signal
from pathlib import Path

import pytest

from saegan_jax.runs.registry import TRAININGS
from saegan_jax.runs.reliability import rows
from saegan_jax.runs.reliability.fingerprint import differences
from saegan_jax.runs.reliability.kills import Disturbance, Wish, disturb, moment, resumption, said, undisturbed
from saegan_jax.runs.reliability.processes import TINY, Ended, tiny
from saegan_jax.signals import LISTENER


def test_every_system_has_a_tiny_training_that_its_parser_understands():
    assert set(TINY) == set(TRAININGS)
    for system, training in TRAININGS.items():
        module = importlib.import_module(training.module)
        options = module.parse_options(tiny(system, "--out", "x", "--seed", 3))
        assert (options.out, options.seed, options.evaluate) == (Path("x"), 3, False)


def test_a_training_killed_and_asked_to_stop_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    whole = undisturbed("sae", tmp_path)
    wishes = [Wish(signal.SIGKILL), Wish(signal.SIGTERM), Wish(signal.SIGKILL)]
    found = disturb("sae", tmp_path / "run", whole, random.Random(1), wishes, 0)
    assert found
    assert [one.fault for one in found] == [""] * len(found)
    assert found[0].signal == "SIGKILL"
    assert not LISTENER.active


def test_what_a_killed_training_was_doing_is_seen_in_its_folder(tmp_path: Path) -> None:
    assert (moment(tmp_path), resumption(tmp_path)) == ("loading", [])
    (tmp_path / "config.json").touch()
    assert (moment(tmp_path), resumption(tmp_path)) == ("compiling", ["--resume"])
    (tmp_path / "checkpoints" / "sae" / "5").mkdir(parents=True)
    assert moment(tmp_path) == "training"
    (tmp_path / "checkpoints" / "sae" / "10.orbax-checkpoint-tmp").mkdir()
    assert moment(tmp_path) == "saving"
    (tmp_path / "summary.json").touch()
    assert moment(tmp_path) == "ending"


GOOD = "Stopped at step 5 of 80 of phase 'sae'; everything is saved. To continue: saegan train sae --resume"


@pytest.mark.parametrize(
    ("ended", "doing", "fault"),
    [
        (Ended(143, 0.5, GOOD), "training", ""),
        (Ended(0, 0.5, ""), "ended", ""),
        (Ended(130, 0.5, GOOD), "training", "exit code 130"),
        (Ended(143, 11.0, GOOD), "training", "11.0 s"),
        (Ended(143, 0.5, GOOD.split(" To")[0]), "training", "how to go on"),
        (Ended(143, 0.5, f"Traceback {GOOD}"), "training", "a traceback"),
        (Ended(143, 0.5, GOOD.replace("Stopped", "Ended")), "", "what was stopped"),
    ],
)
def test_an_answer_to_a_signal_is_judged(ended: Ended, doing: str, fault: str) -> None:
    found = said(ended, signal.SIGTERM)
    assert found[0] == doing
    assert fault in found[1]
    assert bool(found[1]) == bool(fault)


def test_counts_have_exact_intervals_and_faults_are_listed():
    one = {"system": "sae", "signal": "SIGKILL", "training": 0, "moment": "saving", "seconds": 0.0}
    found = [Disturbance(**one, fault=""), Disturbance(**(one | {"training": 1}), fault="lost")]
    made = {(row.arm, row.metric): row for row in rows.kill_rows(found)}
    row = made["sae", "SIGKILL"]
    assert (row["sound"], row["of"], row.mean) == (1, 2, 0.5)
    assert (row.low, row.high) == pytest.approx((0.0126, 0.9874), abs=1e-4)
    assert rows.shown(row) == "1 of 2"
    assert made["while saving", "SIGKILL"]["of"] == made["sae", "trainings"]["of"] == 2
    assert [fault["fault"] for fault in rows.faults_of(found)] == ["lost"]


def test_two_fingerprints_are_compared_part_by_part():
    assert differences({"arrays": 1, "metrics": 2}, {"arrays": 1, "metrics": 3}) == ["metrics"]
