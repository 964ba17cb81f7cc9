"""Training of the sparse autoencoder: loss, gradient, norm of the decoder, statistics, and that it learns."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SHAPE, assert_close, assert_finite, digits, filled, unit_batch

from saegan_jax import losses
from saegan_jax.algorithms.sae import SAEConfig, SAEState, autoencoder, hyper, module, sae
from saegan_jax.errors import ConfigError
from saegan_jax.training.transforms import many_steps

D_SAE = 6
TINY = SAEConfig(d_sae=D_SAE, rho=0.2, batch_size=8, steps=10, learning_rate=0.05, active_threshold=0.15)
VARIANTS = {
    "kl": TINY,
    "rate_kl": replace(TINY, variant="rate_kl"),
    "l1": replace(TINY, variant="l1", beta=0.3),
    "tied": replace(TINY, tied=True, decoder_norm=0.0),
    "free": replace(TINY, decoder_norm=0.0, weight_decay=0.1),
    "norm-3": replace(TINY, decoder_norm=3.0),
}


@functools.cache
def programs(config):
    algorithm = sae(config, image_shape=SHAPE)
    return algorithm, jax.jit(algorithm.step)


@functools.cache
def initial(config):
    return jax.jit(programs(config)[0].init)(jax.random.key(42))


@functools.cache
def start(config):
    """A state whose parameters are all away from zero."""
    state = filled(jax.eval_shape(programs(config)[0].init, jax.random.key(0)), seed=1)
    params = {name: np.array(p) for name, p in state.params["params"].items()}
    if config.variant != "kl":
        # Units on for some examples and off for others, none off on the whole batch.
        params["W_enc"], params["b_enc"] = 0.5 * params["W_enc"], 1.0 + np.abs(params["b_enc"])
    if config.decoder_norm:
        params["W_dec"] *= config.decoder_norm / np.linalg.norm(params["W_dec"], axis=1, keepdims=True)
    rho = np.full(D_SAE, config.rho, np.float32)
    return replace(
        state,
        params={"params": {name: jnp.array(p) for name, p in params.items()}},
        hyper=hyper(config),
        mean_activation=jnp.array(rho),
        density=jnp.array(rho),
    )


def numpy_loss(config, params, x):
    """The objective in float64, written from its formula alone."""
    p = params
    logits = x @ p["W_enc"] + p["b_enc"]
    codes = 1 / (1 + np.exp(-logits)) if config.variant == "kl" else np.maximum(logits, 0)
    W_dec = p["W_enc"].T if config.tied else p["W_dec"]
    x_hat = codes @ W_dec + p["b_dec"]
    mean, rho = codes.mean(axis=0), config.rho
    sparsity = {
        "kl": lambda: np.sum(rho * np.log(rho / mean) + (1 - rho) * np.log((1 - rho) / (1 - mean))),
        "rate_kl": lambda: np.sum(rho * np.log(rho / mean) - rho + mean),
        "l1": lambda: np.abs(codes).sum(axis=1).mean(),
    }[config.variant]()
    decay = sum((w**2).sum() for name, w in p.items() if name in ("W_enc", "W_dec"))
    return 0.5 * ((x_hat - x) ** 2).sum(axis=1).mean() + config.beta * sparsity + 0.5 * config.weight_decay * decay


def finite_differences(config, params, x, h=1e-5):
    gradient = {name: np.zeros_like(p) for name, p in params.items()}
    for name, p in params.items():
        for index in np.ndindex(p.shape):
            up, down = p.copy(), p.copy()
            up[index] += h
            down[index] -= h
            gradient[name][index] = (
                numpy_loss(config, {**params, name: up}, x) - numpy_loss(config, {**params, name: down}, x)
            ) / (2 * h)
    return gradient


def float64(params):
    return {name: np.asarray(p, np.float64) for name, p in params["params"].items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_and_gradient_of_a_step_equal_finite_differences(name):
    """The gradient is read off Adam's first moment, which is (1 - beta_1) g after one step."""
    config, batch = VARIANTS[name], unit_batch(8)
    _, step = programs(config)
    before = start(config)
    state, info = step(before, batch)
    x = np.asarray(batch.image, np.float64).reshape(8, -1)
    params = float64(before.params)
    np.testing.assert_allclose(info.loss, numpy_loss(config, params, x), rtol=1e-5)

    want = finite_differences(config, params, x)
    got = {n: np.asarray(m) / 0.1 for n, m in state.opt_state[0].mu["params"].items()}
    if config.decoder_norm:
        unit = params["W_dec"] / config.decoder_norm
        radial = (want["W_dec"] * unit).sum(axis=1, keepdims=True)
        assert np.abs(radial).max() > 1e-2  # there was something to remove
        want["W_dec"] = want["W_dec"] - radial * unit
        np.testing.assert_allclose((got["W_dec"] * unit).sum(axis=1), 0, atol=1e-5)
    assert got.keys() == want.keys()
    for n in want:
        np.testing.assert_allclose(got[n], want[n], rtol=1e-4, atol=1e-5, err_msg=n)

    assert_finite((state, info))
    assert state.step == 1
    codes = jax.jit(autoencoder(config, image_shape=SHAPE).encode)(before.params, batch.image)
    np.testing.assert_allclose(info.l0, (np.asarray(codes) > config.active_threshold).sum(axis=1).mean(), rtol=1e-6)
    if config.decoder_norm:
        norms = np.linalg.norm(state.params["params"]["W_dec"], axis=1)
        np.testing.assert_allclose(norms, config.decoder_norm, rtol=1e-6)


def test_loss_is_the_public_sae_loss():
    batch = unit_batch(8)
    _, step = programs(TINY)
    _, info = step(start(TINY), batch)

    @jax.jit
    def public(params, x):
        x_hat, _, logits = module(TINY, 16).apply(params, x, jax.nn.sigmoid)
        return losses.sae_loss(x, x_hat, logits, rho=TINY.rho, beta=TINY.beta)

    np.testing.assert_allclose(info.loss, public(start(TINY).params, batch.image.reshape(8, -1)), rtol=1e-6)
    np.testing.assert_allclose(info.loss, info.reconstruction + TINY.beta * info.sparsity, rtol=1e-6)


def test_steps_are_adam_along_a_cosine():
    """Ten steps, the whole schedule, against Adam written out in numpy."""
    config = replace(TINY, decoder_norm=0.0)
    algorithm, net = sae(config, image_shape=SHAPE), module(config, 16)
    batches = [unit_batch(8, seed=i) for i in range(10)]

    @jax.jit
    def gradient(params, image):
        def loss(p):
            x = image.reshape(8, -1)
            x_hat, _, logits = net.apply(p, x, jax.nn.sigmoid)
            return losses.sae_loss(x, x_hat, logits, rho=config.rho, beta=config.beta)

        return jax.grad(loss)(params)

    params = jax.tree.map(np.asarray, start(config).params)
    first, second = (jax.tree.map(np.zeros_like, params) for _ in range(2))
    for t, batch in enumerate(batches):
        g = jax.tree.map(np.asarray, gradient(params, batch.image))
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, g)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, g)
        rate = config.learning_rate * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * t / config.steps)))

        def update(p, m, v, t=t, rate=rate):
            return (p - rate * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)).astype(
                p.dtype
            )

        params = jax.tree.map(update, params, first, second)

    stacked = jax.tree.map(lambda *a: jnp.asarray(np.stack(a)), *batches)
    state, _ = jax.jit(lambda s: jax.lax.scan(algorithm.step, s, stacked))(start(config))
    assert_close(state.params, params, rtol=1e-4, atol=1e-4)
    assert state.step == 10


@pytest.mark.parametrize("name", ["kl", "norm-3"])
def test_decoder_rows_keep_their_norm_from_the_start(name):
    norm = VARIANTS[name].decoder_norm
    _, step = programs(VARIANTS[name])
    state = initial(VARIANTS[name])
    for i in range(8):
        np.testing.assert_allclose(np.linalg.norm(state.params["params"]["W_dec"], axis=1), norm, rtol=1e-6)
        before, (state, _) = state, step(state, unit_batch(8, seed=i))
    assert np.abs(state.params["params"]["W_dec"] - before.params["params"]["W_dec"]).max() > 1e-3


def test_running_statistics_by_hand():
    _, step = programs(TINY)
    state = start(TINY)
    encode = jax.jit(autoencoder(TINY, image_shape=SHAPE).encode)
    mean, density = np.full(D_SAE, TINY.rho), np.full(D_SAE, TINY.rho)
    for i in range(4):
        batch = unit_batch(8, seed=i)
        codes = np.asarray(encode(state.params, batch.image), np.float64)
        state, _ = step(state, batch)
        mean = 0.99 * mean + 0.01 * codes.mean(axis=0)
        density = 0.99 * density + 0.01 * (codes > 0.15).mean(axis=0)
    np.testing.assert_allclose(state.mean_activation, mean, rtol=1e-5)
    np.testing.assert_allclose(state.density, density, rtol=1e-5)
    assert 0 < (codes > 0.15).mean() < 1


def test_steps_since_active_counts_and_resets():
    """Unit 0 is off, unit 1 on for every example, unit 2 on for one example of the eight."""
    _, step = programs(TINY)
    state = start(TINY)
    image = np.zeros((8, *SHAPE), np.float32)
    image[3, 0, 0, 0] = 1.0
    batch = unit_batch(8)._replace(image=jnp.asarray(image))
    W_enc, b_enc = np.zeros((16, D_SAE), np.float32), np.zeros(D_SAE, np.float32)
    b_enc[0], b_enc[1], b_enc[2], W_enc[0, 2] = -9.0, 9.0, -9.0, 18.0

    def with_encoder(state, W_enc, b_enc):
        # Copies: on a CPU jax may borrow numpy's memory, which changes below.
        p = {**state.params["params"], "W_enc": jnp.array(W_enc), "b_enc": jnp.array(b_enc)}
        return replace(state, params={"params": p})

    state = with_encoder(state, W_enc, b_enc)
    for want in ([1, 0, 0], [2, 0, 0], [3, 0, 0]):
        state, _ = step(state, batch)
        np.testing.assert_array_equal(state.steps_since_active[:3], want)
    b_enc[:3] = (9.0, -9.0, -30.0)
    state, _ = step(with_encoder(state, W_enc, b_enc), batch)
    np.testing.assert_array_equal(state.steps_since_active[:3], [0, 1, 1])
    assert state.steps_since_active.dtype == jnp.int32


def test_the_degenerate_constant_code_is_visible():
    """h = rho everywhere costs nothing, and L0 gives it away: every unit is active for every example."""
    _, step = programs(TINY)
    state = start(TINY)
    p = state.params["params"]
    b_enc = np.full(D_SAE, np.log(0.2 / 0.8), np.float32)
    constant = {"W_enc": jnp.asarray(np.zeros((16, D_SAE), np.float32)), "b_enc": jnp.asarray(b_enc)}
    state = replace(state, params={"params": {**p, **constant}})
    _, info = step(state, unit_batch(8))
    assert abs(info.sparsity) < 1e-5
    np.testing.assert_allclose(info.l0, D_SAE, rtol=1e-6)


def test_training_on_digits_learns_and_reaches_the_target_sparsity():
    data = digits()
    config = SAEConfig(d_sae=32, rho=0.1, batch_size=256, steps=300, learning_rate=0.01)
    algorithm = sae(config, image_shape=(8, 8, 1))
    run = jax.jit(many_steps(algorithm.step, length=300, batch_size=256))
    state, infos = run(jax.jit(algorithm.init)(jax.random.key(0)), data)
    assert_finite((state, infos))
    # Less than half the squared error of predicting the mean image.
    x = np.asarray(data.image, np.float64).reshape(len(data.label), -1) / 255
    mean_error = 0.5 * ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()
    final = jax.tree.map(lambda a: float(a[-20:].mean()), infos)
    assert final.loss < 0.6 * infos.loss[0]
    assert final.reconstruction < 0.5 * mean_error
    encode = autoencoder(config, image_shape=(8, 8, 1)).encode
    codes = np.asarray(encode(state.params, data.image.astype(jnp.float32) / 255))
    np.testing.assert_allclose(codes.mean(axis=0), 0.1, atol=0.03)
    np.testing.assert_allclose(state.mean_activation, codes.mean(axis=0), atol=0.02)
    assert final.l0 < 0.4 * 32
    np.testing.assert_allclose(state.density.sum(), final.l0, rtol=0.1)


def test_sample_decodes_active_units_at_their_mean_magnitude():
    algorithm, _ = programs(TINY)
    state = start(TINY)
    sample = jax.jit(algorithm.sample, static_argnums=2)

    p = float64(state.params)

    def decoded(codes):
        return np.clip((codes @ p["W_dec"] + p["b_dec"]).reshape(1, *SHAPE), 0, 1)

    never, always, half = (jnp.asarray(np.full(D_SAE, p, np.float32)) for p in (0.0, 1.0, 0.5))
    off = sample(replace(state, density=never), jax.random.key(0), 5)
    assert off.shape == (5, *SHAPE)
    np.testing.assert_allclose(off, np.repeat(decoded(np.zeros(D_SAE)), 5, axis=0), atol=1e-6)
    mean = np.linspace(0.1, 0.6, D_SAE, dtype=np.float32)
    on = sample(replace(state, density=always, mean_activation=mean), jax.random.key(0), 5)
    np.testing.assert_allclose(on, np.repeat(decoded(mean), 5, axis=0), atol=1e-5)
    mixed = np.asarray(sample(replace(state, density=half, mean_activation=mean), jax.random.key(0), 5))
    assert len(np.unique(mixed.reshape(5, -1), axis=0)) > 1
    # Each is a decoding of some subset of units, at mean / density = 2 mean.
    subsets = np.stack([decoded(2 * mean * np.array(s)) for s in np.ndindex(*[2] * D_SAE)])
    distance = np.abs(mixed[:, None] - subsets[:, 0][None]).max(axis=(2, 3, 4)).min(axis=1)
    np.testing.assert_allclose(distance, 0, atol=1e-5)
    wide = np.asarray(sample(replace(state, density=always, mean_activation=50 * mean), jax.random.key(0), 5))
    assert wide.min() >= 0
    assert wide.max() <= 1


def test_random_start_is_at_the_target():
    """Sigmoid codes start near rho, so that the sparsity term does not have to drive every unit down at once."""
    state = initial(TINY)
    assert isinstance(state, SAEState)
    np.testing.assert_allclose(state.params["params"]["b_enc"], np.log(0.2 / 0.8), rtol=1e-6)
    assert state.step == 0
    np.testing.assert_allclose(state.mean_activation, 0.2)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("d_sae", {"d_sae": 0}),
        ("learning_rate", {"learning_rate": 0.0}),
        ("learning_rate", {"learning_rate": float("nan")}),
        ("batch_size", {"batch_size": 0}),
        ("steps", {"steps": -1}),
        ("beta", {"beta": -1.0}),
        ("beta", {"beta": float("inf")}),
        ("weight_decay", {"weight_decay": -1e-3}),
        ("active_threshold", {"active_threshold": -0.1}),
        ("decoder_norm", {"decoder_norm": -1.0}),
        ("decoder_norm", {"tied": True}),
        ("variant", {"variant": "relu"}),
        ("rho_hat", {"rho_hat": "median"}),
        ("rho_hat", {"rho_hat": "running", "variant": "topk"}),
        ("pre_bias", {"pre_bias": "mode"}),
        ("k", {"variant": "topk", "k": 0}),
        ("k", {"variant": "topk", "k": 129}),
        ("levels", {"variant": "matryoshka", "levels": (64, 32, 128)}),
        ("levels", {"variant": "matryoshka", "levels": (32, 64)}),
        ("levels", {"variant": "batch_topk", "levels": (64, 128)}),
        ("decoder_norm", {"variant": "l1", "decoder_norm": 0.0}),
        ("decoder_norm", {"variant": "gated", "decoder_norm": 0.0}),
        ("bandwidth", {"bandwidth": 0.0}),
        ("auxk", {"auxk": -1.0}),
        ("dead_after", {"dead_after": 0}),
        ("patch_size", {"patch_size": 3, "stride": 2}),
        ("patch_size", {"patch_size": 1, "stride": 2}),
        ("rho", {"rho": 0.0}),
        ("rho", {"rho": 1.0}),
    ],
)
def test_bad_settings_raise_and_name_the_field(field, settings):
    with pytest.raises(ConfigError, match=rf"^{field} = .* cannot be used: .+") as error:
        SAEConfig(**settings)
    assert error.value.field == field
    # What was wrong is shown as it was given, or as the default that clashes with it.
    assert repr(error.value.value) in str(error.value)
    assert isinstance(error.value, ValueError)


def test_golden_step():
    """Numbers of one step from fixed key and data.

    Update them only for a deliberate change of the mathematics, of the initial values or of the key schedule, and say so
    in the change; never to make a refactoring pass.
    """
    _, step = programs(TINY)
    state, info = step(initial(TINY), unit_batch(8, seed=5))
    p = state.params["params"]
    p = {name: np.asarray(value, np.float64) for name, value in p.items()}
    got = [*info, np.abs(p["W_enc"]).sum(), p["b_enc"].sum(), np.abs(p["W_dec"]).sum(), p["b_dec"].sum()]
    want = [3.002391, 2.559801, 0.14753, 0.0, 5.125, 0.0, 23.311453, -8.417765, 20.15914, 0.799995]
    np.testing.assert_allclose(got, want, rtol=1e-5)
