"""The SAE inside the GAN: frozen parts stay frozen, gradients pass through them, codes in and codes out."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    SHAPE,
    assert_close,
    assert_every_leaf_moved,
    assert_finite,
    assert_same,
    filled,
    normal,
    numpy_leaves,
    random_params,
    uint8_data,
    unit_batch,
)

from saegan_jax.algorithms.gan import GANConfig, hyper
from saegan_jax.algorithms.sae import SAEConfig, module
from saegan_jax.algorithms.saegan import SAEGANConfig, alignment_loss, fit_pretrained, saegan, saegan_game
from saegan_jax.errors import ConfigError
from saegan_jax.networks.discriminators import MLPDiscriminator
from saegan_jax.priors import fit_factorised

BATCH, D_SAE, D_NOISE = 6, 5, 3
TINY = SAEGANConfig(
    code_hidden=(4,),
    sae=SAEConfig(d_sae=D_SAE, rho=0.3, active_threshold=0.4, batch_size=BATCH),
    gan=GANConfig(hidden=(7,), d_noise=D_NOISE, batch_size=BATCH, learning_rate=0.01),
)
COMBINATIONS = [(g, d) for g in ("gaussian", "sparse") for d in ("pixels", "codes", "ensemble")]


@pytest.fixture(scope="module")
def pretrained():
    params = random_params(module(TINY.sae, 16), normal(1, 16), seed=3, scale=0.8)
    return fit_pretrained(TINY, params, uint8_data(64).image, jax.random.key(0))


@functools.cache
def config_of(generator_input, discriminator, alignment=0.0):
    return replace(TINY, generator_input=generator_input, discriminator=discriminator, alignment=alignment)


@pytest.fixture(scope="module")
def programs(pretrained):
    """The algorithm, its jitted step and a state, once per configuration."""

    @functools.cache
    def get(config):
        algorithm = saegan(config, image_shape=SHAPE)
        # Shapes of an init, filled in: compiling six of them would take longer than all else here.
        shapes = jax.eval_shape(algorithm.init, jax.random.key(0), pretrained)
        return algorithm, jax.jit(algorithm.step), filled(shapes, hyper=hyper(config.gan), pretrained=pretrained)

    return get


def numpy_codes(pretrained, images):
    p = {name: np.asarray(v, np.float64) for name, v in pretrained.sae["params"].items()}
    return 1 / (1 + np.exp(-(np.asarray(images, np.float64).reshape(len(images), -1) @ p["W_enc"] + p["b_enc"])))


def test_fitting_fits_the_prior_to_codes_of_unit_images(pretrained):
    data = uint8_data(64)
    codes = numpy_codes(pretrained, np.asarray(data.image) / 255)
    want = jax.jit(lambda c: fit_factorised(c, threshold=0.4))(jnp.asarray(codes, jnp.float32))
    assert_close(pretrained.prior, want, rtol=1e-4, atol=1e-5)
    assert ((pretrained.prior.density > 0) & (pretrained.prior.density < 1)).any()
    # Float images in [0, 1] and another batch size, one that does not divide 64, give the same.
    again = fit_pretrained(TINY, pretrained.sae, unit_batch(64).image, jax.random.key(0), batch_size=10)
    assert_close(again, pretrained, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("generator_input", "discriminator"), COMBINATIONS)
def test_steps_train_both_networks_and_leave_the_autoencoder_alone(
    generator_input, discriminator, programs, pretrained
):
    algorithm, step, before = programs(config_of(generator_input, discriminator))
    state = before
    for i in range(2):
        state, info = step(state, unit_batch(BATCH, seed=i))
    assert_finite((state, info))
    assert_same(state.pretrained, pretrained)
    # With `codes` alone the generator's only gradient is the one through the frozen encoder.
    assert_every_leaf_moved(state.params.generator, before.params.generator)
    # In a relativistic loss the last bias has no gradient, but for rounding.
    assert_every_leaf_moved(state.params.discriminator, before.params.discriminator, but="['Dense_1']['bias']")
    assert_every_leaf_moved(state.ema, before.ema)
    assert state.step == 2
    names = {"pixels", "codes"} if discriminator == "ensemble" else {discriminator}
    assert set(state.params.discriminator) == names
    d_latent = D_NOISE + (D_SAE if generator_input == "sparse" else 0)
    assert state.params.generator["params"]["Dense_0"]["kernel"].shape == (d_latent, 7)
    images = jax.eval_shape(lambda: algorithm.sample(state, jax.random.key(0), 3))
    assert (images.shape, images.dtype) == ((3, *SHAPE), jnp.float32)


def test_no_gradient_reaches_the_frozen_autoencoder(programs, pretrained):
    algorithm, _, state = programs(config_of("sparse", "ensemble", 0.5))

    @jax.jit
    def gradient(sae):
        def loss(sae):
            _, info = algorithm.step(replace(state, pretrained=replace(pretrained, sae=sae)), unit_batch(BATCH))
            return info.discriminator_loss + info.generator_loss + info.real_logits + info.r1 + info.generator_extra

        return jax.value_and_grad(loss)(sae)

    value, got = gradient(pretrained.sae)
    assert value != 0
    assert_same(got, jax.tree.map(lambda p: np.zeros(p.shape, p.dtype), pretrained.sae))


def test_losses_of_an_ensemble_are_sums_over_its_critics(programs):
    """The ensemble with the pixel critic of one run and the code critic of another."""
    config = {d: config_of("gaussian", d) for d in ("pixels", "codes", "ensemble")}
    state = programs(config["ensemble"])[2]
    batch = unit_batch(BATCH)
    alone = []
    for d in ("pixels", "codes"):
        _, step, single = programs(config[d])
        params = state.params._replace(discriminator={d: state.params.discriminator[d]})
        single = replace(single, params=params, key=state.key)
        alone.append(step(single, batch))
    after, info = programs(config["ensemble"])[1](state, batch)
    total = jax.tree.map(lambda a, b: a + b, alone[0][1], alone[1][1])
    assert_close(info, total._replace(accuracy=total.accuracy / 2), rtol=1e-4, atol=1e-5)  # a mean over critics
    for d, (single, _) in zip(("pixels", "codes"), alone, strict=True):
        kernels = [s.params.discriminator[d]["params"]["Dense_1"]["kernel"] for s in (after, single)]
        assert_close(*kernels, rtol=1e-4, atol=1e-5)


def null_space_noise(pretrained):
    """An image that no unit sees: orthogonal to every column of W_enc."""
    W = np.asarray(pretrained.sae["params"]["W_enc"], np.float64)
    noise = np.random.default_rng(0).normal(size=16)
    noise -= W @ np.linalg.lstsq(W, noise, rcond=None)[0]
    assert np.abs(noise @ W).max() < 1e-12
    assert np.abs(noise).max() > 0.3
    return noise.reshape(1, *SHAPE).astype(np.float32)


@pytest.mark.parametrize("discriminator", ["pixels", "codes"])
def test_the_code_critic_sees_codes_alone(discriminator, programs, pretrained):
    _, step, state = programs(config_of("gaussian", discriminator))
    batch = unit_batch(BATCH)
    noisy = batch._replace(image=batch.image + jnp.asarray(np.repeat(null_space_noise(pretrained), BATCH, axis=0)))
    (_, clean), (_, attacked) = step(state, batch), step(state, noisy)
    difference = abs(float(clean.real_logits - attacked.real_logits))
    if discriminator == "codes":
        assert difference < 1e-5
        np.testing.assert_allclose(clean.r1, attacked.r1, rtol=1e-4)
    else:
        assert difference > 1e-2
    # The fakes are the same in both.
    np.testing.assert_allclose(clean.fake_logits, attacked.fake_logits, rtol=1e-6)


def test_the_code_critic_reads_scaled_codes_and_not_centred_ones(programs, pretrained):
    _, step, state = programs(config_of("gaussian", "codes"))
    batch = unit_batch(BATCH)
    _, info = step(state, batch)
    codes = numpy_codes(pretrained, batch.image) / np.asarray(pretrained.scale, np.float64)
    logits = jax.jit(MLPDiscriminator((4,)).apply)(state.params.discriminator["codes"], jnp.asarray(codes, jnp.float32))
    np.testing.assert_allclose(info.real_logits, logits.mean(), rtol=1e-4, atol=1e-6)


def test_sparse_latents_are_scaled_prior_draws_beside_noise(pretrained):
    game = saegan_game(config_of("sparse", "pixels"), image_shape=SHAPE)
    n = 3000
    latent = np.asarray(jax.jit(game.latent, static_argnums=2)(pretrained, jax.random.key(5), n))
    assert latent.shape == (n, D_SAE + D_NOISE)
    codes, noise = latent[:, :D_SAE] * np.asarray(pretrained.scale), latent[:, D_SAE:]
    density = np.asarray(pretrained.prior.density)
    # Exact zeros where off, though E's own codes are never 0: that is the prior's reading of "off".
    np.testing.assert_allclose((codes == 0).mean(axis=0), 1 - density, atol=4 * 0.5 / np.sqrt(n))
    low, high = np.asarray(pretrained.prior.quantiles)[[0, -1]]
    for j in np.flatnonzero(density):
        on = codes[codes[:, j] > 0, j]
        assert low[j] - 1e-5 <= on.min()
        assert on.max() <= high[j] + 1e-5
        np.testing.assert_allclose(on.mean(), pretrained.prior.quantiles[:, j].mean(), atol=0.05)
    # Gaussian, and independent of the codes: both halves of the key are used.
    assert np.abs(noise.mean(axis=0)).max() < 4 / np.sqrt(n)
    assert np.abs(noise.std(axis=0) - 1).max() < 4 / np.sqrt(2 * n)
    correlation = np.corrcoef(codes.T, noise.T)[:D_SAE, D_SAE:]
    assert np.nanmax(np.abs(correlation)) < 4.5 / np.sqrt(n)


def constant_codes(state, pretrained, codes):
    """A state whose prior always draws ``codes`` and whose generator ignores the noise: all its images are one."""
    prior = replace(
        pretrained.prior,
        density=jnp.asarray(np.ones(D_SAE, np.float32)),
        quantiles=jnp.asarray(np.tile(np.asarray(codes, np.float32), (33, 1))),
    )
    params = random_params_of(state.params.generator)
    kernel = params["params"]["Dense_0"]["kernel"]
    params["params"]["Dense_0"]["kernel"] = jnp.asarray(np.where(np.arange(len(kernel))[:, None] < D_SAE, kernel, 0))
    state = replace(
        state, pretrained=replace(pretrained, prior=prior), ema=params, params=state.params._replace(generator=params)
    )
    p = {name: {k: np.asarray(v, np.float64) for k, v in layer.items()} for name, layer in params["params"].items()}
    hidden = codes / np.asarray(pretrained.scale) @ p["Dense_0"]["kernel"][:D_SAE] + p["Dense_0"]["bias"]
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    return state, np.tanh(hidden @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"]).reshape(1, *SHAPE)


def random_params_of(params):
    rng = np.random.default_rng(9)
    return jax.tree.map(lambda p: jnp.asarray(0.5 * rng.normal(size=p.shape), p.dtype), params)


CODES = np.array([0.2, 0.9, 0.5, 0.45, 0.7])


def test_training_and_sampling_draw_from_the_prior_in_the_state(programs, pretrained):
    algorithm, step, state = programs(config_of("sparse", "codes", 0.5))
    state, image = constant_codes(state, pretrained, CODES)
    sampled = jax.jit(algorithm.sample, static_argnums=2)(state, jax.random.key(0), 4)
    np.testing.assert_allclose(sampled, np.repeat((image + 1) / 2, 4, axis=0), rtol=1e-4, atol=1e-5)
    _, info = step(state, unit_batch(BATCH))
    codes = numpy_codes(pretrained, (image + 1) / 2) / np.asarray(pretrained.scale)
    logit = MLPDiscriminator((4,)).apply(state.params.discriminator["codes"], jnp.asarray(codes, jnp.float32))
    np.testing.assert_allclose(info.fake_logits, logit[0], rtol=1e-4, atol=1e-5)


def test_alignment_in_the_generators_loss_by_hand(programs, pretrained):
    _, step, state = programs(config_of("sparse", "codes", 0.5))
    state, image = constant_codes(state, pretrained, CODES)
    _, info = step(state, unit_batch(BATCH))
    error = numpy_codes(pretrained, (image + 1) / 2)[0] - CODES
    want = 0.5 * (error**2).sum() / (CODES**2).sum()
    assert want > 0.05
    np.testing.assert_allclose(info.generator_extra, want, rtol=1e-4)
    # The rest of the loss is what it is without the term, at the same discriminator.
    _, plain_step, plain = programs(config_of("sparse", "codes"))
    plain = replace(state, opt_state=plain.opt_state)
    _, without = plain_step(plain, unit_batch(BATCH))
    np.testing.assert_allclose(info.generator_loss - info.generator_extra, without.generator_loss, rtol=1e-4)
    assert without.generator_extra == 0


def test_alignment_reaches_the_generator_and_makes_images_that_encode_to_their_codes(pretrained):
    config = config_of("sparse", "pixels", 1.0)
    game = saegan_game(config, image_shape=SHAPE)
    params = random_params_of(jax.eval_shape(game.init, jax.random.key(0), pretrained).generator)

    @jax.jit
    def loss_and_gradient(params, key):
        latent = game.latent(pretrained, key, 32)
        return jax.value_and_grad(
            lambda p: game.generator_extra(pretrained, latent, game.generate(p, pretrained, latent, None))
        )(params)

    first, gradient = loss_and_gradient(params, jax.random.key(0))
    assert_finite(gradient)
    assert all((np.abs(g) > 0).any() for g in jax.tree.leaves(gradient))
    for i in range(200):
        params = jax.tree.map(lambda p, g: np.asarray(p) - 0.5 * np.asarray(g), params, gradient)
        last, gradient = loss_and_gradient(params, jax.random.key(i % 20))
    last, _ = loss_and_gradient(params, jax.random.key(0))
    assert last < 0.5 * first


def test_init_needs_what_was_pretrained():
    algorithm = saegan(TINY, image_shape=SHAPE)
    with pytest.raises(ValueError, match="needs pretrained, the autoencoder and prior: pass fit_pretrained"):
        algorithm.init(jax.random.key(0))


def test_integer_images_are_refused_while_tracing(programs):
    algorithm, _, state = programs(config_of("sparse", "ensemble"))
    with pytest.raises(ValueError, match=r"must be float32 in \[0, 1\], but these are uint8"):
        jax.eval_shape(algorithm.step, state, unit_batch(BATCH)._replace(image=uint8_data(BATCH).image))


def test_alignment_loss_by_hand():
    target = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, 0.0]], np.float32)
    codes = np.array([[1.0, 1.0, 0.5], [0.3, 0.0, 0.2], [0.5, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(alignment_loss(jnp.asarray(target), jnp.asarray(codes)), [1.25 / 5, 0, 0], rtol=1e-6)
    gradient = jax.grad(lambda c: alignment_loss(jnp.asarray(target), c).sum())(jnp.asarray(codes))
    np.testing.assert_allclose(gradient, [[0, -0.4, 0.2], [0, 0, 0], [0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("generator_input", {"generator_input": "dense"}),
        ("discriminator", {"discriminator": "both"}),
        ("alignment", {"alignment": -0.1}),
        ("alignment", {"alignment": 0.1, "generator_input": "gaussian"}),
        ("code_hidden", {"code_hidden": (4, 0)}),
    ],
)
def test_bad_settings_raise_and_name_the_field(field, settings):
    with pytest.raises(ConfigError, match=rf"^{field} = .* cannot be used: .+") as error:
        SAEGANConfig(**settings)
    assert error.value.field == field
    assert repr(settings[field]) in str(error.value)


def test_golden_step(programs, pretrained):
    """Numbers of one step from fixed key and data.

    Update them only for a deliberate change of the mathematics, of the initial values or of the key schedule, and say so
    in the change; never to make a refactoring pass.
    """
    algorithm, step, _ = programs(config_of("sparse", "ensemble"))
    state, info = step(jax.jit(algorithm.init)(jax.random.key(42), pretrained), unit_batch(BATCH, seed=5))
    assert_same(state.pretrained, pretrained)
    kernels = [np.abs(x.astype(np.float64)).sum() for path, x in numpy_leaves(state.params).items() if "kernel" in path]
    assert len(kernels) == 6
    got = [*np.array(info, np.float64), *kernels]
    want = [2.4688985, 1.4319756, 0.92373705, 0.8521651, 1.008186, 1.0790042, 0.0, 0.583333, 0.0]
    want += [25.878944, 35.721365, 11.581566, 2.0234161, 31.264304, 2.1643762]
    np.testing.assert_allclose(got, want, rtol=1e-5)
