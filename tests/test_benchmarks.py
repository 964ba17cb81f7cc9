"""The benchmarks measure the same thing on both sides and write what the results page promises; no time is asserted."""

import dataclasses
import functools
import importlib.util
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import measure, run, tables, work_gan, work_sae
from benchmarks.measure import Arm, Timing
from benchmarks.work import DisagreementError, Work, agree, images
from saegan_jax.algorithms.gan import GANConfig

SHAPE = (8, 8, 1)
GAN = GANConfig(network="dcgan", width=4, d_noise=8, batch_size=8, r1_gamma=2.0, r2_gamma=0.5)


@functools.cache  # one work, one compilation
def tiny_sae() -> Work:
    return work_sae.work(8, d_sae=8, image_shape=SHAPE, chunk=2)._replace(name="tiny")


@functools.cache
def tiny_topk() -> Work:
    return work_sae.work(8, variant="topk", d_sae=12, k=3, image_shape=SHAPE, chunk=2)._replace(name="tiny")


@functools.cache
def tiny_gan(**changes: object) -> Work:
    return work_gan.work("tiny", dataclasses.replace(GAN, **changes), image_shape=SHAPE, chunk=2)


def eager_only(work: Work) -> Work:
    """Without the compiled variants, which take a minute to compile."""
    return work._replace(peers=lambda *a: {k: v for k, v in work.peers(*a).items() if "compiled" not in k})


@pytest.fixture
def torch_peers():
    return pytest.importorskip("torch") and importlib.import_module("benchmarks.peers_torch")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return images(64, SHAPE)


def initial(work: Work):
    return jax.jit(work.algorithm.init)(jax.random.key(0)).params


@pytest.mark.parametrize(
    ("work", "quantities"),
    [
        (tiny_sae(), {"loss", "sparsity", "l0", "gradient of autoencoder", "update of statistics"}),
        (tiny_topk(), {"loss", "reconstruction", "l0", "gradient of autoencoder", "update of statistics"}),
        (tiny_gan(), {"r1", "r2", "logit_gap", "gradient of discriminator", "gradient of generator", "update of ema"}),
        (
            tiny_gan(loss="non_saturating", r1_gamma=0.0, r2_gamma=0.0, beta1=0.5),
            {"real_logits", "discriminator_loss", "generator_loss", "gradient of generator", "update of generator"},
        ),
    ],
    ids=["sae", "topk", "relativistic", "non_saturating"],
)
def test_peers_agree_and_perturbed_weights_do_not(torch_peers, pixels, work, quantities):
    params = initial(work)
    for name, build in eager_only(work).peers(params, pixels).items():
        rows, _ = agree(work, build(), pixels, name)
        assert quantities <= {row["quantity"] for row in rows}
        assert all(0 <= row["relative_error"] <= row["tolerance"] for row in rows)
    leaves, structure = jax.tree.flatten(params)
    for i, (path, _) in enumerate(jax.tree_util.tree_leaves_with_path(params)):
        if work is tiny_gan() and jax.tree_util.keystr(path).endswith("discriminator['params']['Dense_0']['bias']"):
            continue  # relativistic losses do not see it
        perturbed = [leaf + 0.05 * (i == j) for j, leaf in enumerate(leaves)]
        wrong = work.peers(jax.tree.unflatten(structure, perturbed), pixels)["PyTorch, eager"]()
        with pytest.raises(DisagreementError, match="differs by"):
            agree(work, wrong, pixels, "wrong")


@pytest.mark.parametrize(
    ("change", "quantity"),
    [
        ({"r1_gamma": 2.02}, "discriminator_loss|gradient of discriminator"),
        ({"beta2": 0.9}, "gradient of discriminator"),
        ({"learning_rate": 4e-4}, "generator_loss|update of discriminator"),
        ({"ema_half_life": 4000.0}, "update of ema"),
        ({"loss": "non_saturating"}, "discriminator_loss"),
    ],
)
def test_a_peer_with_other_settings_is_caught(torch_peers, pixels, change, quantity):
    work = tiny_gan()
    side = (2, 2)
    params = initial(work)
    nets = (
        work_gan.generator_layout(params.generator, *side),
        work_gan.discriminator_layout(params.discriminator, *side),
    )
    wrong = torch_peers.GANPeer(dataclasses.replace(GAN, **change), *nets, pixels, "eager")
    with pytest.raises(DisagreementError, match=f"tiny, wrong: ({quantity}) differs"):
        agree(work, wrong, pixels, "wrong")


def check_form(result: dict) -> None:
    """The form of every published result."""
    assert {"name", "command", "commit", "device", "versions", "rows"} <= result.keys()
    assert result["versions"].keys() >= {"python", "jax"}
    assert result["rows"]
    for row in result["rows"]:
        assert {"work", "arm", "metric", "unit", "mean", "median", "low", "high", "values"} <= row.keys()
        assert row["low"] <= row["median"] <= row["high"]
        assert row["mean"] == pytest.approx(np.mean(row["values"]))
        assert all(math.isfinite(v) for v in row["values"])


def test_quick_run_of_ours_alone(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "WORKS", {"tiny": tiny_sae})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    out = tmp_path / "tiny.json"
    run.main(quick=True, only="tiny", seeds=2, out=out)
    assert "saegan_jax[bench]" in " ".join(capsys.readouterr().out.split())
    result = json.loads(out.read_text())
    check_form(result)
    assert [skip["arm"] for skip in result["skipped"]] == ["PyTorch"]
    rates = {row["arm"]: row for row in result["rows"] if row["metric"] == "rate"}
    assert list(rates) == ["ours, loop", "ours, scan", "ours, 2 seeds"]
    assert all(len(row["values"]) == 2 and row["unit"] == "steps/s" for row in rates.values())
    # Five matrix products of 2 * 8 * 64 * 8 operations and some elementwise work.
    flops = {row["arm"]: row["median"] * 1e6 for row in result["rows"] if row["metric"] == "flops"}
    assert set(flops) == set(rates)
    assert all(5 * 2 * 8 * 64 * 8 <= value <= 4 * 5 * 2 * 8 * 64 * 8 for value in flops.values())

    table = out.with_suffix(".md").read_text()
    assert "| ours, scan |" in table
    out.with_suffix(".md").unlink()
    run.main(table=out)
    assert out.with_suffix(".md").read_text() == table == tables.markdown(result)


def test_quick_run_beside_pytorch(torch_peers, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "WORKS", {"tiny": lambda: eager_only(tiny_sae())})
    out = tmp_path / "tiny.json"
    run.main(quick=True, only="tiny", seeds=2, out=out)
    result = json.loads(out.read_text())
    check_form(result)
    assert "torch" in result["versions"]
    assert {row["arm"] for row in result["agreement"]} == {"PyTorch, eager"}
    ratios = {row["arm"]: row for row in result["rows"] if row["metric"] == "speedup"}
    assert set(ratios) == {"ours, loop", "ours, scan", "ours, 2 seeds"}
    rates = {row["arm"]: row["values"] for row in result["rows"] if row["metric"] == "rate"}
    for arm, row in ratios.items():
        expected = [a / b for a, b in zip(rates[arm], rates["PyTorch, eager"], strict=True)]
        assert row["values"] == pytest.approx(expected)
    (flops,) = [r for r in result["rows"] if r["metric"] == "flops" and r["arm"] == "PyTorch, eager"]
    assert flops["median"] * 1e6 == 5 * 2 * 8 * 64 * 8


def test_a_disagreeing_peer_stops_the_run_before_timing(torch_peers, monkeypatch, tmp_path):
    work = eager_only(tiny_sae())

    def perturbed(params, pixels):
        return work.peers(jax.tree.map(lambda p: 1.01 * p, params), pixels)

    monkeypatch.setattr(run, "WORKS", {"tiny": lambda: work._replace(peers=perturbed)})
    monkeypatch.setattr(measure, "alternate", lambda *a, **k: pytest.fail("timed in spite of disagreement"))
    with pytest.raises(SystemExit, match="do not compute the same thing"):
        run.main(quick=True, only="tiny", out=tmp_path / "tiny.json")
    assert not list(tmp_path.iterdir())


def test_arms_take_turns():
    calls: list[str] = []

    def arm(name: str) -> Arm:
        return Arm(name, lambda n: calls.extend([name] * bool(n)), 3)

    timings = measure.alternate([arm("a"), arm("b")], repeats=3, seconds=1e-9)
    assert calls[-6:] == ["a", "b"] * 3
    assert all(len(t.rates) == len(t.others) == 3 for t in timings.values())


def test_ratios_pair_the_turns_against_the_fastest_peer():
    names = ("ours, scan", "PyTorch, eager", "PyTorch, compiled")
    arms = [Arm(name, lambda n: None, 1) for name in names]
    rates = ([8.0, 2.0, 4.0], [1.0, 1.0, 1.0], [4.0, 1.0, 2.0])
    timings = {name: Timing(r, [0.0] * 3) for name, r in zip(names, rates, strict=True)}
    rows = run.rows_of("w", arms, timings, unit="steps/s")
    ratios = {row["arm"]: row for row in rows if row["metric"] == "speedup"}
    assert ratios.keys() == {"ours, scan", "PyTorch, eager"}
    assert ratios["ours, scan"]["values"] == [2.0, 2.0, 2.0]
    assert {row["against"] for row in ratios.values()} == {"PyTorch, compiled"}


def test_the_aggregate_rate_of_an_ensemble_is_given_in_that_of_one_member():
    arms = [Arm(name, lambda n: None, 1) for name in ("ours, scan", "ours, 64 seeds")]
    timings = {"ours, scan": Timing([8.0, 4.0], [0.0] * 2), "ours, 64 seeds": Timing([6.0, 4.0], [0.0] * 2)}
    rows = run.rows_of("w", arms, timings, unit="steps/s")
    (row,) = [row for row in rows if row["metric"] == "aggregate"]
    assert (row["arm"], row["values"], row["against"]) == ("ours, 64 seeds", [0.75, 1.0], "ours, scan")
    settings = {"repeats": 2, "seconds": 1, "n_images": 10}
    result = {"name": "n", "command": "c", "device": "d", "versions": {}, "commit": "e", "settings": settings}
    assert "| 0.875 (0.812 to 0.938) |" in tables.markdown({**result, "rows": rows, "agreement": [], "skipped": []})


@pytest.mark.parametrize("busy", [False, True])
def test_only_a_quiet_complete_run_replaces_the_published_result(monkeypatch, tmp_path, busy):
    timings = {"ours, scan": Timing([2.0, 3.0], [0.9 * busy] * 2)}
    rows = run.rows_of("w", [Arm("ours, scan", lambda n: None, 1)], timings, unit="steps/s")
    settings = {"repeats": 2, "seconds": 1.0, "n_images": 10}
    keys = {"name": "n", "command": "c", "commit": "none", "device": "d", "versions": {}, "settings": settings}
    monkeypatch.setattr(run, "measure_all", lambda *a, **k: {**keys, "agreement": [], "skipped": [], "rows": rows})
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    run.main(only="*", quick=True)
    run.main(only="sae*")
    assert not list(tmp_path.iterdir())
    run.main()
    assert sorted(f.name for f in tmp_path.iterdir()) == ([] if busy else ["steps_cpu.json", "steps_cpu.md"])


def test_published_results_have_the_form_and_their_table():
    for path in sorted(run.RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        check_form(result)
        assert path.with_suffix(".md").read_text() == tables.markdown(result)


@pytest.mark.parametrize(("option", "message"), [({"only": "nothing*"}, "gan_rpgan"), ({"repeats": 0}, "positive")])
def test_bad_options_are_refused_before_anything_runs(option, message):
    with pytest.raises(SystemExit, match=message):
        run.main(**option)


def test_images_are_varied_uint8_strokes():
    x = images(100, (28, 28, 3))
    assert x.dtype == np.uint8
    assert x.shape == (100, 28, 28, 3)
    assert x.max() == 255
    assert (x == 0).mean() > 0.1
    assert len(np.unique(x.reshape(100, -1), axis=0)) > 90
    np.testing.assert_array_equal(x, images(100, (28, 28, 3)))


def test_a_table_path_that_is_missing_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        run.main(table=tmp_path / "absent.json")
