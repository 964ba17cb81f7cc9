"""Numbers that are not finite, put into a training at a chosen place: noticed, named, and no other member is changed."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import digits

from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.runs.options import TrainSAE
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.runs.reliability.non_finite import (
    MEMBERS,
    Subject,
    from_step_0,
    go_on,
    inject,
    inject_member,
    labelled_batch,
)
from saegan_jax.runs.reliability.poison import NEVER, PLACES, poison, poisoned, spoil
from saegan_jax.runs.restore import Restored
from saegan_jax.training.systems import init_members

CONFIG = SAEConfig(d_sae=4, batch_size=8, steps=40)


def subject(n_seeds: int) -> Subject:
    algorithm = sae(CONFIG, image_shape=(8, 8, 1))
    state = jax.jit(lambda: init_members(algorithm, seed=0, n_seeds=n_seeds))()
    options = TrainSAE(sae=CONFIG, seeds=n_seeds)
    restored = Restored(TRAININGS["sae"], options, CONFIG, (8, 8, 1), algorithm, state, n_seeds, 0, 0)
    return Subject("sae", restored, digits(), labelled_batch)


@pytest.mark.parametrize("place", PLACES)
def test_one_number_is_noticed_within_an_interval_and_named(place: str, tmp_path: Path) -> None:
    found = inject(subject(1), tmp_path / "run", place=place, leaf=1, value="nan", step=17)
    assert found.fault == ""
    assert 18 <= (found.noticed or 0) <= 20


def test_one_member_is_reported_and_the_others_are_unchanged(tmp_path: Path) -> None:
    several = subject(MEMBERS)
    sound = from_step_0(several.restored.state)
    whole, error = go_on(several, tmp_path / "sound", sound, poison(NEVER, "data", 0, 0.0))
    assert error is None
    found = inject_member(several, whole, tmp_path / "bad", place="parameters", leaf=0, value="nan")
    assert found.fault == ""
    other, _ = go_on(several, tmp_path / "other", sound, poison(3, "data", 0, 0.5))
    assert "changed" in inject_member(several, other, tmp_path / "c", place="optimiser", leaf=0, value="inf").fault


def test_a_number_is_put_into_one_leaf_and_only_when_it_is_time():
    tree = {"a": jnp.ones((2, 2)), "b": jnp.arange(3), "c": jnp.ones(2)}
    number = jnp.asarray(jnp.nan)

    def spoiled(now: bool, leaf: int) -> dict[str, Any]:
        return spoil(tree, jnp.asarray(now), jnp.asarray(leaf, jnp.int32), number)

    assert np.isnan(spoiled(True, 3)["c"][0])  # the second of two floating leaves
    assert np.isfinite(spoiled(True, 3)["a"]).all()
    for x, y in zip(jax.tree.leaves(spoiled(False, 0)), jax.tree.leaves(tree), strict=True):
        np.testing.assert_array_equal(x, y)


def test_gradients_reach_the_optimiser_spoiled_and_nothing_stays_patched():
    one = subject(1)
    batch = labelled_batch(jax.random.key(0), one.data)
    step = jax.jit(poisoned(one.restored.algorithm.step))
    before = jax.jit(one.restored.algorithm.step)(one.restored.state, batch)[0]
    sound, _ = step(one.restored.state, (batch, poison(NEVER, "gradients", 0, np.nan)))
    bad, info = step(one.restored.state, (batch, poison(0, "gradients", 0, np.nan)))
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(info))
    broken = [not np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(bad.params)]
    assert sum(broken) > 0
    for x, y in zip(jax.tree.leaves(sound.params), jax.tree.leaves(before.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)
    assert re.match("saegan_jax.algorithms.optimisers", sae.__globals__.get("apply_gradients").__module__)
