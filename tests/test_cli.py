"""The command `saegan`: which module a command line names, the short help, and a system that somebody else registers."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command_line import tree

from saegan_jax import __version__, cli
from saegan_jax.algorithms import registry as algorithms
from saegan_jax.errors import ConfigError
from saegan_jax.runs.help import COMMON, NARROW, field_docs, option
from saegan_jax.runs.options import TrainGAN
from saegan_jax.runs.registry import TRAININGS, Training
from saegan_jax.runs.restore import restore_run


def saegan(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """``saegan <words>`` in this process: its exit code."""
    monkeypatch.setattr(sys, "argv", ["saegan", *map(str, words)])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_every_command_names_a_module_that_parses_and_runs():
    lines = [["train", name] for name in TRAININGS] + [[name] for name in cli.COMMANDS]
    for words in lines:
        module, rest, shown = cli.module_of([*words, "--seed", "1"])
        assert rest == ["--seed", "1"]
        assert shown == f"saegan {' '.join(words)}"
        assert callable(module.run)
        assert callable(module.parse_options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tran", "gan"], "command = 'tran' cannot be used: did you mean train?"),
        (["train"], "say what to train: saegan train {sae,gan,"),
        (["train", "--seed", "1"], "say what to train"),
        (["train", "saegn"], "system = 'saegn' cannot be used: did you mean saegan?"),
    ],
)
def test_a_wrong_command_is_one_paragraph(words, message, monkeypatch, capsys, tmp_path):
    with pytest.raises(ConfigError, match="cannot be used"):
        cli.module_of(words)
    monkeypatch.chdir(tmp_path)
    assert saegan(monkeypatch, *words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_usage_and_version(monkeypatch, capsys):
    assert saegan(monkeypatch, "--version") == 0
    assert __version__ in capsys.readouterr().out
    assert saegan(monkeypatch, "--help") == 0
    assert saegan(monkeypatch) == 2
    out = capsys.readouterr().out
    assert all(name in out for name in (*TRAININGS, *cli.COMMANDS))


@pytest.mark.parametrize("system", [name for name in TRAININGS if name != "cyclegan"])
@pytest.mark.parametrize("columns", [60, 100])
def test_help_shows_the_first_options_and_help_all_every_one(system, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert saegan(monkeypatch, "train", system, "--help") == 0
    short = capsys.readouterr().out
    assert short.startswith(f"usage: saegan train {system} [options]")
    assert max(map(len, short.splitlines())) <= columns
    assert 8 <= short.count("\n--") <= 16
    if columns < NARROW:  # each description under its option, whole words on every line
        after = [below for line, below in pairwise(short.splitlines()) if line.startswith("--")]
        assert all(line.startswith("    ") for line in after)
    assert saegan(monkeypatch, "train", system, "--help-all") == 0
    whole = capsys.readouterr().out
    assert whole.count("--") > 2 * short.count("\n--")
    assert f"saegan train {system}" in whole
    for line in short.splitlines():
        if line.startswith("--"):
            assert line.split()[0] in whole.replace("--evaluate, --no-evaluate", "--no-evaluate"), line


def test_field_docs_are_those_below_the_fields():
    docs = field_docs(TrainGAN)
    assert docs["seeds"] == "Members trained at once in one vmapped program, with seeds seed, seed+1, ..."
    assert docs["recipe"].startswith("Losses, penalties, optimiser and schedules")
    assert set(COMMON) <= set(docs)
    assert option(TrainGAN(), "gan.r1_gamma")[:2] == ("--gan.r1-gamma", "1.0")
    assert option(TrainGAN(), "evaluate")[0] == "--no-evaluate"


MODULE = '''
"""A system of one number, from one file: the mean brightness of the images."""

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.runs.options import RunOptions
from saegan_jax.runs.parse import parse
from saegan_jax.runs.scores import finish, sample_rows
from saegan_jax.runs.session import open_run
from saegan_jax.training.systems import init_members


@dataclass(frozen=True)
class BrightnessConfig:
    steps: int = 4
    """Number of training steps."""
    batch_size: int = 8
    """Images a step."""


@dataclass(frozen=True, kw_only=True)
class TrainBrightness(RunOptions):
    """Learn how bright images are."""

    brightness: BrightnessConfig = field(default_factory=BrightnessConfig)


@flax.struct.dataclass
class State:
    step: jax.Array
    key: jax.Array
    mean: jax.Array


class Info(NamedTuple):
    mean: jax.Array


def brightness(config, *, image_shape, n_classes=0):
    def init(key, pretrained=None):
        return State(jnp.zeros((), jnp.int32), key, jnp.zeros(()))

    def step(state, batch):
        mean = 0.5 * state.mean + 0.5 * batch.image.mean()
        return replace(state, step=state.step + 1, mean=mean), Info(mean)

    def sample(state, key, n):
        return jnp.broadcast_to(state.mean, (n, *image_shape))

    return Algorithm(init, step, sample)


def run(options):
    config = options.brightness
    with ExitStack() as stack:
        job = open_run(stack, options, name="brightness", model=config, phases={"brightness": config})
        algorithm = brightness(config, image_shape=job.dataset.image_shape)
        start = jax.jit(lambda: init_members(algorithm, seed=options.seed, n_seeds=options.seeds))
        state = job.train("brightness", algorithm.step, start, config, shown=("mean",))
        finish(job, sample_rows(job, algorithm, state))


def parse_options(arguments=None):
    return parse(TrainBrightness, arguments, first=("brightness.steps",))
'''


def test_a_system_from_one_file_is_trained_resumed_and_sampled(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "brightness_system.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import brightness_system as system

    entry = Training(system.TrainBrightness, "brightness", "brightness", "brightness_system")
    monkeypatch.setitem(TRAININGS, "brightness", entry)
    kind = algorithms.System(system.BrightnessConfig, system.brightness)
    monkeypatch.setitem(algorithms.SYSTEMS, "brightness", kind)
    monkeypatch.chdir(tmp_path)
    words = [
        "train",
        "brightness",
        "--out",
        "run",
        "--log-every",
        "1",
        "--save-every",
        "2",
        "--picture-every",
        "4",
        "--no-evaluate",
    ]
    assert saegan(monkeypatch, *words) == 0, capsys.readouterr().err
    restored = restore_run(tmp_path / "run")
    assert restored.step == 4
    assert 0.2 < float(restored.state.mean) < 0.4
    before = tree(tmp_path / "run" / "checkpoints")
    assert saegan(monkeypatch, *words, "--resume") == 0
    assert tree(tmp_path / "run" / "checkpoints") == before
    assert saegan(monkeypatch, "sample", "--run", "run", "--n", 3, "--out", "a.png") == 0
    with np.load("a.npz") as drawn:
        assert drawn["images"].shape == (3, 8, 8, 1)
        assert np.ptp(drawn["images"]) == 0
        assert drawn["images"][0, 0, 0, 0] == round(float(restored.state.mean) * 255)


def test_output_that_nobody_reads_is_no_error(tmp_path: Path) -> None:
    """`saegan train gan --help-all | head -1`."""
    code = "import sys; sys.argv[1:] = ['train', 'gan', '--help-all']; from saegan_jax.cli import main; main()"
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "error" not in process.stderr.read()
