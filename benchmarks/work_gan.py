"""Claim: a step of a 28x28 DCGAN, with and without double backward, is faster here than in PyTorch."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.work import Observation, Peer, Work, moments
from saegan_jax.algorithms.gan import GANConfig, GANInfo, GANState, gan


def layers(tree: Any, kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of every Flax layer whose name starts with ``kind``, in order."""
    found = sorted(
        (name for name in tree["params"] if name.startswith(kind)), key=lambda name: int(name.split("_")[-1])
    )
    return [(np.asarray(tree["params"][n]["kernel"]), np.asarray(tree["params"][n]["bias"])) for n in found]


def named(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """``w0, b0, w1, b1, ...`` from the input to the output."""
    return {
        f"{kind}{i}": np.ascontiguousarray(a)
        for i, pair in enumerate(pairs)
        for kind, a in zip("wb", pair, strict=True)
    }


def generator_layout(tree: Any, rows: int, columns: int) -> dict[str, np.ndarray]:
    """Our generator's parameters in PyTorch's layout: channels first, and its transposed kernels flipped."""

    def channels_first(a: np.ndarray) -> np.ndarray:  # the last dense layer's outputs
        shape = (*a.shape[:-1], rows, columns, a.shape[-1] // (rows * columns))
        return np.moveaxis(a.reshape(shape), -1, -3).reshape(a.shape)

    *mixing, (kernel, bias) = layers(tree, "Dense_")
    dense = [*mixing, (channels_first(kernel), channels_first(bias))]
    convolutions = [(k[::-1, ::-1].transpose(2, 3, 0, 1), b) for k, b in layers(tree, "ConvTranspose4x4_")]
    return named([*((k.T, b) for k, b in dense), *convolutions])


def discriminator_layout(tree: Any, rows: int, columns: int) -> dict[str, np.ndarray]:
    """Our discriminator's parameters in PyTorch's layout: channels first; its head is the last layer."""
    ((kernel, bias),) = layers(tree, "Dense_")
    head = kernel.reshape(rows, columns, -1).transpose(2, 0, 1).reshape(1, -1)
    return named([*((k.transpose(3, 2, 0, 1), b) for k, b in layers(tree, "Conv4x4_")), (head, bias)])


def work(name: str, config: GANConfig, *, image_shape: tuple[int, int, int] = (28, 28, 1), chunk: int = 50) -> Work:
    """The step that ``config`` describes; it has to be a dcgan."""
    side = image_shape[0] // 4, image_shape[1] // 4

    def draws(state: GANState) -> tuple[np.ndarray, ...]:
        keys = jax.random.split(jax.random.fold_in(state.key, state.step))
        return tuple(np.asarray(jax.random.normal(key, (config.batch_size, config.d_noise))) for key in keys)

    def observe(state: GANState, info: GANInfo) -> Observation:
        scalars = {name: float(value) for name, value in info._asdict().items()}
        del scalars["accuracy"], scalars["penalty"]  # for alarms, and of penalties that are not timed
        scalars["logit_gap"] = scalars["real_logits"] - scalars["fake_logits"]
        g = partial(generator_layout, rows=side[0], columns=side[1])

        def d(tree: Any) -> dict[str, np.ndarray]:
            out = discriminator_layout(tree, *side)
            if config.loss == "relativistic":
                # Only differences of logits are trained: the head's bias has no gradient but rounding error.
                del out[f"b{len(out) // 2 - 1}"]
            return out

        if config.loss == "relativistic":
            del scalars["real_logits"], scalars["fake_logits"]
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

    def peers(params: Any, images: np.ndarray) -> Mapping[str, Callable[[], Peer]]:
        from benchmarks import peers_torch

        nets = generator_layout(params.generator, *side), discriminator_layout(params.discriminator, *side)
        return peers_torch.variants(lambda mode: peers_torch.GANPeer(config, *nets, images, mode), images=True)

    return Work(
        name, gan(config, image_shape=image_shape), config.batch_size, image_shape, chunk, draws, observe, peers
    )


RELATIVISTIC = GANConfig(network="dcgan", width=32, batch_size=64)
PLAIN = GANConfig(
    network="dcgan", width=32, batch_size=64, loss="non_saturating", r1_gamma=0.0, r2_gamma=0.0, beta1=0.5
)
WORKS: dict[str, Callable[[], Work]] = {
    "gan_rpgan_r1_r2": lambda: work("gan_rpgan_r1_r2", RELATIVISTIC),
    "gan_non_saturating": lambda: work("gan_non_saturating", PLAIN),
}
