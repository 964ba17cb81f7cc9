"""Sweeps: members in one program equal single runs, failures stay where they are, the recommendation follows its rule."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import command
from helpers import assert_close, assert_same, numpy_leaves, uint8_data
from PIL import Image

from saegan_jax.algorithms.geometric_median import center
from saegan_jax.algorithms.sae import SAEConfig, Start, autoencoder, sae
from saegan_jax.errors import ConfigError
from saegan_jax.metrics import sae_metrics
from saegan_jax.report.sweep import recommend
from saegan_jax.training import sweep
from saegan_jax.training.sweep import Member, data_center, encode_all, grid, score, score_members, train_members
from saegan_jax.training.transforms import many_steps

CONFIG = SAEConfig(variant="topk", d_sae=6, k=2, batch_size=8, steps=7, learning_rate=0.01, pre_bias="mean")
DATA = uint8_data(40)


@pytest.fixture(scope="module")
def swept():
    members = grid(CONFIG, [3, 5], k=(2, 4), learning_rate=(0.01, 0.02))
    steps = []
    states, infos = train_members(members, DATA, chunk=3, progress=lambda step, infos: steps.append(step))
    return members, states, infos, steps


def test_a_grid_is_every_combination_with_every_seed():
    members = grid(CONFIG, [3, 5], k=(2, 4), learning_rate=(0.01, 0.02))
    found = [(m.config.k, m.config.learning_rate, m.seed) for m in members]
    assert found == [(k, lr, seed) for k in (2, 4) for lr in (0.01, 0.02) for seed in (3, 5)]
    with pytest.raises(ConfigError, match="k = 7"):
        grid(CONFIG, [0], k=(2, 7))


def test_a_member_is_the_run_of_its_settings_and_seed(swept):
    members, states, infos, steps = swept
    assert steps == [3, 6, 7]
    assert infos.loss.shape == (8, 3)
    middle = center(DATA.image.reshape(40, -1).astype(jnp.float32) / 255, "mean")
    for i in (0, 7):
        config, seed = members[i]
        algorithm = sae(config, image_shape=(4, 4, 1))
        run = jax.jit(many_steps(algorithm.step, length=7, batch_size=8))
        single, own = run(jax.jit(algorithm.init)(jax.random.key(seed), Start(center=middle)), DATA)
        member = jax.tree.map(lambda leaf, i=i: leaf[i], states)
        assert_close(member, single, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(infos.loss[i, 2], own.loss[6], rtol=1e-4)
        np.testing.assert_allclose(infos.loss[i, 0], own.loss[:3].mean(), rtol=1e-4)


def test_how_many_are_computed_together_changes_nothing_but_rounding(swept):
    members, states, _, _ = swept
    three, _ = train_members(members, DATA, members_per_vmap=3)
    assert_close(three, states, rtol=1e-4, atol=1e-5)


def test_a_member_that_diverges_harms_no_other():
    members = [Member(CONFIG, 0), Member(replace(CONFIG, learning_rate=float(np.finfo(np.float32).max)), 0)]
    states, _ = train_members(members, DATA)
    finite = [all(np.isfinite(x[i]).all() for x in numpy_leaves(states.params).values()) for i in (0, 1)]
    assert finite == [True, False]
    alone, _ = train_members(members[:1], DATA)
    assert_close(jax.tree.map(lambda x: x[:1], states), alone, rtol=1e-5, atol=1e-6)
    assert np.isnan(score_members(members, states, DATA.image).fvu).tolist() == [False, True]


def test_members_that_are_no_sweep_are_refused():
    for other in (replace(CONFIG, d_sae=7), replace(CONFIG, variant="l1"), replace(CONFIG, batch_size=4)):
        with pytest.raises(ValueError, match="may differ in rho, beta, k, learning_rate alone"):
            train_members([Member(CONFIG, 0), Member(other, 0)], DATA)


def test_scores_are_those_of_the_whole_set_with_each_members_own_k(swept):
    members, states, _, _ = swept
    metrics = score_members(members, states, DATA.image)
    x = np.asarray(DATA.image, np.float32).reshape(40, -1) / 255
    for i in (0, 7):
        config, params = members[i].config, jax.tree.map(lambda leaf, i=i: leaf[i], states.params)
        functions = autoencoder(config, image_shape=(4, 4, 1))
        images = DATA.image.astype(jnp.float32) / 255
        codes = functions.encode(params, images)
        x_hat = functions.decode(params, codes).reshape(40, -1)
        want = sae_metrics(jnp.asarray(x), x_hat, codes, threshold=0.0)
        np.testing.assert_allclose(metrics.fvu[i], want.fvu, rtol=1e-5)
        np.testing.assert_allclose(metrics.l0[i], want.l0, rtol=1e-6)
        assert metrics.l0[i] <= config.k
        np.testing.assert_allclose(encode_all(config, params, DATA.image), codes, rtol=1e-5, atol=1e-6)
    assert metrics.l0[7] > metrics.l0[0]


def test_scoring_active_codes_alone_leaves_out_the_faint_ones():
    config = SAEConfig(d_sae=6, active_threshold=0.3)
    functions = autoencoder(config, image_shape=(4, 4, 1))
    params = sae(config, image_shape=(4, 4, 1)).init(jax.random.key(0)).params
    params["params"]["b_enc"] = jnp.linspace(-3.0, 1.0, 6)
    images = DATA.image.astype(jnp.float32) / 255
    codes = functions.encode(params, images)
    assert 0 < (codes < 0.3).mean() < 1
    kept = jnp.where(codes > 0.3, codes, 0.0)
    x = images.reshape(40, -1)
    want = sae_metrics(x, functions.decode(params, kept).reshape(40, -1), kept, threshold=0.3)
    got = score(config, params, DATA.image, active_only=True)
    np.testing.assert_allclose(got.fvu, want.fvu, rtol=1e-5)
    assert abs(got.fvu - score(config, params, DATA.image).fvu) > 0.01


def test_the_centre_of_the_data():
    x = np.asarray(DATA.image, np.float32) / 255
    assert data_center(replace(CONFIG, pre_bias="none"), DATA.image) is None
    np.testing.assert_allclose(data_center(CONFIG, DATA.image), x.reshape(40, -1).mean(axis=0), rtol=1e-5)
    patches = x.reshape(40, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 4)
    conv = replace(CONFIG, patch_size=2, stride=2)
    np.testing.assert_allclose(data_center(conv, DATA.image), patches.mean(axis=0), rtol=1e-5)
    median = data_center(replace(CONFIG, pre_bias="median"), DATA.image)
    pull = median[None] - x.reshape(40, -1)
    assert np.linalg.norm((pull / np.linalg.norm(pull, axis=1, keepdims=True)).sum(axis=0)) < 0.01 * 40


def test_on_an_accelerator_the_memory_sets_how_many(monkeypatch):
    class Device:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 3 * 10 * 4 * (10 * 16 * 6 + 8 * (6 * 16 + 8 * 6))}

    monkeypatch.setattr(sweep.jax, "devices", lambda: [Device()])
    assert sweep.default_members_per_vmap(CONFIG, 16, 100) == 10
    assert sweep.default_members_per_vmap(CONFIG, 16, 4) == 4


def test_on_a_cpu_the_cache_does():
    assert sweep.default_members_per_vmap(CONFIG, 16, 100) == sweep.CPU_MEMBERS_PER_VMAP
    assert sweep.default_members_per_vmap(CONFIG, 16, 2) == 2


def row(arm, l0, dead, fvu, failed=0):
    values = {"l0": [l0, None], "dead_fraction": [dead, None], "fvu": [fvu, None]}
    return {"arm": arm, "failed": failed, "validation": values}


def test_the_recommendation_follows_its_rule():
    rows = [
        row("far", 40, 0.0, 0.05),
        row("dead", 20, 0.3, 0.10),
        row("alive", 22, 0.0, 0.20),
        row("as alive, better", 18, 0.001, 0.15),
        row("failed", 20, 0.0, 0.01, failed=1),
    ]
    assert "as alive, better (L0 18, 0.1% dead, FVU 0.15" in recommend(rows, 20)
    assert "fewest dead units among 3" in recommend(rows, 20)
    assert "nearest is as alive, better with 18" in recommend(rows, 5)
    assert "No combination trained" in recommend(rows[-1:], 20)


TINY = ["--dataset", "digits", "--sae.steps", "6", "--sae.d-sae", "12", "--sae.batch-size", "16", "--seeds", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two variants, one of whose learning rates diverges."""
    out = tmp_path_factory.mktemp("sweep")
    # Rates of every member of a variant in one program.
    arguments = [*TINY, "--variants", "topk", "l1", "--k", "2", "--beta", "0.1", "--learning-rate", "1e-3", "3e38"]
    outcome = command("sweep_sae", *arguments, "--probe-images", "200", "--out", out)
    assert outcome.code == 0, outcome.err
    return out, arguments, outcome


def test_the_script_writes_table_picture_and_recommendation(folder):
    out, _, outcome = folder
    result = json.loads((out / "results.json").read_text())
    assert "No combination has an L0 within" in result["recommendation"] or "For an L0 of" in result["recommendation"]
    assert result["recommendation"].split()[0] in outcome.out
    arms = {row["arm"] for row in result["rows"]}
    assert arms == {
        "topk k=2 learning_rate=0.001",
        "topk k=2 learning_rate=3e+38",
        "l1 beta=0.1 learning_rate=0.001",
        "l1 beta=0.1 learning_rate=3e+38",
    }
    for one in result["rows"]:
        diverged = "3e+38" in one["arm"]
        assert one["failed"] == (2 if diverged else 0), one["arm"]
        assert len(one["values"]) == 2
        if diverged:
            assert one["values"] == [None, None]
            assert one["mean"] is None
        else:
            slack = 1e-12 * abs(one["mean"])  # of two equal values, quantile and mean differ in the last bit
            assert one["low"] - slack <= one["mean"] <= one["high"] + slack
    found = {(r["arm"], r["metric"]): r for r in result["rows"]}
    assert found["topk k=2 learning_rate=0.001", "l0"]["mean"] <= 2
    assert 0.1 < found["topk k=2 learning_rate=0.001", "probe_accuracy"]["mean"] <= 1
    match = found["topk k=2 learning_rate=0.001", "dictionary_match"]["values"]
    assert match[0] == match[1]  # of two seeds each is matched with the other
    table = (out / "results.md").read_text()
    assert "| topk k=2 learning_rate=3e+38 |  |  |  |  |  |  |  | 2 |" in table
    with Image.open(out / "results.png") as picture:
        assert min(picture.size) > 300


def test_the_script_keeps_what_is_finished_and_refuses_another_sweep(folder):
    out, arguments, _ = folder
    before = (out / "topk.json").read_bytes()
    again = command("sweep_sae", *arguments, "--probe-images", "200", "--out", out)
    assert again.code == 0, again.err
    assert "kept" in again.out
    assert (out / "topk.json").read_bytes() == before
    other = command("sweep_sae", *arguments, "--probe-images", "100", "--out", out)
    assert other.code == 2
    assert "its topk.json is of other settings" in other.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "seeds = 0"),
        (["--sae.batch-size", "5000"], "batch_size"),
        (["--k", "13", "--variants", "topk"], "k = 13"),
        (["--results", "table.md"], "results"),
        (["--probe-images", "-1"], "probe_images"),
        (["--want-l0", "0"], "want_l0"),
        (["--members-per-vmap", "0"], "members_per_vmap"),
    ],
)
def test_the_script_refuses_what_cannot_work(arguments, message, tmp_path):
    outcome = command("sweep_sae", *TINY, "--out", tmp_path / "out", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_the_same_sweep_gives_the_same_numbers(swept):
    members, states, _, _ = swept
    again, _ = train_members(members, DATA, chunk=3)
    assert_same(again, states)
