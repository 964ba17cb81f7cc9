"""Experiment trackers: what reaches them, what is refused, and that a training does not depend on them."""

import json
import sys
import types

import numpy as np
import pytest

from saegan_jax.errors import ConfigError
from saegan_jax.training import trackers
from saegan_jax.training.trackers import IDENTITY, TRACKERS, import_tracker, start_tracking
from saegan_jax.training.writers import MetricsWriter, read_metrics


class Fake(types.ModuleType):
    """A package with what wandb and trackio have in common, which keeps what it is given."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.begun: list[dict] = []
        self.logged: list[dict] = []
        self.alerts: list[tuple[str, str]] = []
        self.finished = 0
        self.broken: Exception | None = None
        self.Settings = dict
        self.Image = lambda path: ("image", path)

    def init(self, **given):
        if self.broken:
            raise self.broken
        self.begun.append(given)
        return self

    def define_metric(self, *names, **settings): ...

    def log(self, values, step=None):
        if self.broken:
            raise self.broken
        sys.stdout.write("* logged")
        self.logged.append(values if step is None else {"step": step, **values})

    def alert(self, title, text):
        self.alerts.append((title, text))

    def finish(self):
        self.finished += 1


@pytest.fixture(params=list(TRACKERS))
def package(request, monkeypatch):
    fake = Fake(request.param)
    monkeypatch.setitem(sys.modules, request.param, fake)
    return fake


def begin(package, folder, said=None):
    tracked = start_tracking(package.__name__, folder, {"options.seed": 3}, ([] if said is None else said).append)
    assert tracked is not None
    return tracked


def test_every_kind_of_number_reaches_it(package, tmp_path, capsys):
    tracked = begin(package, tmp_path)
    writer = MetricsWriter(tmp_path, tracked)
    writer.write("sae", 10, {"loss": 0.5})
    writer.write("gan", 5, {"loss": [1.0, 2.0]})
    writer.write("gan-scores", 5, {"frechet": 3.0})
    writer.alarm("gan", {"kind": "collapse", "state": "begins", "member": 1, "step": 7})
    writer.alarm("gan", {"kind": "collapse", "state": "ends", "member": 1, "step": 8})
    writer.picture("gan", 5, tmp_path / "a.png")
    row = {"unit": "", "note": ""}
    writer.table({"recall": row | {"values": [0.5, 0.25], "floor": 1.0}, "L0": row | {"values": [2.0], "floor": None}})
    writer.close()
    tracked.finish()
    assert package.logged == [
        {"step": 10, "sae/loss": 0.5},
        {"step": 5, "gan/loss/seed_0": 1.0, "gan/loss/seed_1": 2.0},
        {"step": 5, "gan-scores/frechet": 3.0},
        {"step": 7, "gan-alarms/collapse/seed_1": 1.0},
        {"step": 8, "gan-alarms/collapse/seed_1": 0.0},
        {"step": 5, "gan/samples": ("image", str(tmp_path / "a.png"))},
        {"result/recall/seed_0": 0.5, "result/recall/seed_1": 0.25, "result/L0": 2.0, "result/recall floor": 1.0},
    ]
    assert package.alerts == [("gan: collapse, seed 1", "from step 7")]
    assert package.begun[0]["config"] == {"options.seed": 3}
    assert package.finished == 1
    assert capsys.readouterr().out == ""  # which is for the result
    assert [r["phase"] for r in read_metrics(tmp_path)] == ["sae", "gan", "gan-scores"]


def test_a_resumed_run_is_the_same_one(package, tmp_path):
    first = begin(package, tmp_path)
    assert not list(tmp_path.iterdir())  # a refused run leaves nothing
    first.keep_id(tmp_path)
    begin(package, tmp_path)
    begin(package, tmp_path / "another")
    names = [(given.get("id"), given["name"]) for given in package.begun]
    assert names[0] == names[1]
    assert names[0] != names[2]
    assert package.begun[1]["resume"] == "allow"
    assert json.loads((tmp_path / IDENTITY).read_text()) == {package.__name__: first.identity}


def test_ids_of_several_trackers_are_kept(tmp_path):
    (tmp_path / IDENTITY).write_text('{"other": "x"}')
    trackers.Tracked("wandb", None, "y", print).keep_id(tmp_path)  # type: ignore[arg-type]
    assert json.loads((tmp_path / IDENTITY).read_text()) == {"other": "x", "wandb": "y"}
    (tmp_path / IDENTITY).write_text("[")
    assert trackers.run_id(tmp_path, "wandb") not in ("x", "y")


def test_a_failure_is_said_once_and_the_rows_are_kept(package, tmp_path):
    said: list[str] = []
    writer = MetricsWriter(tmp_path, begin(package, tmp_path, said))
    package.broken = RuntimeError("no\nnetwork")
    for step in (1, 2):
        writer.write("gan", step, {"loss": float(np.float32(step))})
    writer.close()
    name = package.__name__
    assert said == [f"{name} failed (RuntimeError: no network) and is left out; the training goes on."]
    assert len(read_metrics(tmp_path)) == 2
    assert package.finished == 0


def test_what_cannot_start_is_refused(package, tmp_path):
    package.broken = RuntimeError("api_key not configured (no-tty)")
    message = f"tracker = '{package.__name__}' cannot be used: it cannot start .RuntimeError: api_key .* offline mode"
    with pytest.raises(ConfigError, match=message):
        begin(package, tmp_path)


def test_a_missing_package_is_refused_and_none_is_none(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)  # what an import of it then raises is an ImportError
    with pytest.raises(ConfigError, match=r"tracker = 'wandb' .* pip install wandb, or leave --tracker out"):
        import_tracker("wandb")
    with pytest.raises(ConfigError, match="did you mean wandb"):
        import_tracker("WandB")
    assert start_tracking("none", tmp_path, {}, print) is None
