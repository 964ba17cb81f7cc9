"""Claim: a step of the sigmoid + KL autoencoder, 784-128-784, is faster here than in PyTorch."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.work import Observation, Peer, Work, moments
from saegan_jax.algorithms.sae import SAEConfig, SAEInfo, SAEState, sae


def layout(tree: Any) -> dict[str, np.ndarray]:
    """Our parameters (or their moments) as PyTorch's linear layers hold them: weights ``(out, in)``."""
    return {name: np.asarray(a).T.copy() if a.ndim == 2 else np.asarray(a) for name, a in tree["params"].items()}


def observe(state: SAEState, info: SAEInfo) -> Observation:
    """See :class:`benchmarks.work.Observation`."""
    statistics = {
        name: np.asarray(getattr(state, name)) for name in ("mean_activation", "density", "steps_since_active")
    }
    return Observation(
        scalars={name: float(value) for name, value in info._asdict().items()},
        moments={"autoencoder": moments(layout, state.opt_state[0])},
        params={"autoencoder": layout(state.params), "statistics": statistics},
    )


def work(
    batch_size: int, *, d_sae: int = 128, image_shape: tuple[int, int, int] = (28, 28, 1), chunk: int = 1000
) -> Work:
    """The step with Adam and a cosine schedule, at ``batch_size``."""
    config = SAEConfig(d_sae=d_sae, decoder_norm=0.0, batch_size=batch_size, steps=1_000_000)

    def peers(params: Any, images: np.ndarray) -> Mapping[str, Callable[[], Peer]]:
        from benchmarks import peers_torch

        return peers_torch.variants(lambda mode: peers_torch.SAEPeer(config, layout(params), images, mode))

    algorithm = sae(config, image_shape=image_shape)
    return Work(f"sae_b{batch_size}", algorithm, batch_size, image_shape, chunk, lambda state: (), observe, peers)


WORKS: dict[str, Callable[[], Work]] = {"sae_b32": lambda: work(32), "sae_b256": lambda: work(256, chunk=200)}
