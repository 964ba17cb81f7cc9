"""The same training as Flax's documentation writes it: a ``TrainState``, a jitted step, and a Python loop over NumPy batches.

Native convolutions, float32 images in host memory shuffled there, noise drawn there. The state is donated to the step. Not
our loop, whose data lie on the device and whose networks are this project's.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState

from benchmarks.harness.agreement import Arrays, Observation, moments
from benchmarks.harness.program.cost import cost
from benchmarks.harness.timing import stopwatch
from benchmarks.workloads import gan as gans
from benchmarks.workloads import sae as saes
from benchmarks.workloads.package import GANConfig, SAEConfig

Metrics = dict[str, jax.Array]


class _Loop:
    """What both peers share: the data, the compiled step and the loop."""

    steps_per_call = 1

    def __init__(self, config: Any, data: np.ndarray, states: Any, step: Callable[..., Any], *draws: np.ndarray):
        self.data, self.batch_size, self.states = data, config.batch_size, states
        self.rng = np.random.default_rng(0)
        self.indices = self._epochs()
        # Optax raises Python floats to the power of an int32 step count, which strict settings forbid.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            jitted = jax.jit(step, static_argnums=0, donate_argnums=1)
            lowered = partial(jitted.lower, config, states, data[: self.batch_size], *draws)
            self.program, self.seconds = stopwatch(lambda: lowered().compile())
        self.metrics: Mapping[str, jax.Array] = {}

    def _epochs(self) -> Iterator[np.ndarray]:
        while True:
            order = self.rng.permutation(len(self.data))
            for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
                yield order[start : start + self.batch_size]

    def _draw(self) -> tuple[np.ndarray, ...]:
        return ()

    def _prepared(self, images: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def step(self, images: np.ndarray, *draws: np.ndarray) -> None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        self.states, self.metrics = self.program(self.states, self._prepared(images), *draws)

    def run(self, calls: int) -> None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        for _ in range(calls):
            self.states, self.metrics = self.program(self.states, self.data[next(self.indices)], *self._draw())
        jax.block_until_ready((self.states, self.metrics))

    def flops(self) -> float | None:
        """See :class:`benchmarks.harness.agreement.Peer`; XLA counts other operations too."""
        return None

    def compile_s(self) -> float | None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        return self.seconds

    def peak_bytes(self) -> int | None:
        """See :class:`benchmarks.harness.agreement.Peer`; the data lie in the host's memory."""
        found = cost(self.program)
        return None if found is None else found.peak_bytes + self.data.nbytes

    def close(self) -> None:
        """Nothing is held."""


# Autoencoders --------------------------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """Two dense layers; codes are sigmoids, or the k largest of the rectified units."""

    d_sae: int
    d_in: int
    k: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = nn.Dense(self.d_sae, name="encoder")(x)
        if self.k:
            largest, places = jax.lax.top_k(logits, self.k)
            rows = jnp.arange(len(x))[:, None]
            codes = jnp.zeros_like(logits).at[rows, places].set(nn.relu(largest))
        else:
            codes = nn.sigmoid(logits)
        return nn.Dense(self.d_in, name="decoder")(codes), codes


@cache  # the same settings give the same program
def _autoencoder(config: SAEConfig, d_in: int) -> tuple[Autoencoder, optax.GradientTransformation]:
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps, alpha=0.1)
    return Autoencoder(config.d_sae, d_in, config.k if config.variant == "topk" else 0), optax.adam(rate)


def _sae_loss(params: Any, config: SAEConfig, state: TrainState, x: jax.Array) -> tuple[jax.Array, Metrics]:
    x_hat, codes = state.apply_fn({"params": params}, x)
    reconstruction = 0.5 * jnp.sum((x_hat - x) ** 2, axis=-1).mean()
    sparsity = jnp.zeros(())
    if config.variant == "kl":
        rho, mean = config.rho, codes.mean(axis=0)
        on, off = math.log(rho) - jnp.log(mean), math.log1p(-rho) - jnp.log1p(-mean)
        sparsity = jnp.sum(rho * on + (1 - rho) * off)
    return reconstruction + config.beta * sparsity, {"reconstruction": reconstruction, "sparsity": sparsity}


def _sae_step(config: SAEConfig, state: TrainState, x: jax.Array) -> tuple[TrainState, Metrics]:
    (loss, metrics), gradients = jax.value_and_grad(_sae_loss, has_aux=True)(state.params, config, state, x)
    return state.apply_gradients(grads=gradients), {"loss": loss, **metrics}


def _sae_layout(tree: Any) -> Arrays:
    """Flax's layers as ours, in the layout of the check."""
    parts = (("enc", tree["encoder"]), ("dec", tree["decoder"]))
    named = {f"{w}_{part}": layer[kind] for part, layer in parts for w, kind in (("W", "kernel"), ("b", "bias"))}
    return saes.layout({"params": named})


class SAEPeer(_Loop):
    """See :class:`Autoencoder`, trained with Adam along a cosine."""

    def __init__(self, config: SAEConfig, trees: tuple[Any], images: np.ndarray):
        params = trees[0]["params"]
        model, adam = _autoencoder(config, math.prod(images.shape[1:]))
        layers = {
            "encoder": {"kernel": jnp.array(params["W_enc"]), "bias": jnp.array(params["b_enc"])},
            "decoder": {"kernel": jnp.array(params["W_dec"]), "bias": jnp.array(params["b_dec"])},
        }
        state = TrainState.create(apply_fn=model.apply, params=layers, tx=adam)
        super().__init__(config, self._prepared(images), state, _sae_step)

    def _prepared(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32) / 255

    def observe(self) -> Observation:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        return Observation(
            {name: float(value) for name, value in self.metrics.items()},
            moments={"autoencoder": moments(_sae_layout, self.states.opt_state[0])},
            params={"autoencoder": _sae_layout(self.states.params)},
        )


# GANs ----------------------------------------------------------------------------------------------------------------


class Generator(nn.Module):
    """Dense layers, then transposed convolutions of stride 2; the last output is an image under tanh."""

    dense: Sequence[int]
    convolutions: Sequence[int]
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        for i, units in enumerate(self.dense):
            z = nn.Dense(units)(z)
            z = nn.leaky_relu(z, 0.2) if self.convolutions or i < len(self.dense) - 1 else z
        if self.convolutions:
            stages = len(self.convolutions)
            z = z.reshape(len(z), self.shape[0] >> stages, self.shape[1] >> stages, -1)
        for i, channels in enumerate(self.convolutions):
            z = nn.ConvTranspose(channels, (4, 4), (2, 2), padding="SAME")(z)
            z = nn.leaky_relu(z, 0.2) if i < len(self.convolutions) - 1 else z
        return nn.tanh(z).reshape(len(z), *self.shape)


class Discriminator(nn.Module):
    """Convolutions of stride 2, then dense layers; the last has one output."""

    dense: Sequence[int]
    convolutions: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for channels in self.convolutions:
            x = nn.leaky_relu(nn.Conv(channels, (4, 4), 2, padding=1)(x), 0.2)
        x = x.reshape(len(x), -1)
        for units in self.dense[:-1]:
            x = nn.leaky_relu(nn.Dense(units)(x), 0.2)
        return nn.Dense(1)(x)[:, 0]


def _renamed(tree: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Layers under their other names: ``Conv4x4_0`` as ``Conv_0``, say."""
    out = {}
    for name, layer in tree.items():
        kind, number = name.rsplit("_", 1)
        out[f"{names.get(kind, kind)}_{number}"] = {part: jnp.array(a) for part, a in layer.items()}
    return out


_THEIRS = {gans.TRANSPOSED[:-1]: "ConvTranspose", gans.STRIDED[:-1]: "Conv"}
_OURS = {theirs: ours for ours, theirs in _THEIRS.items()}


def _sizes(tree: Any, kind: str) -> tuple[int, ...]:
    return tuple(kernel.shape[-1] for kernel, _ in gans.layers(tree, kind))


# The same sizes and settings give the same objects, and so the same program.
_generator, _discriminator = cache(Generator), cache(Discriminator)


@cache
def _gan_adam(config: GANConfig) -> optax.GradientTransformation:
    return optax.adam(config.learning_rate, b1=config.beta1, b2=config.beta2)


def _summed(x: jax.Array, state: TrainState, params: Any) -> tuple[jax.Array, jax.Array]:
    logits = state.apply_fn({"params": params}, x)
    return logits.sum(), logits


def _discriminator_loss(params: Any, config: GANConfig, state: TrainState, both: jax.Array) -> Any:
    n = len(both) // 2
    r1 = r2 = jnp.zeros(())
    if config.r1_gamma or config.r2_gamma:
        gradients, logits = jax.grad(_summed, has_aux=True)(both, state, params)
        norms = jnp.sum(gradients**2, axis=(1, 2, 3))
        r1, r2 = norms[:n].mean(), norms[n:].mean()
    else:
        _, logits = _summed(both, state, params)
    real, fake = logits[:n], logits[n:]
    relativistic = config.loss == "relativistic"
    losses = nn.softplus(fake - real) if relativistic else nn.softplus(-real) + nn.softplus(fake)
    loss = losses.mean() + 0.5 * (config.r1_gamma * r1 + config.r2_gamma * r2)
    return loss, (real.mean(), fake.mean(), r1, r2)


def _generator_loss(
    params: Any, g_state: TrainState, d_state: TrainState, noise: jax.Array, real_logits: Any
) -> jax.Array:
    images = g_state.apply_fn({"params": params}, noise)
    return nn.softplus(real_logits - d_state.apply_fn({"params": d_state.params}, images)).mean()


def _gan_step(config: GANConfig, states: Any, real: jax.Array, d_noise: jax.Array, g_noise: jax.Array) -> Any:
    g_state, d_state, averaged = states
    relativistic = config.loss == "relativistic"
    both = jnp.concatenate([real, g_state.apply_fn({"params": g_state.params}, d_noise)])
    d_loss_of = jax.value_and_grad(_discriminator_loss, has_aux=True)
    (d_loss, (reals, fakes, r1, r2)), gradients = d_loss_of(d_state.params, config, d_state, both)
    d_state = d_state.apply_gradients(grads=gradients)
    real_logits = d_state.apply_fn({"params": d_state.params}, real) if relativistic else 0.0
    g_loss, gradients = jax.value_and_grad(_generator_loss)(g_state.params, g_state, d_state, g_noise, real_logits)
    g_state = g_state.apply_gradients(grads=gradients)
    decay = 0.5 ** (config.batch_size / config.ema_half_life)
    # As `optax.incremental_update`, without rounding both of its terms.
    averaged = jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), averaged, g_state.params)
    metrics = {"discriminator_loss": d_loss, "generator_loss": g_loss, "logit_gap": reals - fakes, "r1": r1, "r2": r2}
    if not relativistic:
        metrics |= {"real_logits": reals, "fake_logits": fakes}
    return (g_state, d_state, averaged), metrics


class GANPeer(_Loop):
    """See :class:`Generator` and :class:`Discriminator`, each in a ``TrainState``; averaged weights beside them."""

    def __init__(self, config: GANConfig, trees: tuple[Any, Any], images: np.ndarray):
        self.config, shape = config, images.shape[1:]
        generator, discriminator = trees
        self.side = gans.smallest(config, shape)
        g = _generator(_sizes(generator, "Dense_"), _sizes(generator, gans.TRANSPOSED), shape)
        d = _discriminator(_sizes(discriminator, "Dense_"), _sizes(discriminator, gans.STRIDED))
        g_state, d_state = (
            TrainState.create(apply_fn=net.apply, params=_renamed(tree["params"], _THEIRS), tx=_gan_adam(config))
            for net, tree in ((g, generator), (d, discriminator))
        )
        states = (g_state, d_state, jax.tree.map(jnp.copy, g_state.params))
        noise = np.zeros((config.batch_size, config.d_noise), np.float32)
        super().__init__(config, self._prepared(images), states, _gan_step, noise, noise)

    def _prepared(self, images: np.ndarray) -> np.ndarray:
        return images.astype(np.float32) * np.float32(2 / 255) - 1

    def _draw(self) -> tuple[np.ndarray, ...]:
        shape = self.batch_size, self.config.d_noise
        return tuple(self.rng.standard_normal(shape, dtype=np.float32) for _ in range(2))

    def _g_layout(self, tree: Any) -> Arrays:
        return gans.generator_layout({"params": _renamed(tree, _OURS)}, *self.side)

    def _d_layout(self, tree: Any) -> Arrays:
        return gans.discriminator_layout({"params": _renamed(tree, _OURS)}, *self.side)

    def observe(self) -> Observation:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        g_state, d_state, averaged = self.states
        return Observation(
            {name: float(value) for name, value in self.metrics.items()},
            moments={
                "discriminator": moments(self._d_layout, d_state.opt_state[0]),
                "generator": moments(self._g_layout, g_state.opt_state[0]),
            },
            params={
                "generator": self._g_layout(g_state.params),
                "discriminator": self._d_layout(d_state.params),
                "ema": self._g_layout(averaged),
            },
        )


KINDS: dict[str, Callable[..., Any]] = {"sae": SAEPeer, "gan": GANPeer}


def make(kind: str, config: Any, trees: tuple[Any, ...], images: np.ndarray) -> Any:
    """The peer of one kind of work."""
    return KINDS[kind](config, trees, images)
