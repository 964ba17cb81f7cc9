"""The same training as a ``keras.Model`` and its ``fit``, on the backend that the environment names; run in a worker.

Written as Keras's guides do: the autoencoder with ``add_loss`` and a loss function, the GAN with its own ``train_step``
under gradient tapes (TensorFlow). Left at ``compile(jit_compile="auto")``, which Keras resolves for the device. Images are
float32 in memory, as ``fit`` wants them. TensorFlow takes twenty steps of a dense network per execution, which Keras offers
against its overhead and which measured up to 1.7 times as fast; on JAX that would unroll the steps and measured no faster.

Not compared: averaged weights, which Keras starts at the first update; and running statistics of codes, which it has not.
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.harness.agreement import Arrays, Observation
from benchmarks.harness.errors import UnavailableError
from benchmarks.harness.system import growth, resident_bytes
from benchmarks.workloads import gan as gans
from benchmarks.workloads import sae as saes
from benchmarks.workloads.package import GANConfig, SAEConfig

STEPS_PER_EXECUTION = 20


def _check_device(platform: str) -> None:
    """Raise where this backend computes elsewhere than the parent does."""
    if keras.backend.backend() == "jax":
        import jax

        found = jax.default_backend()
    else:
        import tensorflow as tf

        found = "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    if found != platform:
        raise UnavailableError(f"Keras on {keras.backend.backend()} finds a {found}, and ours runs on a {platform}.")


def _adam(rate: Any, beta1: float = 0.9, beta2: float = 0.999, **options: Any) -> Any:
    # Keras adds it before the second moment is corrected: scaled so that the first steps, which are compared, are ours.
    epsilon = 1e-8 * math.sqrt(1 - beta2)
    return keras.optimizers.Adam(rate, beta_1=beta1, beta_2=beta2, epsilon=epsilon, **options)


def _moments(layout: Callable[[list[np.ndarray]], Arrays], optimiser: Any) -> Arrays:
    """Both moments of Adam in the layout of the check, the second ones under ``"<name> squared"``."""
    first, second = (
        layout([ops.convert_to_numpy(v) for v in variables])
        for variables in (optimiser._momentums, optimiser._velocities)
    )
    return first | {f"{name} squared": a for name, a in second.items()}


class _Fit:
    """What both peers share: data in memory, and ``fit`` on as many rows as so many steps take."""

    def __init__(self, model: Any, batch_size: int, data: np.ndarray, target: np.ndarray | None, steps_per_call: int):
        self.model, self.batch_size, self.steps_per_call = model, batch_size, steps_per_call
        self.data, self.target = data, target

    def _fit(self, rows: int | None, epochs: int) -> None:
        target = None if self.target is None else self.target[:rows]
        self.model.fit(self.data[:rows], target, batch_size=self.batch_size, epochs=epochs, verbose=0)

    def run(self, calls: int) -> None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        per_epoch = len(self.data) // self.batch_size
        epochs, rest = divmod(calls * self.steps_per_call, per_epoch)
        if epochs:
            self._fit(per_epoch * self.batch_size, epochs)
        if rest:
            self._fit(rest * self.batch_size, 1)

    def flops(self) -> None:
        """See :class:`benchmarks.harness.agreement.Peer`; Keras does not count."""

    def compile_s(self) -> None:
        """See :class:`benchmarks.harness.agreement.Peer`; it is the first step that compiles."""

    def peak_bytes(self) -> int | None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        return growth(self.before, lambda: self.run(2))

    def close(self) -> None:
        """The worker ends."""

    before: int | None = None


# Autoencoders --------------------------------------------------------------------------------------------------------


class SparseAutoencoder(keras.Model):
    """Two dense layers with sigmoid codes and a KL penalty, or with the k largest of the rectified units."""

    def __init__(self, config: SAEConfig, d_in: int):
        super().__init__()
        self.config = config
        self.encoder = keras.layers.Dense(config.d_sae)
        self.decoder = keras.layers.Dense(d_in)

    def call(self, x: Any) -> Any:
        """Reconstructions ``(batch, d_in)``."""
        config, rho = self.config, self.config.rho
        logits = self.encoder(x)
        if config.variant == "topk":
            largest, _ = ops.top_k(logits, config.k)
            codes = ops.where(logits >= largest[:, -1:], ops.relu(logits), 0.0)
        else:
            codes = ops.sigmoid(logits)
            mean = ops.mean(codes, axis=0)
            on, off = math.log(rho) - ops.log(mean), math.log1p(-rho) - ops.log1p(-mean)
            self.add_loss(config.beta * ops.sum(rho * on + (1 - rho) * off))
        return self.decoder(codes)


def half_squared_error(x: Any, x_hat: Any) -> Any:
    """``1/2 ||x_hat - x||^2`` of each example."""
    return 0.5 * ops.sum(ops.square(x_hat - x), axis=-1)


class SAEPeer(_Fit):
    """See :class:`SparseAutoencoder`; on either backend."""

    NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")

    def __init__(self, config: SAEConfig, trees: tuple[Any], images: np.ndarray):
        self.before = resident_bytes()
        params = trees[0]["params"]
        self.shape = (-1, math.prod(images.shape[1:]))
        data = self._flat(images)
        model = SparseAutoencoder(config, data.shape[1])
        model(data[:2])
        model.set_weights([params[name] for name in self.NAMES])
        rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps, alpha=0.1)
        together = STEPS_PER_EXECUTION if keras.backend.backend() == "tensorflow" else 1
        model.compile(optimizer=_adam(rate), loss=half_squared_error, jit_compile="auto", steps_per_execution=together)
        super().__init__(model, config.batch_size, data, data, together)

    def _flat(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(self.shape).astype(np.float32) / 255

    def _layout(self, arrays: list[np.ndarray]) -> Arrays:
        return saes.layout({"params": dict(zip(self.NAMES, arrays, strict=True))})

    def step(self, images: np.ndarray) -> None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        x = self._flat(images)
        history = self.model.fit(x, x, batch_size=len(x), shuffle=False, verbose=0)
        self.loss = float(history.history["loss"][0])

    def observe(self) -> Observation:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        return Observation(
            {"loss": self.loss},
            moments={"autoencoder": _moments(self._layout, self.model.optimizer)},
            params={"autoencoder": self._layout(self.model.get_weights())},
        )


# GANs ----------------------------------------------------------------------------------------------------------------


def _leaky() -> Any:
    return keras.layers.LeakyReLU(negative_slope=0.2)


def _generator(tree: Any, shape: tuple[int, ...], d_noise: int) -> tuple[Any, list[str]]:
    """Our generator of Keras's layers, and our names of those that have weights."""
    dense, convolutions = (gans.layers(tree, kind) for kind in ("Dense_", gans.TRANSPOSED))
    layers = [keras.Input((d_noise,))]
    for kernel, _ in dense:
        layers += [keras.layers.Dense(kernel.shape[-1]), _leaky()]
    if convolutions:
        stages = len(convolutions)
        layers.append(keras.layers.Reshape((shape[0] >> stages, shape[1] >> stages, -1)))
    for kernel, _ in convolutions:
        layers += [keras.layers.Conv2DTranspose(kernel.shape[-1], 4, strides=2, padding="same"), _leaky()]
    layers[-1] = keras.layers.Activation("tanh")
    names = [f"Dense_{i}" for i in range(len(dense))] + [f"{gans.TRANSPOSED}{i}" for i in range(len(convolutions))]
    return keras.Sequential([*layers, keras.layers.Reshape(shape)]), names


def _discriminator(tree: Any, shape: tuple[int, ...]) -> tuple[Any, list[str]]:
    """Our discriminator of Keras's layers, and our names of those that have weights."""
    dense, convolutions = (gans.layers(tree, kind) for kind in ("Dense_", gans.STRIDED))
    layers = [keras.Input(shape)]
    for kernel, _ in convolutions:
        layers += [keras.layers.Conv2D(kernel.shape[-1], 4, strides=2, padding="same"), _leaky()]
    layers.append(keras.layers.Flatten())
    for kernel, _ in dense:
        layers += [keras.layers.Dense(kernel.shape[-1]), _leaky()]
    names = [f"{gans.STRIDED}{i}" for i in range(len(convolutions))] + [f"Dense_{i}" for i in range(len(dense))]
    return keras.Sequential(layers[:-1]), names


class GAN(keras.Model):
    """A generator against a discriminator, each with an optimiser of its own: Keras's guide, "overriding train_step"."""

    def __init__(self, config: GANConfig, generator: Any, discriminator: Any):
        super().__init__()
        self.config, self.generator, self.discriminator = config, generator, discriminator

    def compile(self, g_optimizer: Any, d_optimizer: Any, **options: Any) -> None:
        """As :meth:`keras.Model.compile`, with two optimisers."""
        super().compile(**options)
        self.g_optimizer, self.d_optimizer = g_optimizer, d_optimizer
        g_optimizer.build(self.generator.trainable_variables)
        d_optimizer.build(self.discriminator.trainable_variables)

    def _logits_and_norms(self, both: Any) -> tuple[Any, Any]:
        """Logits and squared gradient norms per example; the latter differentiable in the weights."""
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(both)
            logits = self.discriminator(both, training=True)[:, 0]
        return logits, tf.reduce_sum(tf.square(inner.gradient(logits, both)), axis=[1, 2, 3])

    def _discriminator_loss(self, both: Any, n: Any) -> tuple[Any, dict[str, Any]]:
        """The loss on ``n`` reals and as many fakes after them, and what is reported of it."""
        import tensorflow as tf

        config = self.config
        r1 = r2 = penalty = tf.zeros(())
        if config.r1_gamma or config.r2_gamma:
            logits, norms = self._logits_and_norms(both)
            r1, r2 = tf.reduce_mean(norms[:n]), tf.reduce_mean(norms[n:])
            penalty = 0.5 * (config.r1_gamma * r1 + config.r2_gamma * r2)
        else:
            logits = self.discriminator(both, training=True)[:, 0]
        real, fake = logits[:n], logits[n:]
        if config.loss == "relativistic":
            loss = tf.reduce_mean(tf.nn.softplus(fake - real))
        else:
            loss = tf.reduce_mean(tf.nn.softplus(-real) + tf.nn.softplus(fake))
        real_mean, fake_mean = tf.reduce_mean(real), tf.reduce_mean(fake)
        scalars = {"r1": r1, "r2": r2, "logit_gap": real_mean - fake_mean}
        if config.loss != "relativistic":
            scalars |= {"real_logits": real_mean, "fake_logits": fake_mean}
        return loss + penalty, scalars

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of each; ``data`` is images, and in checks the noise ``(batch, 2, d_noise)`` as their targets."""
        import tensorflow as tf

        real, noise, _ = keras.utils.unpack_x_y_sample_weight(data)
        n = tf.shape(real)[0]
        if noise is None:
            noise = tf.random.normal((n, 2, self.config.d_noise))
        both = tf.concat([real, self.generator(noise[:, 0], training=True)], axis=0)
        d_weights, g_weights = self.discriminator.trainable_variables, self.generator.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([weight.value for weight in d_weights])
            d_loss, scalars = self._discriminator_loss(both, n)
        self.d_optimizer.apply(tape.gradient(d_loss, d_weights), d_weights)
        # The reals' logits are constants of the generator's loss.
        relativistic = self.config.loss == "relativistic"
        reals = self.discriminator(real, training=True)[:, 0] if relativistic else None
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([weight.value for weight in g_weights])
            fakes = self.discriminator(self.generator(noise[:, 1], training=True), training=True)[:, 0]
            g_loss = tf.reduce_mean(tf.nn.softplus(-(fakes if reals is None else fakes - reals)))
        self.g_optimizer.apply(tape.gradient(g_loss, g_weights), g_weights)
        return {"discriminator_loss": d_loss, "generator_loss": g_loss, **scalars}


class GANPeer(_Fit):
    """See :class:`GAN`; on TensorFlow."""

    def __init__(self, config: GANConfig, trees: tuple[Any, Any], images: np.ndarray):
        if keras.backend.backend() != "tensorflow":
            raise UnavailableError(
                "two optimisers in one train_step need Keras's stateless methods on JAX, a loop of one's own that is no `fit`; "
                "`Flax, loop` is timed instead."
            )
        import tensorflow as tf

        self.before = resident_bytes()
        generator, discriminator = trees
        shape = images.shape[1:]
        self.side = gans.smallest(config, shape)
        self.g, self.g_names = _generator(generator, shape, config.d_noise)
        self.d, self.d_names = _discriminator(discriminator, shape)
        for net, names, tree in ((self.g, self.g_names, generator), (self.d, self.d_names, discriminator)):
            net.set_weights([a for name in names for a in self._keras_layout(name, tree["params"][name])])
        decay = 0.5 ** (config.batch_size / config.ema_half_life)
        self.g_adam = _adam(config.learning_rate, config.beta1, config.beta2, use_ema=True, ema_momentum=decay)
        self.d_adam = _adam(config.learning_rate, config.beta1, config.beta2)
        together = STEPS_PER_EXECUTION if config.network == "mlp" else 1
        model = GAN(config, self.g, self.d)
        model.compile(self.g_adam, self.d_adam, jit_compile="auto", steps_per_execution=together)
        tf.random.set_seed(0)
        super().__init__(model, config.batch_size, self._signed(images), None, together)

    @staticmethod
    def _signed(images: np.ndarray) -> np.ndarray:
        return images.astype(np.float32) * np.float32(2 / 255) - 1

    @staticmethod
    def _keras_layout(name: str, layer: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        kernel = np.asarray(layer["kernel"])
        if name.startswith(gans.TRANSPOSED):
            kernel = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
        return kernel, np.asarray(layer["bias"])

    @staticmethod
    def _tree(names: list[str], arrays: list[np.ndarray]) -> dict[str, Any]:
        """Our tree from Keras's list of kernels and biases."""
        kernels = [
            a[::-1, ::-1].transpose(0, 1, 3, 2) if name.startswith(gans.TRANSPOSED) else a
            for name, a in zip(names, arrays[::2], strict=True)
        ]
        layers = zip(names, kernels, arrays[1::2], strict=True)
        return {"params": {name: {"kernel": kernel, "bias": bias} for name, kernel, bias in layers}}

    def _g_layout(self, arrays: list[np.ndarray]) -> Arrays:
        return gans.generator_layout(self._tree(self.g_names, arrays), *self.side)

    def _d_layout(self, arrays: list[np.ndarray]) -> Arrays:
        return gans.discriminator_layout(self._tree(self.d_names, arrays), *self.side)

    def step(self, images: np.ndarray, *draws: np.ndarray) -> None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        noise = np.stack(draws, axis=1)
        history = self.model.fit(self._signed(images), noise, batch_size=len(images), shuffle=False, verbose=0)
        self.scalars = {name: float(values[0]) for name, values in history.history.items()}

    def observe(self) -> Observation:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        return Observation(
            self.scalars,
            moments={
                "discriminator": _moments(self._d_layout, self.d_adam),
                "generator": _moments(self._g_layout, self.g_adam),
            },
            params={
                "generator": self._g_layout(self.g.get_weights()),
                "discriminator": self._d_layout(self.d.get_weights()),
            },
        )


KINDS: dict[str, Callable[..., Any]] = {"sae": SAEPeer, "gan": GANPeer}


def make(kind: str, config: Any, trees: tuple[Any, ...], images: np.ndarray, platform: str) -> Any:
    """The peer of one kind of work, in a worker; ``platform`` is where the parent computes."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    _check_device(platform)
    keras.utils.set_random_seed(0)
    return KINDS[kind](config, trees, images)
