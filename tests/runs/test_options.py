"""Every option of every command has a range: what cannot be meant is refused when the options are made, in one sentence."""

import dataclasses
import importlib
import math
import typing
from collections import namedtuple
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data import load
from saegan_jax.errors import ConfigError
from saegan_jax.evaluation.features import cache_folder
from saegan_jax.files import is_remote
from saegan_jax.runs.audit import AuditOptions
from saegan_jax.runs.checks import MOST_SEEDS, check_memory
from saegan_jax.runs.data import DataOptions
from saegan_jax.runs.export import Export
from saegan_jax.runs.invert import Invert
from saegan_jax.runs.manage import CompareRuns, ListRuns, PruneRuns
from saegan_jax.runs.pull import Pull
from saegan_jax.runs.push import Push
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.runs.report import Report
from saegan_jax.runs.sample import Sample
from saegan_jax.runs.translate import Translate
from saegan_jax.training import memory

STUDIES = {
    "audit_defects": "AuditDefects",
    "compare": "Compare",
    "control": "Control",
    "disentangle": "Disentangle",
    "gaussians": "Gaussians",
    "paper_tables": "PaperTables",
    "prior_gap": "PriorGap",
    "publish": "Publish",
    "reliability": "Reliability",
    "shift": "Shift",
    "stacked_mnist": "StackedMNIST",
    "steer": "Steer",
    "sweep_sae": "SweepSAE",
    "synth_bench": "SynthBench",
    "train_features": "TrainFeatures",
}
REQUIRED = {
    "run": Path("run"),
    "other": Path("other"),
    "name": "someone/something",
    "runs": (Path("run"),),
    "out": Path("out.json"),
    "command": "saegan train sae",
    "image": "a.png",
    "action": "list",
    "real": "digits",
    "fake": "fake.npz",
    "part": "kills",
}
KINDS = {
    **{t.options.__name__: t.options for t in TRAININGS.values()},
    **{
        kind.__name__: kind
        for kind in (
            *(Sample, Translate, Export, Report, Invert, DataOptions, AuditOptions),
            *(ListRuns, CompareRuns, PruneRuns, Push, Pull),
        )
    },
    **{name: getattr(importlib.import_module(f"experiments.{module}"), name) for module, name in STUDIES.items()},
}
SWEPT = {"rho", "beta", "k", "learning_rate"}
OFF = {
    *(
        "active_threshold",
        "alignment",
        "auxk",
        "beta",
        "beta1",
        "beta2",
        "beta_sparsity",
        "beta_warmup",
        "code_dropout",
        "constant_share",
    ),
    *("cycle", "decoder_norm", "dragan_penalty", "ema_half_life", "final_beta2", "final_gamma", "final_learning_rate"),
    *(
        "gradient_penalty",
        "hidden_weight",
        "history",
        "identity",
        "initial_threshold",
        "lambda_k",
        "lecam",
        "mix",
        "patch_size",
    ),
    *("probe_images", "pulling_away", "r1_gamma", "r2_gamma", "resample_every", "schedule_steps", "sparsity_warmup"),
    *("code_dropout", "concept_weight", "max_skipped", "roll_back", "semantic_weight", "spike_warmup", "weight_decay"),
}
ACCEPTED: list[tuple[str, Any, set[str]]] = [
    ("zero turns it off, or is a number like others", 0, OFF),
    ("counted from 0", 0, {"seed", "step", "member", "label", "layer"}),
    ("as wide as the generator", 0, {"d_width"}),
    ("no hidden layers", (), {"hidden", "d_hidden", "head_hidden", "code_hidden", "generator_hidden"}),
    (
        "the default",
        (),
        {"shift_hidden", "augment", "levels", "penalties", "hold_out_classes", "beside", "on", "off", "only", *SWEPT},
    ),
    ("the default", "", {"dataset"}),
    ("each member's settings check it, before any is trained", (-1,), SWEPT),
    (
        "a folder to read may be the current one",
        Path(),
        {"run", "other", "folder", "data_dir", "manual_dir", "cache_dir", "images", "start_from", "sae"},
    ),
]
"""Why, a value, and the fields that take it."""


def made(kind: type) -> Any:
    needed = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING}
    return kind(**{name: REQUIRED[name] for name in needed})


def wrong_values(hint: Any) -> list[Any]:
    """What is tried on a field of this type."""
    types = {hint} if typing.get_origin(hint) is tuple else {hint, *typing.get_args(hint)}
    items = {item for t in types if typing.get_origin(t) is tuple for item in typing.get_args(t)}
    if items:
        return [(), *([(-1,)] if items & {int, float} else []), *([(math.nan,)] if float in items else [])]
    if Path in types:
        return [Path(), Path("gs://bucket/run")]
    if bool in types:
        return []
    numbers = [-1.0, 0.0, math.inf, math.nan] if float in types else [-1, 0] if int in types else []
    return [*numbers, *([""] if str in types else [])]


def accepted(name: str, value: Any) -> bool:
    return any(value == known and name in names for _, known, names in ACCEPTED)


def fields_of(options: Any) -> list[tuple[Any, str, Any]]:
    """Owner, name and type of every option, those of its groups included."""
    found = []
    hints = typing.get_type_hints(type(options))
    for f in dataclasses.fields(options):
        value = getattr(options, f.name)
        if dataclasses.is_dataclass(value):
            found += fields_of(value)
        else:
            found.append((options, f.name, hints[f.name]))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_meant_is_refused_in_a_sentence(kind):
    found = []
    for owner, name, hint in fields_of(made(KINDS[kind])):
        for wrong in wrong_values(hint):
            if accepted(name, wrong):
                continue
            try:
                dataclasses.replace(owner, **{name: wrong})
            except ConfigError as error:
                if len(str(error)) < 400:
                    continue
            found.append((type(owner).__name__, name, wrong))
    assert found == []


def test_the_walk_reaches_every_kind_of_field():
    tried = {
        (type(owner).__name__, name): wrong_values(hint)
        for kind in KINDS.values()
        for owner, name, hint in fields_of(made(kind))
    }
    assert len(tried) > 150
    assert tried["TrainGAN", "out"] == [Path(), Path("gs://bucket/run")]
    assert tried["SweepSAE", "k"] == [(), (-1,)]
    assert len(tried["GANConfig", "learning_rate"]) == 4
    for _, value, names in ACCEPTED:
        for name in names:
            assert any(name == field and value in values for (_, field), values in tried.items()), (name, value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"out": Path("gs://bucket/run")},
            r"out = 'gs:/bucket/run' cannot be used: files are read and written",
        ),
        ({"out": Path()}, r"out = '\.' cannot be used: it is the current folder"),
        ({"out": Path("run\udcff")}, r"out = 'run\\udcff' cannot be used: its name is not UTF-8"),
        ({"seed": -1}, r"seed = -1 "),
        ({"seeds": MOST_SEEDS + 1}, r"seeds = 4097 cannot be used: train at least one and at most 4096"),
    ],
)
def test_the_message_names_the_option_and_the_way_out(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(made(KINDS["Gaussians"]), **changes)


def test_data_and_caches_are_on_this_machine():
    for name in ("data_dir", "manual_dir"):
        with pytest.raises(ValueError, match=f"{name}='gs://x/y' is not on this machine"):
            load("digits", **{name: "gs://x/y"})
    with pytest.raises(ConfigError, match="cache_dir = 's3:/x'"):
        cache_folder("s3://x")
    assert not is_remote("C:/runs")
    assert not is_remote("runs/a:b")


def test_a_state_larger_than_the_memory_is_refused():
    with pytest.raises(ConfigError, match=r"one seed take [\d,.]+ GiB, and the device has .*; use fewer units"):
        check_memory(SAEConfig(d_sae=2_000_000_000), image_shape=(8, 8, 1), n_seeds=1)
    with pytest.raises(ConfigError, match=r"seeds = 1000000 .* train at most \d+ at once"):
        check_memory(SAEConfig(d_sae=10_000), image_shape=(8, 8, 1), n_seeds=1_000_000)
    check_memory(SAEConfig(d_sae=64), image_shape=(8, 8, 1), n_seeds=8)


def test_members_take_turns_and_devices_share_what_must_fit_the_memory(monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: 1000)
    member = namedtuple("State", "params")(np.zeros(25, np.float32))  # 100 bytes, and as many of gradients
    memory.check_members("x", member, batch=400, n_seeds=5)  # 5 * 100 + 100 + 400
    with pytest.raises(ConfigError, match=r"seeds = 6 .* train at most 5 at once"):
        memory.check_members("x", member, batch=400, n_seeds=6)
    memory.check_members("x", member, batch=400, n_seeds=10, shares={"seed": 2})
    with pytest.raises(ConfigError, match=r"seeds = 12 .* train at most 10 at once"):
        memory.check_members("x", member, batch=400, n_seeds=12, shares={"seed": 2})
    with pytest.raises(ConfigError, match="a smaller batch"):
        memory.check_members("x", member, batch=1600)
    memory.check_members("x", member, batch=1600, shares={"data": 2})
    memory.check_members("x", member, batch=900, shares={"model": 2})
    with pytest.raises(ConfigError, match="a smaller batch"):
        check_memory(SAEConfig(d_sae=2, k=1), image_shape=(1, 1, 1), n_seeds=1, batch_size=300)
    mesh = jax.sharding.AbstractMesh((2,), ("data",))
    check_memory(SAEConfig(d_sae=2, k=1), image_shape=(1, 1, 1), n_seeds=1, batch_size=300, mesh=mesh)
