"""Peers that compute what we compute pass the check, and no others."""

import contextlib
import dataclasses
import importlib
import importlib.util

import jax
import numpy as np
import pytest
from tiny_works import GAN, OBLONG, SHAPE, tiny_gan, tiny_mlp, tiny_sae, tiny_topk

from benchmarks.harness.agreement import BFLOAT16, FLOAT32_KINKS, TENSORFLOAT32
from benchmarks.harness.errors import DisagreementError, UnavailableError
from benchmarks.harness.worker import Remote
from benchmarks.peers import checked
from benchmarks.peers.checked import check
from benchmarks.peers.registry import (
    BF16,
    CHANNELS_LAST,
    COMPILED,
    EAGER,
    FLAX,
    GRAPHS,
    KERAS_JAX,
    KERAS_TENSORFLOW,
    PEERS,
    not_installed,
    peers_of,
)
from benchmarks.workloads.images import images
from benchmarks.workloads.registry import WORKS
from benchmarks.workloads.work import start

SLOW = (COMPILED, KERAS_TENSORFLOW, KERAS_JAX)  # they compile for a minute, or import for ten seconds
RELATIVISTIC_HEAD = "discriminator['params']['Dense_0']['bias']"  # only differences of logits are trained


@pytest.fixture
def torch_peers():
    return pytest.importorskip("torch") and importlib.import_module("benchmarks.peers.torch")


@pytest.mark.parametrize(
    ("work", "quantities"),
    [
        (tiny_sae(), {"loss", "sparsity", "gradient of autoencoder", "update of autoencoder"}),
        (tiny_topk(), {"loss", "reconstruction", "gradient of autoencoder", "update of autoencoder"}),
        (tiny_gan(), {"r1", "r2", "logit_gap", "gradient of discriminator", "gradient of generator", "update of ema"}),
        (tiny_mlp(), {"real_logits", "discriminator_loss", "generator_loss", "update of generator"}),
    ],
    ids=["sae", "topk", "relativistic", "mlp"],
)
def test_peers_agree_and_perturbed_weights_do_not(work, quantities):
    pixels, params = images(64, work.image_shape), start(work).params
    records = {r.name: r for r in peers_of(work) if r.name not in SLOW and not not_installed(r.name)}
    assert FLAX in records
    for name, record in records.items():
        found = check(work, record, record.build(work, params, pixels), pixels)
        assert quantities <= {row["quantity"] for row in found.rows}
        assert all(0 <= row["relative_error"] <= row["tolerance"] for row in found.rows)
        assert "loss" not in found.absent
        assert name not in (EAGER, CHANNELS_LAST, BF16) or not found.absent
    leaves, structure = jax.tree.flatten(params)
    for i, (path, _) in enumerate(jax.tree_util.tree_leaves_with_path(params)):
        if work.name == "tiny_relativistic" and jax.tree_util.keystr(path).endswith(RELATIVISTIC_HEAD):
            continue
        perturbed = [leaf + 0.05 * (i == j) for j, leaf in enumerate(leaves)]
        wrong = records[FLAX].build(work, jax.tree.unflatten(structure, perturbed), pixels)
        with pytest.raises(DisagreementError, match="differs by"):
            check(work, records[FLAX], wrong, pixels)


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
def test_a_peer_with_other_settings_is_caught(torch_peers, change, quantity):
    work = tiny_gan()
    pixels = images(64, work.image_shape)
    trees = work.trees(start(work).params)
    wrong = torch_peers.GANPeer(dataclasses.replace(GAN, **change), trees, pixels, "eager")
    with pytest.raises(DisagreementError, match=f"{EAGER}: ({quantity}) differs"):
        check(work, PEERS[EAGER], wrong, pixels)


def test_a_worker_trains_as_its_peer_does_and_reports_what_goes_wrong(pixels):
    work = tiny_sae()
    trees = jax.tree.map(np.asarray, work.trees(start(work).params))
    arguments = work.kind, work.config, trees, pixels
    with contextlib.closing(Remote("benchmarks.peers.flax:make", arguments)) as remote:
        found = check(work, PEERS[FLAX], remote, pixels)
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
        (KERAS_TENSORFLOW, tiny_mlp(), "tensorflow", {"real_logits"}),
    ],
    ids=["jax", "topk", "relativistic", "mlp"],
)
def test_keras_agrees(name, work, package, quantities):
    pytest.importorskip("keras", reason="the extra bench is not installed")
    if importlib.util.find_spec(package) is None:
        pytest.skip("the extra bench is not installed")
    pixels = images(64, work.image_shape)
    peer = PEERS[name].build(work, start(work).params, pixels)
    try:
        found = check(work, PEERS[name], peer, pixels)
        assert quantities <= {row["quantity"] for row in found.rows}
        peer.run(1)
        memory = peer.peak_bytes()
        assert memory is None or memory > 0
    finally:
        peer.close()


def test_only_peers_that_suit_a_work_are_timed_beside_it():
    assert CHANNELS_LAST in {record.name for record in peers_of(tiny_gan())}
    assert CHANNELS_LAST not in {record.name for record in peers_of(tiny_sae())}
    assert peers_of(tiny_sae()._replace(peers=False)) == []
    assert [record.name for record in peers_of(tiny_gan())] == [name for name in PEERS if name != GRAPHS]


def test_float32_is_checked_as_exactly_as_it_is_computed(monkeypatch):
    asked = []

    def agree(*_, tolerances, **__):
        asked.append(tolerances)

    monkeypatch.setattr(checked, "agree", agree)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for precision in (None, "highest"):
        with jax.default_matmul_precision(precision):
            for name in (EAGER, BF16):
                check(tiny_gan(), PEERS[name], None, images(64, OBLONG))
    assert asked == [TENSORFLOAT32, BFLOAT16, FLOAT32_KINKS, BFLOAT16]
    assert GRAPHS in {record.name for record in peers_of(tiny_gan())}


def test_a_large_dictionary_is_left_to_accelerators():
    with pytest.raises(UnavailableError, match="accelerator"):
        WORKS["sae_topk_4096_65536"]()


def test_images_are_varied_uint8_strokes():
    x = images(100, (28, 28, 3))
    assert x.dtype == np.uint8
    assert x.shape == (100, 28, 28, 3)
    assert x.max() == 255
    assert (x == 0).mean() > 0.1
    assert len(np.unique(x.reshape(100, -1), axis=0)) > 90
    np.testing.assert_array_equal(x, images(100, (28, 28, 3)))
    assert images(1, SHAPE).shape == (1, *SHAPE)
