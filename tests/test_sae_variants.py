"""Every variant of the sparse autoencoder, dense and convolutional: formulas, equivalences, dead units, devices, sweeps."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SHAPE, assert_close, assert_finite, assert_same, digits, filled, normal, numpy_leaves, unit_batch

from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, _patches, autoencoder, hyper, sae
from saegan_jax.errors import ConfigError
from saegan_jax.networks.autoencoders import sparse_product
from saegan_jax.training.transforms import many_steps

D_SAE, N = 6, 8
# At these sizes LLVM's optimisations take longer than they save; XLA's own are on.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
BASE = SAEConfig(
    variant="topk",
    d_sae=D_SAE,
    k=2,
    rho=0.3,
    beta=0.7,
    k_aux=2,
    dead_after=3,
    bandwidth=0.5,
    initial_threshold=0.3,
    batch_size=N,
    steps=10,
    learning_rate=0.05,
)
DEAD = np.array([True, False, False, True, True, False])
RUNNING = np.linspace(0.2, 0.4, D_SAE)


def dense(variant, **settings):
    return replace(BASE, variant=variant, **settings)


def patched(variant, patch_size=4, **settings):
    """Of 4 overlapping, of 2 side by side, which compiles in half the time."""
    return replace(BASE, variant=variant, patch_size=patch_size, stride=2, **settings)


FORMULAS = {
    "topk": dense("topk", sigmoid_output=True),
    "topk auxk": dense("topk", auxk=0.25),
    "topk by rows": dense("topk", auxk=0.25, sparse_decoder=True),
    "batch_topk": dense("batch_topk", pre_bias="mean"),
    "matryoshka": dense("matryoshka", levels=(1, 4, 6), sigmoid_output=True),
    "jumprelu": dense("jumprelu", weight_decay=0.1),
    "gated": dense("gated", pre_bias="median"),
    "wta": dense("wta", tied=True, decoder_norm=0.0, weight_decay=0.1),
    "kl running": dense("kl", rho_hat="running"),
    "rate_kl running": dense("rate_kl", rho_hat="running"),
    "conv kl": patched("kl"),
    "conv l1": patched("l1", 2, pre_bias="mean"),
    "conv topk": patched("topk", pre_bias="mean"),
    "conv topk by rows": patched("topk", sparse_decoder=True, sigmoid_output=True),
    "conv batch_topk": patched("batch_topk", 2, tied=True, decoder_norm=0.0),
    "conv matryoshka": patched("matryoshka", 2),
    "conv jumprelu": patched("jumprelu", 2),
    "conv gated": patched("gated"),
    "conv wta": patched("wta", 2, sigmoid_output=True),
}
# The dense forms of these are in test_sae.py; here they stand for encode and decode.
CODES = {**FORMULAS, "kl": dense("kl"), "rate_kl": dense("rate_kl"), "l1": dense("l1", tied=True, decoder_norm=0.0)}


def test_every_variant_is_here():
    assert {config.variant for config in CODES.values()} == set(VARIANTS)
    assert {config.variant for config in CODES.values() if config.patch_size} == set(VARIANTS) - {"rate_kl"}


@functools.cache
def loss_program(config):
    functions = autoencoder(config, image_shape=SHAPE)

    @quick
    def program(params, images, hyper, dead, running):
        def loss(params):
            return functions.loss(params, images, hyper=hyper, dead=dead, mean_activation=running)

        (value, terms), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        codes = functions.encode(params, images)
        return value, terms, gradient, codes, functions.decode(params, codes)

    def call(params, images, *, settings=None, dead=DEAD, running=RUNNING):
        params = {"params": {n: jnp.asarray(p, jnp.float32) for n, p in params.items()}}
        settings = hyper(config) if settings is None else settings
        return program(params, images, settings, jnp.asarray(dead), jnp.asarray(running, jnp.float32))

    return call


@functools.cache
def weights(config, seed=0):
    """Parameters away from their initial values, thresholds among the pre-activations, as read-only float64 of float32."""
    functions = autoencoder(config, image_shape=SHAPE)
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(sae(config, image_shape=SHAPE).init, jax.random.key(0)).params["params"]
    params = {name: 0.4 * rng.normal(size=shapes[name].shape) for name in sorted(shapes)}
    # On for about half of the examples, none more than another: a gradient everywhere.
    a = pre_activations64(config, {**params, "b_enc": np.zeros(D_SAE)}, images64()).reshape(-1, D_SAE)
    params["W_enc"] /= a.std(axis=0)
    params["b_enc"] = 0.1 * rng.normal(size=D_SAE) - a.mean(axis=0) / a.std(axis=0)
    if "threshold" in params:
        params["threshold"] = np.full(D_SAE, 0.4) + (
            0.1 * rng.normal(size=D_SAE) if config.variant == "jumprelu" else 0.0
        )
    if "b_mag" in params:
        # Some magnitudes vanish where the gate is open, others do not where it is shut.
        params["b_mag"] = np.exp(params["r_mag"]) * (params["b_enc"] + np.where(np.arange(D_SAE) % 2, 0.3, -0.3))
    assert params["W_enc"].shape == (functions.d_in, D_SAE)
    params = {name: p.astype(np.float32).astype(np.float64) for name, p in params.items()}
    for p in params.values():
        p.flags.writeable = False
    return params


def images64(seed=0, n=N):
    return np.asarray(unit_batch(n, seed=seed).image, np.float64)


# The formulas, in float64.


def cut64(config, x):
    p, s = config.patch_size, config.stride
    if p == 0:
        return x.reshape(len(x), -1)
    pad = (p - s) // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = [
        [padded[:, i : i + p, j : j + p].reshape(len(x), -1) for j in range(0, x.shape[2], s)]
        for i in range(0, x.shape[1], s)
    ]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1)


def join64(config, y, shape):
    """Each pixel the mean of the patches that cover it."""
    p, s = config.patch_size, config.stride
    if p == 0:
        return y.reshape(-1, *shape)
    pad = (p - s) // 2
    total = np.zeros((len(y), shape[0] + 2 * pad, shape[1] + 2 * pad, shape[2]))
    count = np.zeros_like(total)
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            window = np.s_[:, i * s : i * s + p, j * s : j * s + p]
            total[window] += y[:, i, j].reshape(len(y), p, p, -1)
            count[window] += 1
    inner = np.s_[:, pad : pad + shape[0], pad : pad + shape[1]]
    return total[inner] / count[inner]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pre_activations64(config, p, x):
    inputs = cut64(config, x)
    return (inputs - p["b_dec"] if config.pre_bias != "none" else inputs) @ p["W_enc"] + p["b_enc"]


def largest_positive(rows, k):
    kept = np.zeros_like(rows)
    for row, out in zip(rows, kept, strict=True):
        best = np.argsort(-row)[:k]
        out[best] = np.maximum(row[best], 0)
    return kept


def codes64(config, p, a, *, training):
    rows = a.reshape(-1, D_SAE)
    variant = config.variant
    if variant == "kl":
        codes = sigmoid(rows)
    elif variant == "topk":
        codes = largest_positive(rows, config.k)
    elif variant in ("batch_topk", "matryoshka"):
        if training:
            codes = largest_positive(rows.reshape(1, -1), config.k * len(rows))
        else:
            codes = np.where(rows > p["threshold"], np.maximum(rows, 0), 0)
    elif variant == "jumprelu":
        codes = np.where(rows > p["threshold"], rows, 0)
    elif variant == "gated":
        codes = np.where(rows > 0, np.maximum(np.exp(p["r_mag"]) * (rows - p["b_enc"]) + p["b_mag"], 0), 0)
    elif variant == "wta" and training:
        codes = largest_positive(rows.T, max(1, round(config.rho * len(rows)))).T
    else:
        codes = np.maximum(rows, 0)
    return codes.reshape(a.shape)


def decode64(config, p, codes, units=D_SAE):
    W_dec = p["W_enc"].T if config.tied else p["W_dec"]
    y = codes[..., :units] @ W_dec[:units] + p["b_dec"]
    return join64(config, sigmoid(y) if config.sigmoid_output else y, SHAPE)


def squared64(x, x_hat):
    return 0.5 * ((x_hat - x) ** 2).sum() / len(x)


def reconstruction64(config, p, codes, x):
    return np.mean([squared64(x, decode64(config, p, codes, units)) for units in config.nested])


def sparsity64(config, p, a, codes, fixed_mean):
    n, rho = len(a), config.rho
    mean = codes.reshape(-1, D_SAE).mean(axis=0)

    def kl(m):
        return np.sum(rho * np.log(rho / m) + (1 - rho) * np.log((1 - rho) / (1 - m)))

    def rate_kl(m):
        return np.sum(rho * np.log(rho / m) - rho + m)

    if config.rho_hat == "running":
        # The divergence at the running mean; it changes with the batch's mean as if the batch were all of it.
        mixed = 0.99 * RUNNING + 0.01 * fixed_mean
        slope = 1 - rho / mixed if config.variant == "rate_kl" else (1 - rho) / (1 - mixed) - rho / mixed
        return (rate_kl if config.variant == "rate_kl" else kl)(mixed) + np.sum(slope * (mean - fixed_mean))
    if config.variant in ("kl", "rate_kl"):
        return (rate_kl if config.variant == "rate_kl" else kl)(mean)
    return {
        "l1": np.abs(codes).sum() / n,
        "jumprelu": (a > p["threshold"]).sum() / n if config.variant == "jumprelu" else 0.0,
        "gated": np.maximum(a, 0).sum() / n,
    }.get(config.variant, 0.0)


def loss64(config, p, x, fixed):
    """``fixed``: the parameters wherever the objective holds them constant."""
    a = pre_activations64(config, p, x)
    codes = codes64(config, p, a, training=True)
    a_fixed = pre_activations64(config, fixed, x)
    codes_fixed = codes64(config, fixed, a_fixed, training=True)
    reconstruction = reconstruction64(config, p, codes, x)
    sparsity = sparsity64(config, p, a, codes, codes_fixed.reshape(-1, D_SAE).mean(axis=0))
    auxiliary = 0.0
    if config.variant == "gated":
        auxiliary += squared64(x, decode64(config, fixed, np.maximum(a, 0)))
    if config.auxk:
        # Gao et al.: the error that the dead units leave of the residual, over the residual; here times the variance
        # by which their main loss is divided.
        inputs = cut64(config, x)
        e = inputs - cut64(config, decode64(config, fixed, codes_fixed))
        chosen = np.zeros_like(a)
        for row, out in zip(a, chosen, strict=True):
            best = np.argsort(-np.where(DEAD, row, -np.inf))[: config.k_aux]
            out[best] = row[best]
        variance = ((inputs - inputs.mean(axis=0)) ** 2).sum(axis=1).mean()
        unexplained = ((e - chosen @ p["W_dec"]) ** 2).sum(axis=1).mean() / (e**2).sum(axis=1).mean()
        auxiliary += config.auxk * 0.5 * variance * unexplained
    decay = 0.5 * config.weight_decay * sum((p[n] ** 2).sum() for n in ("W_enc", "W_dec") if n in p)
    value = reconstruction + config.beta * sparsity + auxiliary + decay
    return value, (reconstruction, sparsity, auxiliary)


def differences(f, x, h=1e-6):
    """Central ones of a scalar function of an array."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += h
        down[index] -= h
        gradient[index] = (f(up) - f(down)) / (2 * h)
    return gradient


@pytest.mark.parametrize("name", FORMULAS)
def test_loss_and_its_gradient_equal_the_formulas(name):
    config = FORMULAS[name]
    p, x = weights(config), images64()
    value, terms, gradient, *_ = loss_program(config)(p, unit_batch(N).image)
    want, parts = loss64(config, p, x, p)
    np.testing.assert_allclose(value, want, rtol=2e-6)
    for got, part in zip(terms[:3], parts, strict=True):
        np.testing.assert_allclose(got, part, rtol=1e-5, atol=1e-6)

    a = pre_activations64(config, p, x)
    codes = codes64(config, p, a, training=True)
    np.testing.assert_allclose(terms.codes, codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(terms.inputs, cut64(config, x), rtol=1e-6)
    residual = cut64(config, x - decode64(config, p, codes))
    np.testing.assert_allclose(terms.residual, residual, rtol=1e-4, atol=1e-5)
    if config.variant != "kl":
        # On for some and off for others, and no unit never on: a gradient to compare everywhere.
        assert 0 < (codes > 0).mean() < 1
        assert (codes.reshape(-1, D_SAE) > 0).any(axis=0).all()

    gradient = gradient["params"]
    assert gradient.keys() == p.keys()
    for n in p:
        if n == "threshold":
            continue
        want = differences(lambda v, n=n: loss64(config, {**p, n: v}, x, p)[0], np.array(p[n]))
        assert np.abs(want).max() > 1e-3, n
        np.testing.assert_allclose(gradient[n], want, rtol=2e-4, atol=1e-5, err_msg=n)
    if config.variant == "jumprelu":
        t, width = p["threshold"], config.bandwidth
        in_codes = differences(lambda h: reconstruction64(config, p, h, x), codes)
        window = np.abs(a - t) < width / 2
        want = np.where(window, -t / width * in_codes - config.beta / (N * width), 0).reshape(-1, D_SAE).sum(axis=0)
        np.testing.assert_allclose(gradient["threshold"], want, rtol=1e-4, atol=1e-5)
        assert (window.reshape(-1, D_SAE).any(axis=0)).sum() >= 4
    elif "threshold" in p:
        np.testing.assert_array_equal(gradient["threshold"], 0)


@pytest.mark.parametrize("name", CODES)
def test_codes_after_training_are_of_each_image_for_itself(name):
    """Equal to the formulas, nonnegative, and to the bit the same whatever else is in the batch."""
    config = CODES[name]
    p, x = weights(config), images64()
    image = unit_batch(N).image
    *_, codes, decoded = loss_program(config)(p, image)
    want = codes64(config, p, pre_activations64(config, p, x), training=False)
    np.testing.assert_allclose(codes, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(decoded, decode64(config, p, want), rtol=1e-5, atol=1e-5)
    positions = (2, 2) if config.patch_size else ()
    assert codes.shape == (N, *positions, D_SAE)
    assert decoded.shape == (N, *SHAPE)
    assert np.min(codes) >= 0
    if config.variant == "topk":
        assert (np.asarray(codes) > 0).sum(axis=-1).max() == config.k
    others = unit_batch(N, seed=7).image.at[3].set(image[3])
    *_, among_others, _ = loss_program(config)(p, others)
    np.testing.assert_array_equal(among_others[3], codes[3])
    assert np.abs(among_others - codes).max() > 0.1


@pytest.mark.parametrize("name", ["batch_topk", "conv batch_topk", "matryoshka", "conv matryoshka"])
def test_a_batch_shares_k_a_row(name):
    config = FORMULAS[name]
    _, terms, *_ = loss_program(config)(weights(config), unit_batch(N).image)
    l0 = (np.asarray(terms.codes) > 0).sum(axis=-1)
    assert l0.mean() == config.k
    assert len(np.unique(l0)) > 1


@pytest.mark.parametrize("name", ["wta", "conv wta"])
def test_a_unit_wins_its_share_of_the_rows(name):
    config = FORMULAS[name]
    _, terms, *_ = loss_program(config)(weights(config), unit_batch(N).image)
    codes = np.asarray(terms.codes).reshape(-1, D_SAE)
    assert (codes > 0).sum(axis=0).max() == round(0.3 * len(codes))


def test_encode_takes_another_k():
    config = CODES["conv topk"]
    encode = quick(autoencoder(config, image_shape=SHAPE).encode)
    p, x = weights(config), images64()
    params = {"params": {n: jnp.asarray(v, jnp.float32) for n, v in p.items()}}
    for k in (1, 3):
        want = codes64(replace(config, k=k), p, pre_activations64(config, p, x), training=False)
        np.testing.assert_allclose(encode(params, unit_batch(N).image, k=jnp.int32(k)), want, rtol=1e-5, atol=1e-6)


def test_topk_of_all_units_is_relu():
    """Codes, loss and gradient of the l1 variant without its penalty, to the bit."""
    topk, l1 = dense("topk"), dense("l1")
    p, image = weights(l1), unit_batch(N).image
    kept = loss_program(topk)(p, image, settings=hyper(replace(topk, k=D_SAE)))
    plain = loss_program(l1)(p, image, settings=hyper(replace(l1, beta=0.0)))
    np.testing.assert_array_equal(kept[1].codes, plain[1].codes)
    np.testing.assert_array_equal(kept[0], plain[0])
    assert_close(kept[2], plain[2], rtol=1e-6, atol=1e-7)


# Patches.


def test_a_sparse_decoder_trains_as_the_whole_one():
    """Also where fewer than k units are positive, and for several seeds at once."""
    batch = unit_batch(N)

    def trained(config):
        algorithm = sae(config, image_shape=SHAPE)
        step = quick(jax.vmap(algorithm.step, in_axes=(0, None)))
        state = jax.vmap(algorithm.init)(jax.random.split(jax.random.key(0), 2))
        low = state.params["params"]["b_enc"].at[0].set(-0.5)
        state = state.replace(params={"params": {**state.params["params"], "b_enc": low}})
        for _ in range(3):
            state, info = step(state, batch)
        return state, info

    (state, info), (wanted, wanted_info) = (
        trained(dense("topk", k=4, sparse_decoder=sparse)) for sparse in (True, False)
    )
    assert float(wanted_info.l0[0]) < 4 - 1e-3
    assert_close(state.params, wanted.params, rtol=1e-4, atol=1e-6)
    assert_close(info.reconstruction, wanted_info.reconstruction, rtol=1e-5, atol=0.0)


def test_a_sparse_decoder_keeps_a_nan_and_reads_k_rows_alone():
    codes = jnp.array([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, jnp.nan, 0.0]])
    weights = jnp.arange(8.0).reshape(4, 2).at[0].set(jnp.nan)
    product = sparse_product(codes, weights, 2)
    np.testing.assert_array_equal(product[0], [10.0, 13.0])  # a product of matrices would read the first row, times 0
    assert np.isnan(product[1]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"variant": "batch_topk"}, "only topk"), ({"tied": True, "decoder_norm": 0.0}, "tied decoder")],
)
def test_where_a_sparse_decoder_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        replace(BASE, sparse_decoder=True, **settings)


def test_a_sweep_refuses_a_sparse_decoder():
    config = dense("topk", sparse_decoder=True)
    with pytest.raises(ConfigError, match="members of a sweep"):
        sae(config, image_shape=SHAPE, member=hyper(config))


@pytest.mark.parametrize(("patch_size", "stride"), [(2, 2), (4, 2), (3, 1), (1, 1), (4, 4)])
def test_patches_put_together_again_are_the_image(patch_size, stride):
    shape = (8, 4, 2)
    config = dense("topk", patch_size=patch_size, stride=stride)
    cut, join, d_in, positions = _patches(config, shape)
    assert positions == (8 // stride, 4 // stride)
    assert d_in == patch_size**2 * 2
    x = normal(3, *shape)
    patches = quick(cut)(x)
    assert patches.shape == (3, *positions, d_in)
    np.testing.assert_array_equal(patches, cut64(config, np.asarray(x)))
    back = quick(join)
    np.testing.assert_allclose(back(patches), x, rtol=1e-6)
    # What the patches disagree on is averaged.
    y = normal(*patches.shape, seed=1)
    np.testing.assert_allclose(back(y), join64(config, np.asarray(y), shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", ["kl", "l1", "topk", "batch_topk"])
def test_separate_patches_are_images_of_a_dense_autoencoder(variant):
    """Squared error and L1 are summed over an image's four patches; the KL's mean activation is over all patches."""
    config = replace(BASE, variant=variant, pre_bias="mean")
    conv = replace(config, patch_size=2, stride=2)
    p, image = weights(conv), unit_batch(N).image
    value, terms, gradient, codes, decoded = loss_program(conv)(p, image)
    tiles = jnp.asarray(cut64(conv, np.asarray(image)).reshape(4 * N, 2, 2, 1))
    functions = autoencoder(config, image_shape=(2, 2, 1))

    @quick
    def on_tiles(params):
        settings = hyper(config if variant != "kl" else replace(config, beta=config.beta / 4))
        loss, gradient = jax.value_and_grad(lambda p: functions.loss(p, tiles, hyper=settings), has_aux=True)(params)
        codes = functions.encode(params, tiles)
        return *loss, gradient, codes, functions.decode(params, codes)

    params = {"params": {n: jnp.asarray(v, jnp.float32) for n, v in p.items()}}
    tile_value, tile_terms, tile_gradient, tile_codes, tile_decoded = on_tiles(params)
    np.testing.assert_allclose(codes.reshape(4 * N, D_SAE), tile_codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cut64(conv, np.asarray(decoded)).reshape(4 * N, 2, 2, 1), tile_decoded, atol=1e-5)
    np.testing.assert_allclose(terms.codes.reshape(4 * N, D_SAE), tile_terms.codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(terms.residual.reshape(4 * N, 4), tile_terms.residual, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(value, 4 * tile_value, rtol=1e-5)
    assert_close(gradient, jax.tree.map(lambda g: 4 * g, tile_gradient), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "patch_size", "stride"), [((5, 4, 1), 2, 2), ((4, 6, 1), 4, 4), ((4, 4, 1), 6, 2), ((4, 2, 1), 4, 2)]
)
def test_patches_that_do_not_fit_are_refused(shape, patch_size, stride):
    config = dense("topk", patch_size=patch_size, stride=stride)
    for make in (autoencoder, sae):
        with pytest.raises(ConfigError, match=r"^stride = .* must divide both sides") as error:
            make(config, image_shape=shape)
        assert error.value.field == "stride"


# The bias of the decoder, and arguments that are missing.


@pytest.mark.parametrize("name", ["batch_topk", "gated"])
def test_centred_codes_follow_the_images(name):
    """Images and b_dec moved together: the codes stay."""
    config = FORMULAS[name]
    assert config.pre_bias != "none"
    p, image = weights(config), unit_batch(N).image
    shift = np.linspace(-0.5, 0.5, 16)
    moved = {**p, "b_dec": p["b_dec"] + shift}
    before, after = (
        loss_program(config)(p, image),
        loss_program(config)(moved, image + shift.reshape(1, *SHAPE).astype("f4")),
    )
    np.testing.assert_allclose(after[3], before[3], atol=1e-5)
    np.testing.assert_allclose(after[0], before[0], rtol=1e-5)
    *_, alone, _ = loss_program(config)(moved, image)
    assert np.abs(alone - before[3]).max() > 0.05


def test_center_is_where_the_decoders_bias_starts():
    for config, d_in in ((dense("topk", pre_bias="mean"), 16), (dense("topk", pre_bias="median", patch_size=2), 4)):
        center = np.linspace(0, 1, d_in, dtype=np.float32)
        for wrong in (center[1:], center[None], np.concatenate([center, center])):
            with pytest.raises(ValueError, match=rf"center has shape .* must be \({d_in},\)"):
                sae(config, image_shape=SHAPE, center=jnp.asarray(wrong))
        init = sae(config, image_shape=SHAPE, center=jnp.asarray(center)).init
        np.testing.assert_array_equal(quick(init)(jax.random.key(0)).params["params"]["b_dec"], center)
    state = quick(sae(dense("topk"), image_shape=SHAPE, center=jnp.ones(16)).init)(jax.random.key(0))
    np.testing.assert_array_equal(state.params["params"]["b_dec"], 0)


@pytest.mark.parametrize(
    ("config", "message"),
    [(FORMULAS["topk auxk"], "needs dead"), (FORMULAS["kl running"], "needs mean_activation")],
    ids=["dead", "mean_activation"],
)
def test_a_loss_without_what_it_needs_says_so(config, message):
    loss = autoencoder(config, image_shape=SHAPE).loss
    params = {"params": {n: jnp.asarray(v, jnp.float32) for n, v in weights(config).items()}}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: loss(params, unit_batch(N).image, hyper=hyper(config)))


# Dead units: AuxK.


@pytest.mark.parametrize("settings", [{}, {"patch_size": 2}], ids=["dense", "conv"])
def test_auxk_teaches_the_dead_units_alone(settings):
    """Its share of the gradient is what remains without it; twice the weight makes twice the share."""
    p, image = weights(dense("topk", **settings)), unit_batch(N).image
    off, on, twice = (loss_program(dense("topk", auxk=auxk, **settings)) for auxk in (0.0, 0.25, 0.5))
    g_off, g_on, g_twice = (program(p, image)[2]["params"] for program in (off, on, twice))
    share = {n: np.asarray(g_on[n]) - np.asarray(g_off[n]) for n in p}
    np.testing.assert_array_equal(g_on["b_dec"], g_off["b_dec"])
    for n, dead in (("W_enc", DEAD[None]), ("W_dec", DEAD[:, None]), ("b_enc", DEAD)):
        dead = np.broadcast_to(dead, share[n].shape)
        np.testing.assert_array_equal(share[n][~dead], 0, err_msg=n)
        assert (share[n][dead] != 0).mean() > 0.9, n
        np.testing.assert_allclose(np.asarray(g_twice[n]) - g_off[n], 2 * share[n], rtol=1e-3, atol=1e-5)
    value, terms = on(p, image)[:2]
    assert terms.auxiliary > 0.01
    np.testing.assert_allclose(value, terms.reconstruction + terms.auxiliary, rtol=1e-6)
    np.testing.assert_allclose(twice(p, image)[1].auxiliary, 2 * terms.auxiliary, rtol=1e-6)
    np.testing.assert_array_equal(terms.reconstruction, off(p, image)[1].reconstruction)


def test_auxk_without_dead_units_is_nothing():
    p, image = weights(dense("topk")), unit_batch(N).image
    on = loss_program(FORMULAS["topk auxk"])(p, image, dead=np.zeros(D_SAE, bool))
    off = loss_program(dense("topk"))(p, image)
    assert on[1].auxiliary == 0
    np.testing.assert_array_equal(on[0], off[0])
    assert_close(on[2], off[2], rtol=1e-6, atol=1e-7)


# Steps. All resample at even steps, from step 3 without activity on; the first step does not.

STEPS = {
    "kl": dense("kl", sparsity_warmup=4),
    "rate_kl": dense("rate_kl"),
    "kl running": dense("kl", rho_hat="running", decoder_norm=2.0),
    "topk": dense("topk", auxk=0.25),
    "batch_topk": dense("batch_topk", pre_bias="mean", decoder_norm=2.0),
    "jumprelu": dense("jumprelu", sparsity_warmup=4),
    "gated": dense("gated", pre_bias="mean"),
    "wta": dense("wta", tied=True, decoder_norm=0.0),
    "conv topk": patched("topk", 2, auxk=0.25, pre_bias="mean"),
}
STEPS = {name: replace(config, resample_every=2, dead_after=3) for name, config in STEPS.items()}
OFF = np.array([True, True, False, False, False, False])


@functools.cache
def step_program(config):
    return quick(sae(config, image_shape=SHAPE).step)


@functools.cache
def initial(config):
    return quick(sae(config, image_shape=SHAPE).init)(jax.random.key(42))


def start(config, *, step=0):
    """A state with two units that have long been off, and Adam's moments nowhere zero."""
    state = filled(jax.eval_shape(sae(config, image_shape=SHAPE).init, jax.random.key(0)))
    rng = np.random.default_rng(1)
    params = {n: np.array(p) for n, p in weights(config).items()}
    params["b_enc"][OFF] = -30.0
    if config.decoder_norm:
        params["W_dec"] *= config.decoder_norm / np.linalg.norm(params["W_dec"], axis=1, keepdims=True)
    adam, *rest = state.opt_state
    mu = jax.tree.map(lambda m: jnp.asarray(0.1 * rng.normal(size=m.shape), jnp.float32), adam.mu)
    nu = jax.tree.map(lambda m: jnp.asarray(0.1 + rng.random(m.shape), jnp.float32), adam.nu)
    return replace(
        state,
        step=jnp.int32(step),
        params={"params": {n: jnp.asarray(p, jnp.float32) for n, p in params.items()}},
        opt_state=(adam._replace(mu=mu, nu=nu), *rest),
        hyper=hyper(config),
        mean_activation=jnp.asarray(RUNNING, jnp.float32),
        density=jnp.asarray(RUNNING, jnp.float32),
        steps_since_active=jnp.asarray(np.where(OFF, 9, 1), jnp.int32),
    )


@pytest.mark.parametrize("name", STEPS)
def test_a_batch_spread_over_devices_makes_the_same_step(name):
    """With the resampling of two units: selections, means, gradients and draws are those of the whole batch."""
    config, batch = STEPS[name], unit_batch(N, seed=2)
    state = start(config, step=201)
    want = step_program(config)(state, batch)
    assert_finite(want)
    assert want[0].steps_since_active[0] == 0
    step = jax.vmap(sae(config, image_shape=SHAPE, axis_name="data").step, in_axes=(None, 0), axis_name="data")
    got = quick(step)(state, jax.tree.map(lambda x: x.reshape(2, N // 2, *x.shape[1:]), batch))
    for i in range(2):
        assert_close(jax.tree.map(lambda x, i=i: x[i], got), want, rtol=1e-5, atol=1e-5)


def by_unit(name, array):
    """With the units first."""
    return np.moveaxis(np.asarray(array), 0 if name == "W_dec" else -1, 0)


@pytest.mark.parametrize("name", STEPS)
def test_resampling_by_hand(name):
    """Against the same step one number earlier, at which none is due."""
    config, batch = STEPS[name], unit_batch(N, seed=2)
    plain, _ = step_program(config)(start(config, step=200), batch)
    state, _ = step_program(config)(start(config, step=201), batch)
    np.testing.assert_array_equal(plain.steps_since_active, [10, 10, 0, 0, 0, 0])
    np.testing.assert_array_equal(state.steps_since_active, 0)
    old, new = plain.params["params"], state.params["params"]
    per_unit = [n for n in old if n != "b_dec" and not (n == "threshold" and config.variant == "batch_topk")]
    for tree, before in (
        (new, old),
        *((getattr(state.opt_state[0], m)["params"], getattr(plain.opt_state[0], m)["params"]) for m in ("mu", "nu")),
    ):
        for n in tree:
            if n in per_unit:
                np.testing.assert_array_equal(by_unit(n, tree[n])[~OFF], by_unit(n, before[n])[~OFF], err_msg=n)
                assert (by_unit(n, tree[n])[OFF] != by_unit(n, before[n])[OFF]).any(), n
            else:
                np.testing.assert_array_equal(tree[n], before[n], err_msg=n)
    for moments in (state.opt_state[0].mu["params"], state.opt_state[0].nu["params"]):
        for n in per_unit:
            np.testing.assert_array_equal(by_unit(n, moments[n])[OFF], 0, err_msg=n)
    np.testing.assert_array_equal(state.mean_activation[~OFF], plain.mean_activation[~OFF])
    np.testing.assert_array_equal(state.density[~OFF], plain.density[~OFF])
    np.testing.assert_array_equal(np.asarray([state.mean_activation[OFF], state.density[OFF]]), np.float32(0.3))

    seen = cut64(config, np.asarray(batch.image, np.float64)).reshape(-1, old["b_dec"].size)
    seen = seen - (np.asarray(old["b_dec"]) if config.pre_bias != "none" else 0)
    directions = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    living = np.linalg.norm(old["W_enc"], axis=0)[~OFF].mean()
    for unit in np.flatnonzero(OFF):
        column = np.asarray(new["W_enc"])[:, unit]
        assert np.abs(column / (0.2 * living) - directions).max(axis=1).min() < 1e-5
        if not config.tied:
            np.testing.assert_allclose(new["W_dec"][unit], config.decoder_norm * column / (0.2 * living), atol=1e-5)
        fresh_bias = np.log(0.3 / 0.7) if config.variant == "kl" else 0.0
        np.testing.assert_allclose(new["b_enc"][unit], fresh_bias, rtol=1e-6)
        if config.variant == "jumprelu":
            np.testing.assert_allclose(new["threshold"][unit], config.initial_threshold)
        if config.variant == "gated":
            assert (new["r_mag"][unit], new["b_mag"][unit]) == (0, 0)


def test_resampling_comes_at_its_steps_and_only_with_dead_units():
    config, batch = STEPS["topk"], unit_batch(N)
    step = step_program(config)
    state = start(config, step=0)
    state = replace(state, steps_since_active=jnp.zeros(D_SAE, jnp.int32))
    # Off for 1, 2, 3 steps, then 4: dead from 3 on, but due only at even steps.
    for t, want in ((1, 1), (2, 2), (3, 3), (4, 0)):
        state, _ = step(state, batch)
        assert state.step == t
        np.testing.assert_array_equal(state.steps_since_active[:2], want)
    # With none dead, an even step is as an odd one.
    alive = replace(start(config), steps_since_active=jnp.zeros(D_SAE, jnp.int32))
    even, _ = step(replace(alive, step=jnp.int32(201)), batch)
    odd, _ = step(replace(alive, step=jnp.int32(200)), batch)
    assert_same(replace(even, step=odd.step), odd)


def test_resampling_prefers_what_is_badly_explained():
    """Drawn in proportion to the square of the squared error, and never an example without error."""
    config = STEPS["topk"]
    state = start(config, step=201)
    rng = np.random.default_rng(0)
    base = rng.random(16)
    image = base + np.linspace(0, 1, N)[:, None] * rng.normal(size=(N, 16))
    image = image.astype(np.float32)
    off = {"W_enc": np.zeros((16, D_SAE)), "b_enc": np.full(D_SAE, -1.0), "b_dec": image[0]}
    off["W_enc"][:, 5] = 1e-3  # the one that lives, and does not speak: the example that is b_dec has no error at all
    params = {"params": {**state.params["params"], **{n: jnp.asarray(v, jnp.float32) for n, v in off.items()}}}
    since = jnp.asarray(np.where(np.arange(D_SAE) < 5, 9, -9), jnp.int32)
    state = replace(state, params=params, steps_since_active=since)
    batch = unit_batch(N)._replace(image=jnp.asarray(image.reshape(N, *SHAPE)))
    error = ((image - image[0]).astype(np.float64) ** 2).sum(axis=1)
    directions = image / np.linalg.norm(image, axis=1, keepdims=True)
    counts = np.zeros(N)
    for seed in range(150):
        new, _ = step_program(config)(replace(state, key=jax.random.key(seed)), batch)
        rows = np.asarray(new.params["params"]["W_dec"])[:5]
        distance = np.abs(rows[:, None] - directions[None]).max(axis=2)
        assert distance.min(axis=1).max() < 1e-5
        np.add.at(counts, distance.argmin(axis=1), 1)
    assert error[0] == counts[0] == 0
    share = error**2 / (error**2).sum()
    np.testing.assert_allclose(counts / counts.sum(), share, atol=4 * np.sqrt(share.max() * (1 - share.max()) / 750))
    assert np.abs(share - error / error.sum()).max() > 0.1  # so that the other rule would not pass


@pytest.mark.parametrize("name", ["kl", "jumprelu"])
def test_sparsity_warms_up(name):
    config = STEPS[name]
    assert config.sparsity_warmup == 4
    for t, share in ((0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (50, 1.0)):
        _, info = step_program(config)(start(config, step=t), unit_batch(N))
        np.testing.assert_allclose(info.loss, info.reconstruction + share * 0.7 * info.sparsity, rtol=1e-6)
    assert info.sparsity > 0.1


def test_jumprelu_thresholds_stay_nonnegative():
    config = STEPS["jumprelu"]
    state = start(config)
    adam, *rest = state.opt_state
    mu = {**adam.mu["params"], "threshold": jnp.asarray(np.where(np.arange(D_SAE) % 2, 9.0, -9.0), jnp.float32)}
    params = {"params": {**state.params["params"], "threshold": jnp.full(D_SAE, 0.01)}}
    state = replace(state, params=params, opt_state=(adam._replace(mu={"params": mu}), *rest))
    new, _ = step_program(config)(state, unit_batch(N))
    threshold = np.asarray(new.params["params"]["threshold"])
    np.testing.assert_array_equal(threshold[1::2], 0)
    assert (threshold[::2] > 0.01).all()


def test_batch_topk_threshold_is_the_mean_of_the_least_kept():
    """By hand over four steps, then along the running mean; Adam does not see it."""
    config = STEPS["batch_topk"]
    state = start(config)
    p = state.params["params"]
    state = replace(
        state, params={"params": {**p, "threshold": jnp.zeros(D_SAE)}}, steps_since_active=jnp.zeros(D_SAE, jnp.int32)
    )
    adam = state.opt_state[0]
    still = [
        adam._replace(
            **{m: {"params": {**getattr(adam, m)["params"], "threshold": jnp.zeros(D_SAE)}} for m in ("mu", "nu")}
        )
    ]
    state = replace(state, opt_state=(*still, *state.opt_state[1:]))

    def least(state, batch):
        p = {n: np.asarray(v, np.float64) for n, v in state.params["params"].items()}
        a = pre_activations64(config, p, np.asarray(batch.image, np.float64))
        return np.sort(a[a > 0])[::-1][: config.k * N].min()

    seen = []
    for t in range(4):
        batch = unit_batch(N, seed=t)
        seen.append(least(state, batch))
        state, _ = step_program(config)(state, batch)
        np.testing.assert_allclose(state.params["params"]["threshold"], np.mean(seen), rtol=1e-5)
        for moments in (state.opt_state[0].mu, state.opt_state[0].nu):
            np.testing.assert_array_equal(moments["params"]["threshold"], 0)
    assert np.ptp(seen) > 0.01
    later = replace(state, step=jnp.int32(500))
    new, _ = step_program(config)(later, batch)
    np.testing.assert_allclose(
        new.params["params"]["threshold"], 0.99 * np.mean(seen) + 0.01 * least(later, batch), rtol=1e-5
    )
    # A batch that leaves every unit off says nothing about it.
    off = {**state.params["params"], "b_enc": jnp.full(D_SAE, -30.0)}
    silent, info = step_program(config)(replace(state, params={"params": off}), batch)
    assert info.l0 == 0
    np.testing.assert_array_equal(silent.params["params"]["threshold"], state.params["params"]["threshold"])


def test_matryoshka_of_one_level_is_batch_topk():
    config = STEPS["batch_topk"]
    nested = replace(config, variant="matryoshka", levels=(D_SAE,))
    runs = []
    for c in (config, nested):
        state = start(config)
        for i in range(3):
            state, info = step_program(c)(state, unit_batch(N, seed=i))
        runs.append((state, info))
    assert_same(*runs)


@pytest.mark.parametrize("variant", ["topk", "kl"])
def test_a_member_with_the_configurations_settings_is_the_configuration(variant):
    config = dense(variant)
    alone = quick(sae(config, image_shape=SHAPE).init)(jax.random.key(3))
    member = quick(lambda m: sae(config, image_shape=SHAPE, member=m).init(jax.random.key(3)))(hyper(config))
    if variant == "kl":
        assert_close(member, alone, rtol=1e-6, atol=1e-6)
    else:
        assert_same(member, alone)


@pytest.mark.parametrize(
    ("config", "others"),
    [
        (dense("topk"), {"k": 4, "learning_rate": 0.02}),
        (dense("batch_topk"), {"k": 1, "learning_rate": 0.1}),
        (dense("kl"), {"rho": 0.15, "beta": 0.2, "learning_rate": 0.02}),
    ],
    ids=["topk", "batch_topk", "kl"],
)
def test_members_of_a_sweep_are_the_runs_of_their_configurations(config, others):
    configs = [config, replace(config, **others)]
    batches = jax.tree.map(lambda *x: jnp.stack(x), *(unit_batch(N, seed=i) for i in range(3)))

    def run(config, member=None):
        algorithm = sae(config, image_shape=SHAPE, member=member)
        return jax.lax.scan(algorithm.step, algorithm.init(jax.random.key(0)), batches)

    members = jax.tree.map(lambda *x: jnp.stack(x), *map(hyper, configs))
    swept = quick(jax.vmap(lambda m: run(config, m)))(members)
    # The other's own run: the sweep was made from the first's configuration.
    alone = quick(lambda: run(configs[1]))()
    assert_close(jax.tree.map(lambda x: x[1], swept), alone, rtol=1e-4, atol=1e-5)
    first, second = np.asarray(swept[0].params["params"]["W_enc"])
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("name", STEPS)
def test_a_resumed_state_goes_on_as_if_it_had_not_stopped(name):
    """Every leaf is an array, and what is not a leaf does not matter."""
    step = step_program(STEPS[name])
    batches = [unit_batch(N, seed=i) for i in range(4)]
    state = start(STEPS[name], step=198)
    for batch in batches:
        state, _ = step(state, batch)
    resumed = start(STEPS[name], step=198)
    for i, batch in enumerate(batches):
        if i == 2:
            leaves, structure = jax.tree.flatten(resumed)
            assert all(isinstance(leaf, jax.Array) for leaf in leaves)
            stored = list(numpy_leaves(resumed).values())
            assert len(stored) == len(leaves)
            restored = [
                jax.random.wrap_key_data(jnp.asarray(s))
                if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
                else jnp.asarray(s)
                for s, x in zip(stored, leaves, strict=True)
            ]
            resumed = jax.tree.unflatten(structure, restored)
        resumed, _ = step(resumed, batch)
    assert_same(resumed, state)


def test_batch_topk_after_training_has_k_active_units():
    """Its threshold, learned on digits, gives images one by one the sparsity that batches were trained at."""
    data = digits()
    config = SAEConfig(variant="batch_topk", d_sae=32, k=5, batch_size=128, steps=300, learning_rate=5e-3)
    algorithm = sae(config, image_shape=(8, 8, 1))
    state, infos = jax.jit(many_steps(algorithm.step, length=300, batch_size=128))(
        jax.jit(algorithm.init)(jax.random.key(0)), data
    )
    assert_finite((state, infos))
    np.testing.assert_allclose(infos.l0[-20:], 5.0, rtol=1e-6)
    encode = quick(autoencoder(config, image_shape=(8, 8, 1)).encode)
    codes = np.asarray(encode(state.params, data.image.astype(jnp.float32) / 255))
    np.testing.assert_allclose((codes > 0).sum(axis=1).mean(), 5.0, rtol=0.1)
    assert infos.reconstruction[-20:].mean() < 0.4 * infos.reconstruction[0]


GOLDEN = {
    "topk": [1.746494, 1.746494, 0, 0, 2, 0, 19.66024, 0, 19.48978, 0.699995, 0],
    "batch_topk": [2.91597, 2.91597, 0, 0, 2, 0, 19.394459, -0.199999, 38.94412, 0.799995, 2.817195],
    "jumprelu": [2.093035, 1.67741, 2.375, 0, 2.375, 0, 19.321226, -0.05, 19.426179, 0.599996, 2.099998],
    "gated": [4.717429, 1.647501, 2.032039, 1.647501, 4.125, 0, 19.744458, -0.299998, 19.41345, 0.699995, -0.199999],
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_step(name):
    """Numbers of one step from fixed key and data.

    Update them only for a deliberate change of the mathematics, of the initial values or of the key schedule, and say so
    in the change; never to make a refactoring pass.
    """
    state, info = step_program(STEPS[name])(initial(STEPS[name]), unit_batch(N, seed=5))
    p = {n: np.asarray(v, np.float64) for n, v in state.params["params"].items()}
    rest = sum(p[n].sum() for n in ("threshold", "r_mag", "b_mag") if n in p)
    got = [*info, np.abs(p["W_enc"]).sum(), p["b_enc"].sum(), np.abs(p["W_dec"]).sum(), p["b_dec"].sum(), rest]
    np.testing.assert_allclose(got, GOLDEN[name], rtol=1e-5, atol=1e-6)


def test_resampling_at_a_black_example_leaves_no_row_of_zeros():
    """It has no direction: the decoder's norm could not be kept, and the next step would divide 0 by 0."""
    config = STEPS["topk"]
    batch = unit_batch(N)._replace(image=jnp.zeros((N, *SHAPE)))
    state = start(config, step=201)
    for _ in range(2):
        state, info = step_program(config)(state, batch)
        assert_finite((state, info))
        np.testing.assert_allclose(np.linalg.norm(state.params["params"]["W_dec"], axis=1), 1, rtol=1e-5)


def test_resampling_revives_an_autoencoder_without_a_living_unit():
    """There is no living norm to take a fifth of, and columns of zeros would stay zeros."""
    config = STEPS["topk"]
    state = start(config, step=201)
    off = {**state.params["params"], "b_enc": jnp.full(D_SAE, -30.0)}
    state = replace(state, params={"params": off}, steps_since_active=jnp.full(D_SAE, 9, jnp.int32))
    state, _ = step_program(config)(state, unit_batch(N))
    assert np.linalg.norm(state.params["params"]["W_enc"], axis=0).min() > 0.01
    _, info = step_program(config)(state, unit_batch(N))
    assert info.l0 > 0


def test_auxk_weighs_as_much_beside_patches_as_beside_images():
    """Reconstruction over four separate patches is four times that of the patches as images; so must AuxK be."""
    config = dense("topk", auxk=0.25)
    conv = replace(config, patch_size=2, stride=2)
    p, image = weights(conv), unit_batch(N).image
    tiles = jnp.asarray(cut64(conv, np.asarray(image)).reshape(4 * N, 2, 2, 1))
    functions = autoencoder(config, image_shape=(2, 2, 1))
    params = {"params": {n: jnp.asarray(v, jnp.float32) for n, v in p.items()}}
    _, tile_terms = quick(lambda p: functions.loss(p, tiles, hyper=hyper(config), dead=jnp.asarray(DEAD)))(params)
    _, terms, *_ = loss_program(conv)(p, image)
    np.testing.assert_allclose(terms.reconstruction, 4 * tile_terms.reconstruction, rtol=1e-5)
    np.testing.assert_allclose(terms.auxiliary, 4 * tile_terms.auxiliary, rtol=1e-5)


def test_auxk_leaves_b_dec_alone_where_the_encoder_sees_it():
    p, image = weights(dense("topk", pre_bias="mean")), unit_batch(N).image
    off, on = (loss_program(dense("topk", pre_bias="mean", auxk=a))(p, image)[2]["params"] for a in (0.0, 0.25))
    np.testing.assert_allclose(on["b_dec"], off["b_dec"], atol=1e-6)
    assert np.abs(np.asarray(on["b_enc"]) - off["b_enc"]).max() > 1e-3
