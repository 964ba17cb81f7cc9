"""Claims: a step of the sigmoid + KL autoencoder, 784-128-784, and of the TopK one, 784-1000-784 (on an accelerator also
4096-65536-4096), is faster than its peers'; and many autoencoders train in one program at the aggregate rate of one alone."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks import worker
from benchmarks.work import Observation, Peer, UnavailableError, Work, builders, moments
from saegan_jax.algorithms.sae import SAEConfig, SAEInfo, SAEState, sae
from saegan_jax.networks.autoencoders import Variant
from saegan_jax.training.sweep import CPU_MEMBERS_PER_VMAP


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
        own = params["params"]

        def pytorch(mode: Any) -> Peer:
            from benchmarks import peers_torch

            return peers_torch.SAEPeer(config, layout(params), images, mode)

        def flax() -> Peer:
            from benchmarks import peers_flax

            return peers_flax.SAEPeer(config, own, images)

        return builders(
            pytorch, lambda backend: worker.keras_peer(backend, "sae", config, own, images), flax, images=False
        )

    algorithm = sae(config, image_shape=image_shape)
    name = f"sae_b{batch_size}" if variant == "kl" else f"sae_{variant}_{d_sae}_b{batch_size}"
    return Work(name, algorithm, batch_size, image_shape, chunk, lambda state: (), observe, peers)


def sweep() -> Work:
    """64 seeds of the autoencoder in one program, as a sweep trains them: a few at once, the others after them."""
    alone = work(256, chunk=200)
    return alone._replace(name="sae_sweep_b256", peers=lambda *a: {}, members=64, at_once=CPU_MEMBERS_PER_VMAP)


def large() -> Work:
    """A dictionary of 65,536 units, sixteen times its inputs, 64 of them active, in batches of 2,048 images of 64x64.

    Raises:
      UnavailableError: on a CPU, where one step would take many seconds.
    """
    if jax.default_backend() == "cpu":
        raise UnavailableError("it needs an accelerator: 5.5 TFLOP a step and 6.4 GB of weights and optimiser state.")
    shape = (64, 64, 1)
    return work(2048, variant="topk", d_sae=65536, k=64, image_shape=shape, chunk=10)._replace(name=LARGE, members=1)


LARGE = "sae_topk_4096_65536"
WORKS: dict[str, Callable[[], Work]] = {
    "sae_b32": lambda: work(32),
    "sae_b256": lambda: work(256, chunk=200),
    "sae_topk_1000_b256": lambda: work(256, variant="topk", d_sae=1000, chunk=50),
    "sae_sweep_b256": sweep,
    LARGE: large,
}
