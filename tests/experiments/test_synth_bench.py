"""The study of known features found again: the script at a tiny size, and the published size traced."""

import json
import math
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from command_line import command

from saegan_jax.algorithms.sae import Start, sae
from saegan_jax.data.superposition import WorldConfig, world
from saegan_jax.report.synth_bench import METRICS, rows_of
from saegan_jax.runs import synth_bench
from saegan_jax.runs.synth_bench import ARMS, PUBLISHED, SIZES, Size, config_of, draw_batch
from saegan_jax.training.transforms import many_fresh_steps

TINY = Size(
    world=WorldConfig(features=12, d=4, roots=1, branching=2, depth=1, apart_steps=1),
    d_sae=6, k=1, batch_size=8, steps=2, learning_rate=None, scored=1_000,
)  # fmt: skip


def test_the_script_scores_arms_and_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setitem(synth_bench.SIZES, "small", TINY)
    monkeypatch.setattr(synth_bench, "CENTER_IMAGES", 100)
    path, arms = tmp_path / "found.json", ["l1", "untrained topk"]
    asked = ["synth_bench", "--arms", *arms, "--seeds", 2, "--out", tmp_path / "out", "--results", path]
    outcome = command(*asked)
    assert outcome.code == 0, outcome.err
    result = json.loads(path.read_text())
    found = {(row["arm"], row["metric"]): row for row in result["rows"]}
    assert set(found) == {(arm, metric) for arm in arms for metric in METRICS}
    assert all(len(row["values"]) == 2 and row["published"] is None for row in result["rows"])
    assert found["untrained topk", "l0"]["mean"] <= 1
    assert 0.3 < found["l1", "mcc"]["floor"] < 1
    assert found["l1", "mcc"]["values"][0] != found["l1", "mcc"]["values"][1]
    assert found["l1", "l0"]["settings"]["beta"] in ARMS["l1"].axes["beta"]
    assert "not comparable" in result["note"]
    assert "kept from" in command(*asked).out
    refused = command("synth_bench", "--size", "large")
    assert refused.code == 2
    assert "size" in refused.err


@pytest.mark.parametrize("name", ARMS)
def test_the_published_size_can_be_traced(name):
    size = SIZES["16k"]
    config, shape = config_of(ARMS[name], size), (1, size.world.d, 1)
    algorithm, draw = sae(config, image_shape=shape), partial(draw_batch, size.world, config.batch_size)

    def program(key):
        start = Start(center=None if config.pre_bias == "none" else jnp.zeros(size.world.d))
        state = algorithm.init(key, start)
        return many_fresh_steps(algorithm.step, draw, length=2)(state, world(key, size.world))

    state, infos = jax.eval_shape(program, jax.random.key(0))
    assert state.params["params"]["W_dec"].shape == (4_096, 768)
    assert infos.l0.shape == (2,)
    assert config.steps * config.batch_size == pytest.approx(200e6, rel=1e-5)
    assert (config.k, config.learning_rate, config.batch_size) == (25, 3e-4, 1_024)
    assert sum(size.world.generations) == 128 * (1 + 4 + 16 + 64)


def test_a_member_that_is_not_finite_has_failed_and_the_others_are_scored():
    config, made = config_of(ARMS["topk"], TINY), world(jax.random.key(0), TINY.world)
    init = jax.vmap(sae(config, image_shape=(1, 4, 1)).init, in_axes=(0, None))
    states = init(jax.random.split(jax.random.key(1), 2), Start(center=jnp.zeros(4)))
    params = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), states.params)
    found = synth_bench.scores(config, TINY, states.replace(params=params), 2, made)
    assert set(found) == set(METRICS)
    assert all(math.isfinite(good) and math.isnan(bad) for good, bad in found.values())


def test_published_numbers_stand_beside_their_own_arm():
    values = {arm: {metric: [0.5] for metric in METRICS} for arm in ("batch_topk", "topk")}
    rows = rows_of(values, {arm: {} for arm in values}, chance=0.1, published=PUBLISHED)
    shown = {(row.arm, row.metric): row.published for row in rows if row.published is not None}
    assert shown == {key: value for key, value in PUBLISHED.items() if key[0] == "batch_topk"}
    assert {arm for arm, _ in PUBLISHED} < set(ARMS)
