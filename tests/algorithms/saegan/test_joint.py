"""The joint critic: pairs of an image and its code, codes of training images, and a generator that learns to obey them."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SHAPE, normal, random_params, uint8_data, unit_batch

from saegan_jax.algorithms.gan import NETWORKS, Condition, GANConfig
from saegan_jax.algorithms.gan import step as step_module
from saegan_jax.algorithms.gan.networks import image_networks
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, module
from saegan_jax.algorithms.saegan import (
    SAEGANConfig,
    fit_pretrained,
    fitting_operations,
    pretrained_shapes,
    saegan,
    saegan_game,
)
from saegan_jax.algorithms.saegan.build import drop_parts
from saegan_jax.errors import ConfigError
from saegan_jax.networks.discriminators import MLPDiscriminator

N, D_SAE, D_NOISE = 6, 5, 3
GAN = GANConfig(hidden=(), d_noise=D_NOISE, batch_size=N, steps=2, learning_rate=0.01, r1_gamma=0.0, r2_gamma=0.0)
DENSE = SAEConfig(d_sae=D_SAE, rho=0.3, k=2, active_threshold=0.4, batch_size=N)
PATCHES = SAEConfig(variant="l1", d_sae=D_SAE, patch_size=2, batch_size=N)
JOINT = SAEGANConfig(discriminator="joint", sae=DENSE, gan=GAN)
quick = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def pretrained_of(config):
    d_in = 4 if config.sae.patch_size else 16
    params = random_params(module(config.sae, d_in), normal(1, d_in), seed=3, scale=0.8)
    return quick(lambda p: fit_pretrained(config, p, uint8_data(32).image, jax.random.key(1)))(params)


def numpy_codes(pretrained, images):
    """Sigmoid codes of images in [0, 1], inactive units at 0."""
    p = {name: np.asarray(w, np.float64) for name, w in pretrained.sae["params"].items()}
    codes = 1 / (1 + np.exp(-(np.asarray(images, np.float64).reshape(len(images), -1) @ p["W_enc"] + p["b_enc"])))
    return np.where(codes > 0.4, codes, 0.0)


@pytest.mark.parametrize("standardise", [False, True])
def test_the_critic_is_its_formula(standardise):
    config = replace(JOINT, standardise=standardise, gan=replace(GAN, hidden=(7,)))
    pretrained = pretrained_of(config)
    game = saegan_game(config, image_shape=SHAPE)
    params = game.init(jax.random.key(0), pretrained).discriminator
    x = 2 * unit_batch(N, seed=4).image - 1
    h = np.asarray(game.real_codes(pretrained, jax.random.key(9), unit_batch(N, seed=5).image))
    logits = game.critics["joint"](params, pretrained, x, Condition(code=jnp.asarray(h)))
    p = {k: {n: np.asarray(w, np.float64) for n, w in v.items()} for k, v in params["joint"]["params"].items()}
    features = np.asarray(x, np.float64).reshape(N, -1) @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
    features = np.where(features > 0, features, 0.2 * features)

    if standardise:
        # fit_pretrained reads all codes for the scale, active or not.
        p_sae = {name: np.asarray(w, np.float64) for name, w in pretrained.sae["params"].items()}
        raw = np.asarray(uint8_data(32).image, np.float64).reshape(32, -1) / 255 @ p_sae["W_enc"] + p_sae["b_enc"]
        raw = 1 / (1 + np.exp(-raw))
        np.testing.assert_allclose(pretrained.center, raw.mean(axis=0), rtol=1e-4)
        scaled = (h - raw.mean(axis=0)) / np.maximum(raw.std(axis=0), 1e-2)
    else:
        assert (np.asarray(pretrained.center) == 0).all()
        scaled = h / np.asarray(pretrained.scale, np.float64)

    inner = (features * (scaled @ p["code"]["kernel"])).sum(axis=-1) / np.sqrt(7)
    expected = features @ p["Dense_1"]["kernel"][:, 0] + p["Dense_1"]["bias"] + inner
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_codes_of_reals_are_those_of_the_encoder_with_inactive_units_at_zero():
    pretrained = pretrained_of(JOINT)
    images = unit_batch(N).image
    codes = saegan_game(JOINT, image_shape=SHAPE).real_codes(pretrained, jax.random.key(9), images)
    expected = numpy_codes(pretrained, images)
    assert 0 < (expected == 0).mean() < 1
    np.testing.assert_allclose(codes, expected, rtol=1e-5)


@pytest.mark.parametrize("standardise", [False, True])
def test_dropped_codes_keep_a_random_part_of_some(standardise):
    n, d_sae = 4000, 8
    center = jnp.arange(d_sae, dtype=jnp.float32) * float(standardise)
    codes = jax.random.uniform(jax.random.key(1), (n, 2 * d_sae), jnp.float32, 100.0, 101.0)
    off = jnp.tile(center, 2)
    dropped = np.asarray(drop_parts(codes, off, jax.random.key(0), share=0.5))
    kept = dropped == np.asarray(codes)
    np.testing.assert_array_equal(dropped[~kept], np.broadcast_to(off, kept.shape)[~kept])
    share = kept.mean(axis=1)
    # Half are whole, and of the others a uniform share is kept, so that 1 in 17 of them is whole too.
    assert abs((share == 1).mean() - (0.5 + 0.5 / 17)) < 0.03
    numbers = np.bincount(kept.sum(axis=1), minlength=17)[:16] / n
    np.testing.assert_allclose(numbers, 0.5 / 17, atol=0.012)
    np.testing.assert_allclose(kept.mean(axis=0), 0.75, atol=0.03)


def test_a_generator_learns_from_the_parts_of_codes_that_critics_are_given():
    config = replace(JOINT, code_dropout=1.0, pairing="same")
    pretrained = pretrained_of(config)
    game = saegan_game(config, image_shape=SHAPE)
    images = unit_batch(N).image
    codes = np.asarray(game.real_codes(pretrained, jax.random.key(0), images))
    whole = numpy_codes(pretrained, images)
    assert 0 < (codes != 0).sum() < (whole != 0).sum()
    np.testing.assert_allclose(codes, np.where(codes != 0, whole, 0), rtol=1e-5)
    again = np.asarray(game.real_codes(pretrained, jax.random.key(1), images))
    assert (again != codes).any()


@pytest.mark.parametrize("pairing", ["other", "same", "shuffled"])
@pytest.mark.parametrize("d_steps", [1, 2])
def test_a_fake_is_scored_beside_the_code_it_was_made_from(pairing, d_steps, monkeypatch):
    """Recorded in a critic: codes of reals, those of fakes, and the code within the latent of each fake."""

    config = replace(JOINT, pairing=pairing, gan=replace(GAN, d_steps=d_steps))
    pretrained = pretrained_of(config)
    algorithm = saegan(config, image_shape=SHAPE)
    state = algorithm.init(jax.random.key(0), pretrained)
    seen = []
    original = step_module.shares_of

    def recording(*args):
        shares = original(*args)
        seen.append(shares)
        return shares

    monkeypatch.setattr(step_module, "shares_of", recording)
    batch = unit_batch(N)
    algorithm.step(state, batch)
    ((shares, last),) = seen
    n = N // d_steps
    real = numpy_codes(pretrained, batch.image).reshape(d_steps, n, D_SAE)
    rolled = np.roll(real, 1, axis=1)
    real, fake = {"other": (real, rolled), "same": (real, real), "shuffled": (rolled, real)}[pairing]
    np.testing.assert_allclose(shares.real_code, real, rtol=1e-5)
    np.testing.assert_allclose(shares.fake_code, fake, rtol=1e-5)
    scale = np.asarray(pretrained.scale)
    np.testing.assert_allclose(shares.latent[..., :D_SAE], fake / scale, rtol=1e-4)
    np.testing.assert_allclose(last.latent[:, :D_SAE], fake[0] / scale, rtol=1e-4)
    assert not np.allclose(shares.latent[0, :, D_SAE:], last.latent[:, D_SAE:])  # fresh noise
    np.testing.assert_array_equal(last.real_code, shares.real_code[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_trains_with_every_variant(variant):
    config = replace(JOINT, sae=SAEConfig(variant=variant, d_sae=D_SAE, k=2, batch_size=N, **levels(variant)))
    check_training(config)


def levels(variant):
    return {"levels": (2, D_SAE)} if variant == "matryoshka" else {}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_trains_with_every_network(name):
    shape = (8, 8, 1)
    gan = replace(GAN, network=name, width=2, stages=1, r1_gamma=1.0, r2_gamma=1.0)
    check_training(replace(JOINT, gan=gan), shape=shape, pretrained=None)


@pytest.mark.parametrize(
    "config",
    [
        replace(JOINT, sae=PATCHES),
        replace(JOINT, alignment=0.5, pairing="same"),
        replace(JOINT, gan=replace(GAN, spectral_norm=True, augment=("translation",), gradient_penalty=1.0)),
        replace(JOINT, gan=replace(GAN, reuse_fakes=True, precision="bfloat16")),
    ],
    ids=["patches", "aligned", "penalties", "reused-bfloat16"],
)
def test_it_trains_with_patches_alignment_and_penalties(config):
    check_training(config)


def check_training(config, shape=SHAPE, pretrained=()):
    """One finite step in which the projection of the code and the generator's rows of the code move."""
    if pretrained is None:
        d_in = int(np.prod(shape))
        params = random_params(module(config.sae, d_in), normal(1, d_in), seed=3, scale=0.8)
        images = uint8_data(16, shape).image
        pretrained = quick(lambda p: fit_pretrained(config, p, images, jax.random.key(1)))(params)
    else:
        pretrained = pretrained_of(config)
    algorithm = saegan(config, image_shape=shape)
    state = quick(algorithm.init)(jax.random.key(0), pretrained)
    after, info = quick(algorithm.step)(state, unit_batch(N, shape))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after.params, info)))
    kernels = [s.params.discriminator["joint"]["params"]["code"]["kernel"] for s in (state, after)]
    assert np.abs(np.asarray(kernels[1]) - kernels[0]).max() > 0


def test_samples_follow_the_prior_or_the_codes_that_are_given():
    pretrained = pretrained_of(JOINT)
    algorithm = saegan(JOINT, image_shape=SHAPE)
    state = algorithm.init(jax.random.key(0), pretrained)
    codes = jnp.asarray(numpy_codes(pretrained, unit_batch(4).image), jnp.float32)
    key = jax.random.key(7)
    drawn = algorithm.sample(state, key, 4, code=codes)
    assert drawn.shape == (4, *SHAPE)
    other = algorithm.sample(state, key, 4, code=codes[::-1])
    # The noise is the same: what differs is the code alone.
    assert np.abs(np.asarray(drawn) - other).max() > 1e-4
    np.testing.assert_array_equal(drawn, algorithm.sample(state, key, 4, code=codes))
    assert algorithm.sample(state, key, 4).shape == (4, *SHAPE)


def test_a_generator_without_codes_refuses_them():
    config = SAEGANConfig(generator_input="gaussian", sae=DENSE, gan=GAN)
    algorithm = saegan(config, image_shape=SHAPE)
    state = algorithm.init(jax.random.key(0), pretrained_of(config))
    with pytest.raises(ValueError, match="this generator reads no codes"):
        algorithm.sample(state, jax.random.key(0), 2, code=jnp.zeros((2, D_SAE)))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"generator_input": "gaussian"}, "discriminator"),
        ({"generator_output": "codes"}, "discriminator"),
        ({"gan": replace(GAN, conditional=True)}, "gan.conditional"),
        ({"pairing": "none"}, "pairing"),
        ({"code_dropout": 1.5}, "code_dropout"),
        ({"code_dropout": 0.5, "alignment": 1.0}, "code_dropout"),
        ({"code_dropout": 0.5, "discriminator": "pixels"}, "code_dropout"),
        ({"discriminator": "pixels", "generator_output": "codes", "standardise": True}, "standardise"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, field):
    with pytest.raises(ConfigError, match=f"^{field} = "):
        replace(JOINT, **changes)


def test_head_adds_the_projection_of_a_code():
    net = MLPDiscriminator(())
    x, code = normal(3, 4), normal(3, 2, seed=1)
    params = net.init(jax.random.key(0), x, code=code)
    with_code, without = net.apply(params, x, code=code), net.apply(params, x, code=jnp.zeros_like(code))
    expected = (np.asarray(x) * (np.asarray(code) @ params["params"]["code"]["kernel"])).sum(axis=-1) / 2
    np.testing.assert_allclose(with_code - without, expected, rtol=1e-5, atol=1e-6)


def test_the_joint_critic_has_the_image_networks_parameters_and_one_matrix_more():
    plain = image_networks(GAN, SHAPE).discriminator.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))["params"]
    joint = saegan_game(JOINT, image_shape=SHAPE).init(jax.random.key(0), pretrained_of(JOINT)).discriminator["joint"]
    assert set(joint["params"]) == {*plain, "code"}
    assert joint["params"]["code"]["kernel"].shape == (D_SAE, 16)


def test_the_prior_has_the_clusters_that_are_asked_for():
    config = replace(JOINT, sampler="clusters", prior_clusters=3)
    assert pretrained_of(config).prior.weight.shape == (3,)
    shapes = pretrained_shapes(config, image_shape=SHAPE)
    assert shapes.prior.weight.shape == (3,)
    few, many = (fitting_operations(replace(config, prior_clusters=n), n_images=100, image_shape=SHAPE) for n in (2, 4))
    assert 0 < few < many
    with pytest.raises(ConfigError, match=r"^prior_clusters = "):
        replace(config, prior_clusters=0)
