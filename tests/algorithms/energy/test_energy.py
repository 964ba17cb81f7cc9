"""Energy-based GANs: a step against an independent one, who gets which gradient, margin, balance, and the script."""

import functools
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from command_line import command, metrics, tiny, tree
from helpers import (
    SHAPE,
    assert_close,
    assert_every_leaf_moved,
    assert_finite,
    assert_same,
    normal,
    uint8_data,
    unit_batch,
)

from saegan_jax.algorithms.energy import EnergyConfig, EnergyGANConfig, energy, energy_gan, energy_net
from saegan_jax.algorithms.gan import GANConfig, Nets, image_generator
from saegan_jax.algorithms.sae import SAEConfig, Start, sae
from saegan_jax.errors import ConfigError
from saegan_jax.runs.options import TrainEnergy
from saegan_jax.runs.parse import parse
from saegan_jax.runs.restore import restore_run

BATCH, D_NOISE, D_SAE, GAMMA, LAMBDA = 6, 3, 7, 0.6, 0.01
GAN = EnergyGANConfig(
    hidden=(5,), d_noise=D_NOISE, batch_size=BATCH, steps=4, learning_rate=0.01, beta1=0.5, ema_half_life=20.0
)
SAE = SAEConfig(d_sae=D_SAE, decoder_norm=1.5, beta=2.0, rho=0.1)
EBGAN = EnergyConfig(margin=3.0, sae=SAE, gan=GAN)
BEGAN = replace(EBGAN, kind="began", gamma=GAMMA, lambda_k=LAMBDA)
fast = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def programs(config):
    algorithm = energy(config, image_shape=SHAPE)
    return algorithm, fast(algorithm.step)


@functools.cache
def initial():
    """The initial state of either kind, no bias at zero where a misplaced one would not show."""
    state = fast(programs(EBGAN)[0].init)(jax.random.key(7))
    moved = jax.tree.map(lambda x: x + (0.3 * normal(*x.shape) if x.ndim == 1 else 0.0), state.params)
    return replace(state, params=moved, ema=jax.tree.map(jnp.copy, moved.generator))


@pytest.mark.parametrize("config", [EBGAN, BEGAN, replace(BEGAN, distance="absolute")], ids=["ebgan", "began", "l1"])
def test_steps_equal_an_independent_implementation(config):
    """Three steps with plain optax: energies, sparsity, order of updates, keys, the decoder's norm, k and averages."""
    began = config.kind == "began"
    G = image_generator(config.gan, SHAPE).apply
    adam = optax.adam(0.01, b1=0.5, b2=config.gan.beta2)

    def judge(d, images):
        x = images.reshape(BATCH, 16)
        a = x @ d["W_enc"] + d["b_enc"].reshape(1, -1)
        error = jax.nn.sigmoid(a) @ d["W_dec"] + d["b_dec"].reshape(1, -1) - x
        energies = jnp.abs(error).sum(axis=1) if config.distance == "absolute" else (error**2).sum(axis=1) / 2
        return energies, a

    def unit(g, key):
        return (G(g, jax.random.normal(key, (BATCH, D_NOISE))) + 1) / 2

    @fast
    def reference(g, d, g_opt, d_opt, ema, k, key, t, image):
        critic_key, maker_key = jax.random.split(jax.random.fold_in(key, t))
        fakes = unit(g, critic_key)

        def loss_d(d):
            (real, a), (fake, _) = judge(d, image), judge(d, fakes)
            against = -k * fake.mean() if began else jnp.maximum(0.0, config.margin - fake).mean()
            rho_hat = jax.nn.sigmoid(a).mean(axis=0)
            kl = 0.1 * jnp.log(0.1 / rho_hat) + 0.9 * jnp.log(0.9 / (1 - rho_hat))
            return real.mean() + against + 2.0 * kl.sum(), (real.mean(), fake.mean(), kl.sum())

        (value_d, (real, fake, kl)), slope = jax.value_and_grad(loss_d, has_aux=True)(d)
        norm = jnp.linalg.norm(d["W_dec"], axis=1, keepdims=True)
        along = (slope["W_dec"] * d["W_dec"]).sum(axis=1, keepdims=True) / norm**2
        slope = slope | {"W_dec": slope["W_dec"] - along * d["W_dec"]}
        with jax.numpy_dtype_promotion("standard"):
            updates, d_opt = adam.update(slope, d_opt, d)
        d = optax.apply_updates(d, updates)
        d = d | {"W_dec": 1.5 * d["W_dec"] / jnp.linalg.norm(d["W_dec"], axis=1, keepdims=True)}

        def loss_g(g):
            energies, a = judge(d, unit(g, maker_key))
            square = lambda u, v: (u @ v) ** 2 / ((u @ u) * (v @ v))  # noqa: E731
            pairs = jax.vmap(jax.vmap(square, (None, 0)), (0, None))(a, a)
            alike = (pairs.sum() - jnp.trace(pairs)) / (BATCH * (BATCH - 1))
            return energies.mean() + (0.0 if began else 0.1) * alike, (energies.mean(), alike)

        (value_g, (made, alike)), slope = jax.value_and_grad(loss_g, has_aux=True)(g)
        with jax.numpy_dtype_promotion("standard"):
            updates, g_opt = adam.update(slope, g_opt, g)
        g = optax.apply_updates(g, updates)
        decay = 0.5 ** (BATCH / 20.0)
        ema = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, ema, g)
        measure = real + jnp.abs(GAMMA * real - made)
        k = jnp.clip(k + LAMBDA * (GAMMA * real - made), 0.0, 1.0) if began else k
        zero = jnp.zeros(())
        told = (value_d, value_g, real, fake, kl, zero if began else alike, k, measure if began else zero)
        return g, d, g_opt, d_opt, ema, k, told

    _, step = programs(config)
    g, d = initial().params.generator, initial().params.discriminator["sae"]["params"]
    assert initial().params.discriminator["enter"] == initial().params.discriminator["leave"] == ()
    g_opt, d_opt, ema, k = adam.init(g), adam.init(d), g, jnp.float32(0.2 if began else 0.0)
    state = replace(initial(), objective=k)
    for t in range(3):
        batch = unit_batch(BATCH, seed=t)
        state, info = step(state, batch)
        g, d, g_opt, d_opt, ema, k, told = reference(g, d, g_opt, d_opt, ema, k, state.key, t, batch.image)
        got = (
            info.discriminator_loss, info.generator_loss, info.real_energy, info.fake_energy, info.sparsity,
            info.pulling_away, info.k, info.convergence,
        )  # fmt: skip
        np.testing.assert_allclose(got, [float(x) for x in told], rtol=1e-4, atol=1e-5)
    assert_close(state.params.discriminator["sae"]["params"], d, rtol=1e-3, atol=1e-4)
    assert_close(state.params.generator, g, rtol=1e-3, atol=1e-4)
    assert_close(state.ema, ema, rtol=1e-3, atol=1e-4)
    assert_every_leaf_moved(state.params, initial().params)
    assert (state.step, state.objective) == (3, info.k)
    assert_same(state.key, initial().key)


def test_the_generators_gradient_passes_through_the_autoencoder():
    """Of codes and reconstruction, not of the pixels alone: with constant codes the energy would be a distance to one image."""
    net = energy_net(EBGAN, image_shape=SHAPE)
    params, image = initial().params.discriminator, unit_batch(BATCH).image
    slope = fast(jax.grad(lambda x: net.judge(params, x).energy.sum()))(image).reshape(BATCH, -1)
    weights = params["sae"]["params"]
    x = image.reshape(BATCH, -1)
    h = jax.nn.sigmoid(x @ weights["W_enc"] + weights["b_enc"].reshape(1, -1))
    error = h @ weights["W_dec"] + weights["b_dec"].reshape(1, -1) - x
    through = ((error @ weights["W_dec"].T) * h * (1 - h)) @ weights["W_enc"].T
    np.testing.assert_allclose(slope, through - error, rtol=1e-4, atol=1e-5)
    assert np.abs(through).max() > 0.01


def other_generator(state, scale):
    return replace(state, params=state.params._replace(generator=jax.tree.map(lambda x: scale * x, state.ema)))


@pytest.mark.parametrize("margin", [1e-4, 50.0])
def test_fakes_above_the_margin_give_no_gradient_and_sparsity_is_of_reals_alone(margin):
    """What the fakes are, the discriminator cannot learn from those above the margin: neither by energy nor by sparsity."""
    _, step = programs(replace(EBGAN, margin=margin))
    batch = unit_batch(BATCH)
    one, info = step(initial(), batch)
    two, other = step(other_generator(initial(), 3.0), batch)
    assert info.fake_energy != other.fake_energy
    assert (info.sparsity, info.l0, info.real_energy) == (other.sparsity, other.l0, other.real_energy)
    above = margin < 1
    assert info.above_margin == other.above_margin == (1.0 if above else 0.0)
    if above:
        assert_same(one.params.discriminator, two.params.discriminator)
        assert info.discriminator_loss == other.discriminator_loss
    else:
        with pytest.raises(AssertionError):
            assert_close(one.params.discriminator, two.params.discriminator, rtol=1e-3, atol=1e-4)
    assert_every_leaf_moved(one.params.discriminator, initial().params.discriminator)


def test_a_step_of_the_generator_does_not_move_the_discriminator():
    still = replace(EBGAN, gan=replace(GAN, generator_rate=1e-30))
    batch = unit_batch(BATCH)
    moving, _ = programs(EBGAN)[1](initial(), batch)
    state, _ = programs(still)[1](initial(), batch)
    assert_same(state.params.generator, initial().params.generator)
    assert_same(state.params.discriminator, moving.params.discriminator)
    assert_every_leaf_moved(moving.params.generator, initial().params.generator)


@pytest.mark.parametrize("poor", ["reals", "fakes"])
def test_k_weighs_the_fakes_more_where_the_reals_are_the_worse_and_stays_in_bounds(poor):
    """The decoder draws mid-grey alone, so that grey images have no energy and all others have."""
    config = replace(BEGAN, lambda_k=0.5)
    _, step = programs(config)
    sae_params = {**initial().params.discriminator["sae"]["params"], "b_dec": jnp.full(16, 0.5, jnp.float32)}
    sae_params["b_enc"] = jnp.full(D_SAE, -30.0, jnp.float32)
    generator = jax.tree.map(lambda x: (0.0 if poor == "reals" else 5.0) * x, initial().params.generator)
    grey = unit_batch(BATCH)._replace(image=jnp.full((BATCH, *SHAPE), 0.5, jnp.float32))
    batch = unit_batch(BATCH) if poor == "reals" else grey
    state = replace(
        initial(),
        objective=jnp.float32(0.5),
        params=Nets(generator, {"sae": {"params": sae_params}, "enter": (), "leave": ()}),
    )
    seen = [0.5]
    for _ in range(4):
        state, info = step(state, batch)
        seen.append(float(info.k))
        assert info.convergence >= info.real_energy
    assert all(0 <= k <= 1 for k in seen)
    assert seen[1] > 0.5 if poor == "reals" else seen[1] < 0.5
    assert seen[-1] == (1.0 if poor == "reals" else 0.0)


def test_pulling_away_makes_fakes_less_alike():
    batch, ends = unit_batch(BATCH), []
    for weight in (0.0, 20.0):
        _, step = programs(replace(EBGAN, pulling_away=weight))
        state = initial()
        for _ in range(25):
            state, info = step(state, batch)
        ends.append(float(info.pulling_away))
    assert 0 < ends[1] < ends[0] - 0.05


def test_members_under_vmap_equal_those_alone():
    algorithm, step = programs(BEGAN)
    states = [initial(), replace(other_generator(initial(), 2.0), key=jax.random.key(5), objective=jnp.float32(0.3))]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    batch = unit_batch(BATCH)
    together, infos = fast(jax.vmap(algorithm.step, in_axes=(0, None)))(stacked, batch)
    for i, state in enumerate(states):
        alone, info = step(state, batch)
        assert_close(jax.tree.map(lambda x, i=i: x[i], infos), info, rtol=1e-4, atol=1e-5)
        assert_close(jax.tree.map(lambda x, i=i: x[i], together.params), alone.params, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("variant", ["topk", "jumprelu", "gated", "patches", "hidden"])
def test_other_autoencoders(variant):
    own = SAEConfig(d_sae=D_SAE, k=3, beta=0.1, decoder_norm=1.5)
    own = replace(own, patch_size=2) if variant == "patches" else own
    own = own if variant in ("patches", "hidden") else replace(own, variant=variant)
    config = replace(EBGAN, sae=own, margin=100.0, hidden=(6, 5) if variant == "hidden" else ())
    algorithm, step = programs(config)
    before = fast(algorithm.init)(jax.random.key(3))
    state, info = step(before, unit_batch(BATCH))
    assert_finite((state, info))
    # jumprelu's thresholds learn only from what lies within the kernel's width
    assert_every_leaf_moved(state.params, before.params, but="threshold")
    sae_params = state.params.discriminator["sae"]["params"]
    np.testing.assert_allclose(jnp.linalg.norm(sae_params["W_dec"], axis=1), 1.5, rtol=1e-5)
    if variant == "topk":
        assert 0 < info.l0 <= 3
    if variant == "jumprelu":
        low = {**before.params.discriminator["sae"]["params"], "threshold": jnp.full(D_SAE, -1.0, jnp.float32)}
        params = before.params._replace(discriminator=before.params.discriminator | {"sae": {"params": low}})
        after, _ = step(replace(before, params=params), unit_batch(BATCH))
        assert after.params.discriminator["sae"]["params"]["threshold"].min() >= 0
    if variant == "hidden":
        kernels = state.params.discriminator["enter"]["params"], state.params.discriminator["leave"]["params"]
        assert [[w["kernel"].shape for w in k.values()] for k in kernels] == [[(16, 6), (6, 5)], [(5, 6), (6, 16)]]
        assert sae_params["W_enc"].shape == (5, D_SAE)


def test_energy_is_per_image_and_samples_come_from_the_average():
    net = energy_net(EBGAN, image_shape=SHAPE)
    params, image = initial().params.discriminator, unit_batch(BATCH).image
    judge = fast(lambda x: net.judge(params, x).energy)
    np.testing.assert_allclose(judge(image)[:2], judge(image[jnp.array([0, 1, 5, 5, 5, 5])])[:2], rtol=1e-5)
    algorithm, _ = programs(EBGAN)
    sample = fast(algorithm.sample, static_argnums=2)
    images = sample(initial(), jax.random.key(1), 9)
    assert images.shape == (9, *SHAPE)
    assert 0 <= images.min() < images.max() <= 1
    assert_same(sample(replace(other_generator(initial(), 3.0), step=jnp.int32(5)), jax.random.key(1), 9), images)


def test_a_start_is_copied_and_only_for_the_autoencoder_alone():
    start = fast(sae(SAE, image_shape=SHAPE).init)(jax.random.key(9)).params
    algorithm, _ = programs(EBGAN)
    state = fast(algorithm.init)(jax.random.key(7), Start(params=start))
    assert_same(state.params.discriminator["sae"], start)
    assert state.objective == 0
    assert state.pretrained == ()
    fast(algorithm.step, donate_argnums=0)(state, unit_batch(BATCH))
    assert state.ema["params"]["Dense_0"]["kernel"].is_deleted()
    assert not start["params"]["W_enc"].is_deleted()
    with pytest.raises(ValueError, match="set hidden="):
        energy(replace(EBGAN, hidden=(4,)), image_shape=SHAPE).init(jax.random.key(7), Start(params=start))


def test_a_start_may_be_a_centre_of_the_data():
    config = replace(EBGAN, sae=replace(SAE, pre_bias="mean"))
    algorithm, _ = programs(config)
    centre = normal(16)
    state = fast(algorithm.init)(jax.random.key(7), Start(center=centre))
    np.testing.assert_array_equal(state.params.discriminator["sae"]["params"]["b_dec"], centre)


def test_integer_images_are_refused_while_tracing():
    bad = unit_batch(BATCH)._replace(image=uint8_data(BATCH).image)
    with pytest.raises(ValueError, match=r"must be float32 in \[0, 1\], but these are uint8"):
        jax.eval_shape(programs(EBGAN)[0].step, initial(), bad)


def test_settings_of_a_gan_become_those_of_an_energy_based_one():
    given = GANConfig(hidden=(5,), steps=7, batch_size=9, d_noise=2, learning_rate=0.3, ema_half_life=5.0)
    found = energy_gan(given)
    names = [field.name for field in fields(EnergyGANConfig)]
    assert [getattr(found, name) for name in names] == [getattr(given, name) for name in names]
    assert {"loss", "r1_gamma", "lecam", "d_steps", "conditional", "augment"}.isdisjoint(names)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("kind", {"kind": "wgan"}),
        ("distance", {"distance": "cosine"}),
        ("margin", {"margin": 0.0}),
        ("pulling_away", {"pulling_away": -0.1}),
        ("gamma", {"gamma": 0.0}),
        ("gamma", {"gamma": 1.5}),
        ("lambda_k", {"lambda_k": float("nan")}),
        ("hidden", {"hidden": (4, 0)}),
        ("pretrained", {"hidden": (4,), "pretrained": True}),
        ("gan.batch_size", {"gan": replace(GAN, batch_size=1)}),
        ("sae.variant", {"sae": SAEConfig(variant="batch_topk")}),
        ("sae.auxk", {"sae": SAEConfig(variant="topk", auxk=0.1)}),
        ("sae.rho_hat", {"sae": SAEConfig(rho_hat="running")}),
        ("sae.patch_size", {"sae": SAEConfig(patch_size=2), "hidden": (4,)}),
    ],
)
def test_bad_settings_raise_and_name_the_field(field, settings):
    with pytest.raises(ConfigError, match=rf"^{field} = .* cannot be used: .+") as error:
        EnergyConfig(**settings)
    assert error.value.field == field


def test_the_command_line_knows_both_kinds():
    ebgan, began = (parse(TrainEnergy, ["--kind", kind, "--dataset", "mnist"]).energy for kind in ("ebgan", "began"))
    assert (ebgan.kind, began.kind) == ("ebgan", "began")
    assert ebgan.gan.network == began.gan.network == "dcgan"
    assert parse(TrainEnergy, ["--kind=began", "--gamma", "0.9"]).energy.gamma == 0.9
    assert parse(TrainEnergy, ["--sae.variant", "topk"]).energy.sae.auxk == 0
    with pytest.raises(ConfigError, match=r"sae\.variant"):
        parse(TrainEnergy, ["--sae.variant", "wta"])


@pytest.mark.slow  # the counts of reliability kill such a run, too
def test_the_script_resumes_to_the_bit_and_its_runs_can_be_sampled(tmp_path: Path) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    options = tiny("train_energy", "--pretrained", "--seeds", 2)
    code, out, err = command("train_energy", *options, "--out", run)
    assert (code, err) == (0, "")
    assert "SAE FVU" in out
    rows = metrics(run)
    assert [(r["phase"], r["step"]) for r in rows] == [(p, s) for p in ("sae", "gan") for s in (5, 10, 15, 20)]
    assert all(np.isfinite(v).all() for r in rows for k, v in r.items() if k != "phase")
    assert (run / "samples" / "gan-0000020.png").exists()
    restored = restore_run(run)
    assert (restored.n_seeds, restored.step) == (2, 20)
    # Each member has started from its own autoencoder.
    W_enc = restored.state.params.discriminator["sae"]["params"]["W_enc"]
    assert not np.allclose(W_enc[0], W_enc[1], atol=0.05)

    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "gan" / "20")
    assert command("train_energy", *options, "--out", again).code == 2
    assert command("train_energy", *options, "--out", again, "--resume").code == 0
    assert_same(restore_run(again).state, restored.state)
    assert metrics(again) == rows
    assert json.loads((again / "summary.json").read_text()) == json.loads((run / "summary.json").read_text())

    before = tree(run)
    code, _, err = command("sample", "--run", run, "--n", 5, "--out", tmp_path / "a.png")
    assert (code, err) == (0, "")
    with np.load(tmp_path / "a.npz") as file:
        assert file["images"].shape == (10, 8, 8, 1)
    assert tree(run) == before
    code, _, err = command("sample", "--run", run, "--label", 3, "--out", tmp_path / "b.png")
    assert code == 2
    assert "the run knows no classes" in err


def test_the_script_without_pretraining_and_with_hidden_layers(tmp_path: Path) -> None:
    options = tiny("train_energy", "--kind", "began", "--hidden", 6, "--out", tmp_path / "run")
    code, out, err = command("train_energy", *options)
    assert (code, err) == (0, "")
    assert "SAE FVU" not in out  # no dictionary of images
    assert {r["phase"] for r in metrics(tmp_path / "run")} == {"gan"}
    assert restore_run(tmp_path / "run").settings.kind == "began"
    for unknown in ("--gan.conditional", "--gan.r1-gamma=1", "--gan.d-steps=2"):
        code, _, err = command("train_energy", *tiny("train_energy", unknown, "--out", tmp_path / "other"))
        assert code == 2
        assert f"option = {unknown.partition('=')[0]!r} cannot be used: there is none of this name" in err
    assert not (tmp_path / "other").exists()
