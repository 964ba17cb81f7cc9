"""Trainings that diverge at a high rate, go back to their last checkpoint, and end at a lower one."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import command, metrics, tiny
from helpers import assert_same, uint8_data
from rich.console import Console

from saegan_jax.algorithms.energy import EnergyConfig, energy
from saegan_jax.algorithms.gan import GANConfig, gan
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.algorithms.vae import VAEConfig, vae
from saegan_jax.training.callbacks import Callback
from saegan_jax.training.finite import NonFiniteError
from saegan_jax.training.loop import train
from saegan_jax.training.phase import Phase
from saegan_jax.training.roll_back import RATE, rolled_back, slower
from saegan_jax.training.writers import Display, MetricsWriter, read_alarms

SHAPE = (8, 8, 1)


class Hyper(NamedTuple):
    learning_rate: jax.Array


@flax.struct.dataclass
class State:
    step: jax.Array
    key: jax.Array
    w: jax.Array
    hyper: Hyper


class Info(NamedTuple):
    loss: jax.Array


def init() -> State:
    rate = Hyper(jnp.ones((), jnp.float32))
    return State(jnp.zeros((), jnp.int32), jax.random.key(1), jnp.ones(3), rate)


def fragile(bad_step: int) -> Callable[[State, Any], tuple[State, Info]]:
    """Steps that fail at ``bad_step``, unless the rate is a quarter of the first one or less."""

    def step(state: State, batch: Any) -> tuple[State, Info]:
        rate = state.hyper.learning_rate
        noise = jax.random.normal(jax.random.fold_in(state.key, state.step), (3,))
        w = state.w + rate * batch.image.mean() * noise
        w = jnp.where((state.step == bad_step) & (rate > 0.3), jnp.nan, w)
        return state.replace(step=state.step + 1, w=w), Info(w.sum())

    return step


def go(folder: Path, *, bad_step: int = 16, picture: Callable[[int, Any], None] | None = None, **changes: Any) -> Any:
    folder.mkdir(exist_ok=True)
    writer = MetricsWriter(folder)
    settings: dict[str, Any] = {
        "name": "walk", "init": init, "step": fragile(bad_step), "n_seeds": 1, "steps": 30, "batch_size": 4, "log_every": 5,
        "save_every": 10, "picture_every": 5, "shown": (), "roll_back": 2,
        "callbacks": (Callback(on_evaluation=picture),) if picture else (),
    }  # fmt: skip
    try:
        display = Display(Console(file=io.StringIO()))
        phase = Phase(**settings | changes)
        return train(phase, uint8_data(13), folder=folder, config={"a": 1}, writer=writer, display=display)
    finally:
        writer.close()


@pytest.mark.parametrize(("bad_step", "back_to"), [(16, 10), (3, 0)])
def test_a_training_goes_back_until_it_no_longer_fails(
    bad_step: int, back_to: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = go(tmp_path, bad_step=bad_step)
    assert float(state.hyper.learning_rate) == 0.25
    assert np.isfinite(state.w).all()
    assert [row["step"] for row in metrics(tmp_path)] == [5, 10, 15, 20, 25, 30]  # each once
    backs = [event for event in read_alarms(tmp_path) if event["kind"] == "roll-back"]
    assert [(event["step"], event["value"], event["member"]) for event in backs] == [
        (back_to, 0.5, None),
        (back_to, 0.25, None),
    ]
    assert f"not finite at step {bad_step // 5 * 5 + 5}" in backs[0]["what"] or f"step {bad_step}." in backs[0]["what"]
    said = capsys.readouterr().err
    assert f"Roll-back 2 of 2: on from step {back_to}, at 0.25 of the learning rate." in " ".join(said.split())


def test_without_roll_backs_left_it_ends(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError):
        go(tmp_path, roll_back=1)
    assert rolled_back(read_alarms(tmp_path)) == 1


class KilledError(Exception):
    pass


@pytest.mark.parametrize("at", [15, 20, 25])
def test_a_training_killed_after_a_roll_back_ends_as_one_that_was_not(at: int, tmp_path: Path) -> None:
    whole = go(tmp_path / "whole")
    seen: list[int] = []

    def kill(step: int, state: Any) -> None:
        seen.append(step)
        # At 15 it passes three times: before the first roll-back, after it, and after the second.
        if step == at and float(state.hyper.learning_rate) == 0.25:
            raise KilledError

    with pytest.raises(KilledError):
        go(tmp_path / "parts", picture=kill)
    assert_same(go(tmp_path / "parts"), whole)
    assert read_alarms(tmp_path / "parts") == read_alarms(tmp_path / "whole")


def test_of_several_members_one_that_fails_is_no_reason_to_go_back(tmp_path: Path) -> None:
    def two() -> State:
        keys = jax.vmap(jax.random.key)(jnp.arange(2))
        states = jax.vmap(lambda key: init().replace(key=key))(keys)
        return states.replace(hyper=Hyper(jnp.asarray([1.0, 0.25], jnp.float32)))

    state = go(tmp_path, init=two, n_seeds=2)
    assert np.isfinite(state.w).all(axis=1).tolist() == [False, True]
    assert rolled_back(read_alarms(tmp_path)) == 0


@pytest.mark.parametrize(
    "algorithm",
    [
        sae(SAEConfig(d_sae=4, k=1), image_shape=SHAPE),
        gan(GANConfig(hidden=(4,), d_noise=2), image_shape=SHAPE),
        energy(EnergyConfig(), image_shape=SHAPE),
        vae(VAEConfig(hidden=(4,), d_latent=2), image_shape=SHAPE),
    ],
    ids=["sae", "gan", "energy", "vae"],
)
def test_the_state_of_every_system_holds_its_rate(algorithm: Any) -> None:
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0))
    ones = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype) if x.dtype == jnp.float32 else x, shapes)
    before, after = (jax.tree_util.tree_leaves_with_path(state) for state in (ones, slower(ones, 3)))
    changed = [jax.tree_util.keystr(path) for (path, x), (_, y) in zip(before, after, strict=True) if x is not y]
    assert changed == [RATE]


def test_an_autoencoder_at_an_absurd_rate(tmp_path: Path) -> None:
    arguments = tiny("train_sae", "--sae.learning-rate", "1e25", "--roll-back", 40, "--out", tmp_path / "run")
    code, _, err = command("train_sae", *arguments)
    assert code == 0, err
    assert 0 < rolled_back(read_alarms(tmp_path / "run")) < 40
    assert "Roll-back 1 of 40" in err


def test_a_cyclegan_has_no_rate_to_lower(tmp_path: Path) -> None:
    code, _, err = command("train_cyclegan", "--roll-back", 1, "--out", tmp_path / "run")
    assert code == 2
    assert "roll" in err
    assert not (tmp_path / "run").exists()
