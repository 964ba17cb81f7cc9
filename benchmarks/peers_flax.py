"""The same training as Flax's documentation writes it: a ``TrainState``, a jitted step, and a Python loop over NumPy batches.

Native convolutions, float32 images in host memory shuffled there, noise drawn there. The state is donated to the step. Not
our loop, whose data lie on the device and whose networks are this project's.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState

from benchmarks import work_gan, work_sae
from benchmarks.bounds import cost
from benchmarks.measure import stopwatch
from benchmarks.work import Observation, moments
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import SAEConfig


class _Loop:
    """What both peers share: the data, the compiled step and the loop."""

    steps_per_call = 1

    def __init__(self, data: np.ndarray, batch_size: int, states: Any, step: Callable[..., Any], *draws: np.ndarray):
        self.data, self.batch_size, self.states = data, batch_size, states
        self.rng = np.random.default_rng(0)
        self.indices = self._epochs()
        # Optax raises Python floats to the power of an int32 step count, which strict settings forbid.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            jitted = jax.jit(step, donate_argnums=0)
            self.program, self.seconds = stopwatch(lambda: jitted.lower(states, data[:batch_size], *draws).compile())
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
        """See :class:`benchmarks.work.Peer`."""
        self.states, self.metrics = self.program(self.states, self._prepared(images), *draws)

    def run(self, calls: int) -> None:
        """See :class:`benchmarks.work.Peer`."""
        for _ in range(calls):
            self.states, self.metrics = self.program(self.states, self.data[next(self.indices)], *self._draw())
        jax.block_until_ready((self.states, self.metrics))

    def flops(self) -> float | None:
        """See :class:`benchmarks.work.Peer`; XLA counts other operations too."""
        return None

    def compile_s(self) -> float | None:
        """See :class:`benchmarks.work.Peer`."""
        return self.seconds

    def peak_bytes(self) -> int | None:
        """See :class:`benchmarks.work.Peer`; the data lie in the host's memory."""
        found = cost(self.program)
        return None if found is None else found.peak_bytes + self.data.nbytes

    def close(self) -> None:
        """Nothing is held."""


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


class SAEPeer(_Loop):
    """See :class:`Autoencoder`, trained with Adam along a cosine."""

    def __init__(self, config: SAEConfig, params: Mapping[str, np.ndarray], images: np.ndarray):
        d_in = math.prod(images.shape[1:])
        model = Autoencoder(config.d_sae, d_in, config.k if config.variant == "topk" else 0)
        rate = optax.cosine_decay_schedule(config.learning_rate, config.steps, alpha=0.1)
        own = {
            "encoder": {"kernel": jnp.array(params["W_enc"]), "bias": jnp.array(params["b_enc"])},
            "decoder": {"kernel": jnp.array(params["W_dec"]), "bias": jnp.array(params["b_dec"])},
        }
        state = TrainState.create(apply_fn=model.apply, params=own, tx=optax.adam(rate))
        rho, beta = config.rho, config.beta

        def step(state: TrainState, x: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
            def loss_of(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
                x_hat, codes = state.apply_fn({"params": params}, x)
                reconstruction = 0.5 * jnp.sum((x_hat - x) ** 2, axis=-1).mean()
                sparsity = jnp.zeros(())
                if config.variant == "kl":
                    mean = codes.mean(axis=0)
                    on, off = math.log(rho) - jnp.log(mean), math.log1p(-rho) - jnp.log1p(-mean)
                    sparsity = jnp.sum(rho * on + (1 - rho) * off)
                return reconstruction + beta * sparsity, {"reconstruction": reconstruction, "sparsity": sparsity}

            (loss, metrics), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
            return state.apply_gradients(grads=gradients), {"loss": loss, **metrics}

        super().__init__(self._prepared(images), config.batch_size, state, step)

    def _prepared(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32) / 255

    def observe(self) -> Observation:
        """See :class:`benchmarks.work.Peer`."""

        def layout(tree: Any) -> dict[str, np.ndarray]:
            parts = (("enc", tree["encoder"]), ("dec", tree["decoder"]))
            named = {
                f"{w}_{part}": layer[kind] for part, layer in parts for w, kind in (("W", "kernel"), ("b", "bias"))
            }
            return work_sae.layout({"params": named})

        return Observation(
            {name: float(value) for name, value in self.metrics.items()},
            moments={"autoencoder": moments(layout, self.states.opt_state[0])},
            params={"autoencoder": layout(self.states.params)},
        )


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


_THEIRS = {work_gan.TRANSPOSED[:-1]: "ConvTranspose", work_gan.STRIDED[:-1]: "Conv"}
_OURS = {theirs: ours for ours, theirs in _THEIRS.items()}


class GANPeer(_Loop):
    """See :class:`Generator` and :class:`Discriminator`, each in a ``TrainState``; averaged weights beside them."""

    def __init__(self, config: GANConfig, generator: Any, discriminator: Any, images: np.ndarray):
        self.config, shape = config, images.shape[1:]
        self.side = work_gan.smallest(config, shape)

        def sizes(tree: Any, kind: str) -> list[int]:
            return [kernel.shape[-1] for kernel, _ in work_gan.layers(tree, kind)]

        g = Generator(sizes(generator, "Dense_"), sizes(generator, work_gan.TRANSPOSED), shape)
        d = Discriminator(sizes(discriminator, "Dense_"), sizes(discriminator, work_gan.STRIDED))
        adam = optax.adam(config.learning_rate, b1=config.beta1, b2=config.beta2)
        g_state, d_state = (
            TrainState.create(apply_fn=net.apply, params=_renamed(tree["params"], _THEIRS), tx=adam)
            for net, tree in ((g, generator), (d, discriminator))
        )
        averaged = jax.tree.map(jnp.copy, g_state.params)
        decay = 0.5 ** (config.batch_size / config.ema_half_life)
        relativistic = config.loss == "relativistic"

        def step(states: Any, real: jax.Array, d_noise: jax.Array, g_noise: jax.Array) -> Any:
            g_state, d_state, averaged = states
            fake, n = g_state.apply_fn({"params": g_state.params}, d_noise), len(real)
            both = jnp.concatenate([real, fake])

            def d_loss_of(params: Any) -> Any:
                def summed(x: jax.Array) -> tuple[jax.Array, jax.Array]:
                    logits = d_state.apply_fn({"params": params}, x)
                    return logits.sum(), logits

                r1 = r2 = jnp.zeros(())
                if config.r1_gamma or config.r2_gamma:
                    gradients, logits = jax.grad(summed, has_aux=True)(both)
                    norms = jnp.sum(gradients**2, axis=(1, 2, 3))
                    r1, r2 = norms[:n].mean(), norms[n:].mean()
                else:
                    _, logits = summed(both)
                reals, fakes = logits[:n], logits[n:]
                losses = nn.softplus(fakes - reals) if relativistic else nn.softplus(-reals) + nn.softplus(fakes)
                loss = losses.mean() + 0.5 * (config.r1_gamma * r1 + config.r2_gamma * r2)
                return loss, (reals.mean(), fakes.mean(), r1, r2)

            (d_loss, (reals, fakes, r1, r2)), gradients = jax.value_and_grad(d_loss_of, has_aux=True)(d_state.params)
            d_state = d_state.apply_gradients(grads=gradients)
            real_logits = d_state.apply_fn({"params": d_state.params}, real) if relativistic else 0.0

            def g_loss_of(params: Any) -> jax.Array:
                images = g_state.apply_fn({"params": params}, g_noise)
                return nn.softplus(real_logits - d_state.apply_fn({"params": d_state.params}, images)).mean()

            g_loss, gradients = jax.value_and_grad(g_loss_of)(g_state.params)
            g_state = g_state.apply_gradients(grads=gradients)
            # As `optax.incremental_update`, without rounding both of its terms.
            averaged = jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), averaged, g_state.params)
            metrics = {
                "discriminator_loss": d_loss,
                "generator_loss": g_loss,
                "logit_gap": reals - fakes,
                "r1": r1,
                "r2": r2,
            }
            if not relativistic:
                metrics |= {"real_logits": reals, "fake_logits": fakes}
            return (g_state, d_state, averaged), metrics

        noise = np.zeros((config.batch_size, config.d_noise), np.float32)
        super().__init__(self._prepared(images), config.batch_size, (g_state, d_state, averaged), step, noise, noise)

    def _prepared(self, images: np.ndarray) -> np.ndarray:
        return images.astype(np.float32) * np.float32(2 / 255) - 1

    def _draw(self) -> tuple[np.ndarray, ...]:
        shape = self.batch_size, self.config.d_noise
        return tuple(self.rng.standard_normal(shape, dtype=np.float32) for _ in range(2))

    def observe(self) -> Observation:
        """See :class:`benchmarks.work.Peer`."""

        def g(tree: Any) -> dict[str, np.ndarray]:
            return work_gan.generator_layout({"params": _renamed(tree, _OURS)}, *self.side)

        def d(tree: Any) -> dict[str, np.ndarray]:
            return work_gan.discriminator_layout({"params": _renamed(tree, _OURS)}, *self.side)

        g_state, d_state, averaged = self.states
        return Observation(
            {name: float(value) for name, value in self.metrics.items()},
            moments={
                "discriminator": moments(d, d_state.opt_state[0]),
                "generator": moments(g, g_state.opt_state[0]),
            },
            params={"generator": g(g_state.params), "discriminator": d(d_state.params), "ema": g(averaged)},
        )
