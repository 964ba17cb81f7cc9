"""The benchmarks measure the same thing on both sides and write what the results page promises; no time is asserted."""

import contextlib
import dataclasses
import functools
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import measure, run, tables, work_gan, work_sae, worker
from benchmarks.bounds import Machine
from benchmarks.measure import Arm, Timing
from benchmarks.work import (
    BF16,
    CHANNELS_LAST,
    COMPILED,
    EAGER,
    FLAX,
    KERAS_JAX,
    KERAS_TENSORFLOW,
    PEERS,
    DisagreementError,
    UnavailableError,
    Work,
    agree,
    images,
    not_installed,
)
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import SAEConfig

SHAPE = (8, 8, 1)
# A short half-life: otherwise so few images change the averages by no more than rounding does.
GAN = GANConfig(network="dcgan", width=4, d_noise=8, batch_size=8, r1_gamma=2.0, r2_gamma=0.5, ema_half_life=80.0)

PLAIN = {"loss": "non_saturating", "r1_gamma": 0.0, "r2_gamma": 0.0, "beta1": 0.5}


@functools.cache  # one work, one compilation
def tiny_sae() -> Work:
    return work_sae.work(8, d_sae=8, image_shape=SHAPE, chunk=2)._replace(name="tiny")


@functools.cache
def tiny_topk() -> Work:
    return work_sae.work(8, variant="topk", d_sae=12, k=3, image_shape=SHAPE, chunk=2)._replace(name="tiny")


@functools.cache
def tiny_gan(*, shape: tuple[int, int, int] = SHAPE, **changes: object) -> Work:
    config = dataclasses.replace(GAN, **changes)
    return work_gan.work(f"tiny_{config.loss}", config, image_shape=shape, chunk=2)


SLOW = (COMPILED, KERAS_TENSORFLOW, KERAS_JAX)  # they compile for a minute, or import for ten seconds


def quick_peers(work: Work) -> Work:
    return work._replace(peers=lambda *a: {k: v for k, v in work.peers(*a).items() if k not in SLOW})


@pytest.fixture(autouse=True)
def known_machine(monkeypatch):
    monkeypatch.setattr(run, "measure_machine", lambda *a, **k: Machine(1e11, 1e10))


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Speed plays no role here, and compiling takes most of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


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
        (tiny_sae(), {"loss", "sparsity", "gradient of autoencoder", "update of autoencoder"}),
        (tiny_topk(), {"loss", "reconstruction", "gradient of autoencoder", "update of autoencoder"}),
        (tiny_gan(), {"r1", "r2", "logit_gap", "gradient of discriminator", "gradient of generator", "update of ema"}),
        (
            tiny_gan(**PLAIN, stages=3, shape=(16, 8, 2)),
            {"real_logits", "discriminator_loss", "generator_loss", "update of generator"},
        ),
        (
            tiny_gan(**PLAIN, network="mlp", hidden=(12, 10), shape=(8, 6, 3)),
            {"real_logits", "generator_loss", "gradient of generator", "update of discriminator"},
        ),
    ],
    ids=["sae", "topk", "relativistic", "non_saturating", "mlp"],
)
def test_peers_agree_and_perturbed_weights_do_not(work, quantities):
    pixels, params = images(64, work.image_shape), initial(work)
    builders = {
        name: build for name, build in quick_peers(work).peers(params, pixels).items() if not not_installed(name)
    }
    assert FLAX in builders
    for name, build in builders.items():
        found = agree(work, build(), pixels, name)
        assert quantities <= {row["quantity"] for row in found.rows}
        assert all(0 <= row["relative_error"] <= row["tolerance"] for row in found.rows)
        assert "loss" not in found.absent
        assert name not in (EAGER, CHANNELS_LAST, BF16) or not found.absent
    leaves, structure = jax.tree.flatten(params)
    for i, (path, _) in enumerate(jax.tree_util.tree_leaves_with_path(params)):
        if work.name == "tiny_relativistic" and jax.tree_util.keystr(path).endswith(
            "discriminator['params']['Dense_0']['bias']"
        ):
            continue  # relativistic losses do not see it
        perturbed = [leaf + 0.05 * (i == j) for j, leaf in enumerate(leaves)]
        # The quickest to build; Flax's compiles for a second.
        name = EAGER if EAGER in builders else FLAX
        wrong = work.peers(jax.tree.unflatten(structure, perturbed), pixels)[name]()
        with pytest.raises(DisagreementError, match="differs by"):
            agree(work, wrong, pixels, "wrong")
        if name == FLAX:
            break


@pytest.mark.parametrize(
    ("change", "quantity"),
    [
        ({"r1_gamma": 2.02}, "discriminator_loss|gradient of discriminator"),
        ({"beta2": 0.9}, "gradient of discriminator"),
        ({"learning_rate": 4e-4}, "generator_loss|update of discriminator"),
        ({"ema_half_life": 40.0}, "update of ema"),
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
    with pytest.raises(DisagreementError, match=f"wrong: ({quantity}) differs"):
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


def test_quick_run_without_the_extra(monkeypatch, tmp_path, capsys):
    def absent() -> Work:
        raise UnavailableError("it needs an accelerator.")

    monkeypatch.setattr(run, "WORKS", {"tiny": tiny_sae, "tiny_large": absent})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    out = tmp_path / "tiny.json"
    run.main(quick=True, only="tiny*", seeds=2, out=out)
    assert "saegan_jax[bench]" in " ".join(capsys.readouterr().out.split())
    result = json.loads(out.read_text())
    check_form(result)
    assert [(skip["work"], skip["arm"]) for skip in result["skipped"]] == [
        *(("all", arm) for arm in PEERS if arm != FLAX),
        ("tiny_large", "all"),
    ]
    rates = {row["arm"]: row for row in result["rows"] if row["metric"] == "rate"}
    assert list(rates) == ["ours, loop", "ours, scan", "ours, 2 seeds", FLAX]
    assert all(len(row["values"]) == 2 and row["unit"] == "steps/s" for row in rates.values())
    # Five matrix products of 2 * 8 * 64 * 8 operations and some elementwise work.
    flops = {row["arm"]: row["median"] * 1e6 for row in result["rows"] if row["metric"] == "flops"}
    assert set(flops) == set(rates) - {FLAX}
    assert all(5 * 2 * 8 * 64 * 8 <= value <= 4 * 5 * 2 * 8 * 64 * 8 for value in flops.values())
    memory = {row["arm"]: row["median"] * 2**20 for row in result["rows"] if row["metric"] == "peak_memory"}
    weights = 4 * 3 * (2 * 64 * 8)  # and Adam's moments
    data = 2000 * 64
    assert set(memory) == set(rates)
    assert weights + data < memory["ours, loop"] < memory["ours, 2 seeds"] < 10 * (weights + data)
    (row,) = result["not_compared"]
    assert row["arm"] == FLAX
    assert "update of statistics" in row["quantities"]
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    table = out.with_suffix(".md").read_text()
    assert "| ours, scan |" in table
    out.with_suffix(".md").unlink()
    run.main(table=out)
    assert out.with_suffix(".md").read_text() == table == tables.markdown(result)


def test_quick_run_beside_pytorch(torch_peers, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "WORKS", {"tiny": lambda: quick_peers(tiny_sae())})
    out = tmp_path / "tiny.json"
    run.main(quick=True, only="tiny", seeds=1, out=out)
    result = json.loads(out.read_text())
    check_form(result)
    assert "torch" in result["versions"]
    assert {row["arm"] for row in result["agreement"]} == {EAGER, BF16, FLAX}
    ratios = {row["arm"]: row for row in result["rows"] if row["metric"] == "speedup"}
    (against,) = {row["against"] for row in ratios.values()}
    assert {against} == {EAGER, FLAX} - set(ratios)
    assert set(ratios) == {"ours, loop", "ours, scan", BF16, *({EAGER, FLAX} - {against})}  # no ensemble of one seed
    rates = {row["arm"]: row["values"] for row in result["rows"] if row["metric"] == "rate"}
    for arm, row in ratios.items():
        expected = [a / b for a, b in zip(rates[arm], rates[against], strict=True)]
        assert row["values"] == pytest.approx(expected)
    flops = {r["arm"]: r["median"] * 1e6 for r in result["rows"] if r["metric"] == "flops"}
    assert flops[EAGER] == flops[BF16] == flops[FLAX] == 5 * 2 * 8 * 64 * 8


def test_a_disagreeing_peer_stops_the_run_before_timing(torch_peers, monkeypatch, tmp_path):
    work = quick_peers(tiny_sae())

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


def test_a_bf16_peer_is_no_baseline_of_float32_but_has_a_ratio_of_its_own():
    names = ("ours, scan", EAGER, BF16)
    arms = [Arm(name, lambda n: None, 1) for name in names]
    timings = {name: Timing([rate], [0.0]) for name, rate in zip(names, (6.0, 2.0, 12.0), strict=True)}
    rows = {(row["arm"], row["metric"]): row for row in run.rows_of("w", arms, timings, unit="steps/s", batch_size=5)}
    assert rows["ours, scan", "speedup"]["values"] == [3.0]
    assert rows["ours, scan", "speedup_bf16"]["values"] == [0.5]
    assert rows[BF16, "speedup"]["values"] == [6.0]
    assert rows[BF16, "images"]["values"] == [60.0]
    assert {key for key, row in rows.items() if row.get("dtype") == "bfloat16"} == {
        ("ours, scan", "speedup_bf16"), *((BF16, metric) for metric in ("rate", "images", "speedup", "other load"))
    }  # fmt: skip


def test_floors_and_shares_of_the_machine_by_hand():
    arm = Arm("ours, scan", lambda n: None, 1, flops=4e9, compile_s=2.0, bytes=5e8, peak_bytes=3 * 2**20)
    rows = run.rows_of(
        "w", [arm], {arm.name: Timing([10.0], [0.0])}, unit="steps/s", batch_size=5, machine=Machine(1e11, 1e10)
    )
    assert {row["metric"]: row["values"] for row in rows} == {
        "rate": [10.0], "images": [50.0], "flops": [4000.0], "throughput": [40.0], "share": [pytest.approx(0.4)],
        "floor_compute": [pytest.approx(40.0)], "floor_memory": [pytest.approx(50.0)], "compile": [2.0],
        "peak_memory": [3.0], "other load": [0.0],
    }  # fmt: skip


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
    assert sorted(f.name for f in tmp_path.iterdir()) == (
        [] if busy else ["steps_cpu.json", "steps_cpu.md", "steps_cpu.png"]
    )


def test_what_changed_since_an_earlier_result_is_printed(monkeypatch, tmp_path, capsys):
    arms = [Arm("ours, scan", lambda n: None, 1)]
    settings = {"repeats": 2, "seconds": 1.0, "n_images": 10}
    keys = {"name": "n", "command": "c", "commit": "none", "device": "d", "versions": {}, "settings": settings}

    def result(rate: float) -> dict:
        rows = run.rows_of("w", arms, {"ours, scan": Timing([rate] * 3, [0.0] * 3)}, unit="steps/s")
        return {**keys, "agreement": [], "skipped": [], "rows": rows}

    old = tmp_path / "old.json"
    old.write_text(json.dumps(result(2.0)))
    monkeypatch.setattr(run, "measure_all", lambda *a, **k: result(5.0))
    run.main(only="sae*", compare=old)
    assert "2.5" in capsys.readouterr().out


def test_cpu_seconds_of_children_count_as_ours_while_they_live_and_afterwards():
    before = measure.family_seconds()
    burn = "import os, sys\nwhile os.times().user < 0.4: pass\nprint('done', flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"done\n"
        alive = measure.family_seconds(), measure.family_seconds(child.pid)
    assert alive[0] - before >= 0.35
    assert 0.35 <= alive[1] <= alive[0]
    assert measure.family_seconds() >= alive[0]


def test_growth_of_memory_is_that_of_the_run():
    before = measure.resident_bytes()
    grown = measure.growth(before, lambda: np.ones(2**23))  # 64 MiB, given back at once
    if grown is None:
        pytest.skip("this system does not tell the peak of memory")
    assert 60 * 2**20 <= grown <= 200 * 2**20


def test_a_worker_trains_as_its_peer_does_and_reports_what_goes_wrong(pixels):
    work = tiny_sae()
    config = SAEConfig(d_sae=8, decoder_norm=0.0, batch_size=8, steps=1_000_000)
    arguments = config, jax.tree.map(np.asarray, initial(work)["params"]), pixels
    with contextlib.closing(worker.Remote("benchmarks.peers_flax:SAEPeer", arguments)) as remote:
        found = agree(work, remote, pixels, "remote")
        assert "gradient of autoencoder" in {row["quantity"] for row in found.rows}
        before = remote.observe().params["autoencoder"]["W_enc"]
        remote.run(2)
        assert np.abs(remote.observe().params["autoencoder"]["W_enc"] - before).max() > 0
        assert remote.steps_per_call == 1
        with pytest.raises(RuntimeError, match="in the worker: TypeError"):
            remote.step(pixels[:3])
        with pytest.raises(RuntimeError, match=r"in the worker: ModuleNotFoundError: .*nowhere"):
            remote._ask("build", ("nowhere:peer", ()))
        remote._process.kill()
        with pytest.raises(RuntimeError, match="ended with code -9"):
            remote.run(1)


@pytest.mark.parametrize(
    ("name", "work", "package", "quantities"),
    [
        (KERAS_JAX, tiny_sae(), "keras", {"loss", "gradient of autoencoder", "update of autoencoder"}),
        (KERAS_TENSORFLOW, tiny_topk(), "tensorflow", {"loss", "gradient of autoencoder"}),
        (KERAS_TENSORFLOW, tiny_gan(), "tensorflow", {"r1", "r2", "logit_gap", "gradient of generator"}),
        (
            KERAS_TENSORFLOW,
            tiny_gan(**PLAIN, network="mlp", hidden=(12, 10), shape=(8, 6, 3)),
            "tensorflow",
            {"real_logits"},
        ),
    ],
    ids=["jax", "topk", "relativistic", "mlp"],
)
def test_keras_agrees(name, work, package, quantities):
    pytest.importorskip("keras", reason="the extra bench is not installed")
    if importlib.util.find_spec(package) is None:
        pytest.skip("the extra bench is not installed")
    pixels = images(64, work.image_shape)
    peer = work.peers(initial(work), pixels)[name]()
    try:
        found = agree(work, peer, pixels, name)
        assert quantities <= {row["quantity"] for row in found.rows}
        peer.run(1)
        memory = peer.peak_bytes()
        assert memory is None or memory > 0
    finally:
        peer.close()


def test_a_large_dictionary_is_left_to_accelerators():
    with pytest.raises(UnavailableError, match="accelerator"):
        work_sae.WORKS["sae_topk_4096_65536"]()


def test_published_results_have_the_form_and_their_table():
    for path in sorted(run.RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        check_form(result)
        assert path.with_suffix(".md").read_text() == tables.markdown(result)
        short = path.with_name(f"{path.stem}-summary.md")
        if short.exists():
            assert short.read_text() == tables.summary(result)
    assert (run.RESULTS / "steps_cpu-summary.md").exists()


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
