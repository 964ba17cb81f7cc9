"""Claim: a step of a GAN (dense, and convolutional at 28x28 and 64x64, with and without double backward) is faster here
than with its peers."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.harness.agreement import FLOAT32_KINKS, Arrays, Observation, moments
from benchmarks.workloads.package import GANConfig, GANInfo, GANState, gan
from benchmarks.workloads.work import Shape, Work


def layers(tree: Any, kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of every Flax layer whose name starts with ``kind``, in order."""
    found = sorted(
        (name for name in tree["params"] if name.startswith(kind)), key=lambda name: int(name.split("_")[-1])
    )
    return [(np.asarray(tree["params"][n]["kernel"]), np.asarray(tree["params"][n]["bias"])) for n in found]


def named(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Arrays:
    """``w0, b0, w1, b1, ...`` from the input to the output."""
    return {
        f"{kind}{i}": np.ascontiguousarray(a)
        for i, pair in enumerate(pairs)
        for kind, a in zip("wb", pair, strict=True)
    }


TRANSPOSED, STRIDED = "ConvTranspose4x4_", "Conv4x4_"


def smallest(config: GANConfig, image_shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the image at which dense layers and images meet: a dense network's is the whole one."""
    stages = config.stages if config.network == "dcgan" else 0
    return image_shape[0] >> stages, image_shape[1] >> stages


def generator_layout(tree: Any, rows: int, columns: int) -> Arrays:
    """Our generator's parameters in PyTorch's layout: channels first, and its transposed kernels flipped."""

    def channels_first(a: np.ndarray) -> np.ndarray:  # the last dense layer's outputs
        shape = (*a.shape[:-1], rows, columns, a.shape[-1] // (rows * columns))
        return np.moveaxis(a.reshape(shape), -1, -3).reshape(a.shape)

    *mixing, (kernel, bias) = layers(tree, "Dense_")
    dense = [*mixing, (channels_first(kernel), channels_first(bias))]
    convolutions = [(k[::-1, ::-1].transpose(2, 3, 0, 1), b) for k, b in layers(tree, TRANSPOSED)]
    return named([*((k.T, b) for k, b in dense), *convolutions])


def discriminator_layout(tree: Any, rows: int, columns: int) -> Arrays:
    """Our discriminator's parameters in PyTorch's layout: channels first; dense layers come last, and the head ends them."""
    (kernel, bias), *later = layers(tree, "Dense_")
    first = kernel.reshape(rows, columns, -1, kernel.shape[-1]).transpose(3, 2, 0, 1).reshape(kernel.shape[-1], -1)
    convolutions = [(k.transpose(3, 2, 0, 1), b) for k, b in layers(tree, STRIDED)]
    return named([*convolutions, (first, bias), *((k.T, b) for k, b in later)])


def _trained_layout(config: GANConfig, side: tuple[int, int], tree: Any) -> Arrays:
    """The discriminator's parameters that have a gradient."""
    out = discriminator_layout(tree, *side)
    if config.loss == "relativistic":
        # Only differences of logits are trained: the head's bias has no gradient but rounding error.
        del out[f"b{len(out) // 2 - 1}"]
    return out


def draws(config: GANConfig, state: GANState) -> tuple[np.ndarray, ...]:
    """The noise of the discriminator's step and of the generator's."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step))
    return tuple(np.asarray(jax.random.normal(key, (config.batch_size, config.d_noise))) for key in keys)


def observe(config: GANConfig, image_shape: Shape, state: GANState, info: GANInfo) -> Observation:
    """See :class:`benchmarks.harness.agreement.Observation`."""
    side = smallest(config, image_shape)
    scalars = {name: float(value) for name, value in info._asdict().items()}
    del scalars["accuracy"], scalars["penalty"]  # for alarms, and of penalties that are not timed
    scalars["logit_gap"] = scalars["real_logits"] - scalars["fake_logits"]
    if config.loss == "relativistic":
        del scalars["real_logits"], scalars["fake_logits"]
    g = partial(generator_layout, rows=side[0], columns=side[1])
    d = partial(_trained_layout, config, side)
    return Observation(
        scalars,
        moments={
            "discriminator": moments(d, state.opt_state.discriminator[0]),
            "generator": moments(g, state.opt_state.generator[0]),
        },
        params={
            "generator": g(state.params.generator),
            "discriminator": d(state.params.discriminator),
            "ema": g(state.ema),
        },
    )


def trees(params: Any) -> tuple[Any, Any]:
    """The generator's parameters and the discriminator's."""
    return params.generator, params.discriminator


def work(name: str, config: GANConfig, *, image_shape: Shape = (28, 28, 1), chunk: int = 50) -> Work:
    """The step that ``config`` describes; it has to be a dcgan or mlp."""
    return Work(
        name,
        "gan",
        config,
        gan(config, image_shape=image_shape),
        config.batch_size,
        image_shape,
        chunk,
        draws,
        observe,
        trees,
        convolutional=config.network == "dcgan",
        tolerances=FLOAT32_KINKS,
    )


PLAIN = GANConfig(
    network="dcgan", width=32, batch_size=64, loss="non_saturating", r1_gamma=0.0, r2_gamma=0.0, beta1=0.5
)
RELATIVISTIC = GANConfig(network="dcgan", width=32, batch_size=64)
WORKS: dict[str, Callable[[], Work]] = {
    "gan_mlp": lambda: work("gan_mlp", replace(PLAIN, network="mlp", hidden=(256, 256))),
    "gan_dcgan_w32": lambda: work("gan_dcgan_w32", PLAIN),
    "gan_dcgan_w64": lambda: work("gan_dcgan_w64", replace(PLAIN, width=64), chunk=20),
    "gan_rpgan_r1_r2": lambda: work("gan_rpgan_r1_r2", RELATIVISTIC),
    "gan_dcgan_64x64x3": lambda: work("gan_dcgan_64x64x3", replace(PLAIN, stages=4), image_shape=(64, 64, 3), chunk=10),
}
