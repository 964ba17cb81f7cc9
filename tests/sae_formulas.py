"""Configurations of every variant, and its formulas in float64, for the tests of the sparse autoencoder."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from helpers import SHAPE, filled, unit_batch

from saegan_jax.algorithms.sae import SAEConfig, autoencoder, hyper, sae

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
