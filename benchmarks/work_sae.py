"""Claims: a step of the sigmoid + KL autoencoder, 784-128-784, and of the TopK one, 784-1000-784, beside PyTorch's; and
that many autoencoders train in one program at the aggregate rate of one alone."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.work import Observation, Peer, Work, moments
from saegan_jax.algorithms.sae import SAEConfig, SAEInfo, SAEState, sae
from saegan_jax.networks.autoencoders import Variant
from saegan_jax.training.sweep import CPU_AT_ONCE


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
    batch_size: int,
    *,
    variant: Variant = "kl",
    d_sae: int = 128,
    k: int = 25,
    image_shape: tuple[int, int, int] = (28, 28, 1),
    chunk: int = 1000,
) -> Work:
    """The step with Adam and a cosine schedule, at ``batch_size``."""
    shape: dict[str, Any] = {"variant": variant, "d_sae": d_sae, "k": k}
    config = SAEConfig(**shape, decoder_norm=0.0, batch_size=batch_size, steps=1_000_000)

    def peers(params: Any, images: np.ndarray) -> Mapping[str, Callable[[], Peer]]:
        from benchmarks import peers_torch

        return peers_torch.variants(lambda mode: peers_torch.SAEPeer(config, layout(params), images, mode))

    algorithm = sae(config, image_shape=image_shape)
    name = f"sae_b{batch_size}" if variant == "kl" else f"sae_{variant}_{d_sae}_b{batch_size}"
    return Work(name, algorithm, batch_size, image_shape, chunk, lambda state: (), observe, peers)


def sweep() -> Work:
    """64 seeds of the autoencoder in one program, as a sweep trains them: a few at once, the others after them."""
    alone = work(256, chunk=200)
    return alone._replace(name="sae_sweep_b256", peers=lambda *a: {}, members=64, at_once=CPU_AT_ONCE)


WORKS: dict[str, Callable[[], Work]] = {
    "sae_b32": lambda: work(32),
    "sae_b256": lambda: work(256, chunk=200),
    "sae_topk_1000_b256": lambda: work(256, variant="topk", d_sae=1000, chunk=50),
    "sae_sweep_b256": sweep,
}
