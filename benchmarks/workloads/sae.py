"""Claims: a step of the sigmoid + KL autoencoder, 784-128-784, and of the TopK one, 784-1000-784 (on an accelerator also
4096-65536-4096), is faster than its peers'; and many autoencoders train in one program at the aggregate rate of one alone."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.harness.agreement import Arrays, Observation, moments
from benchmarks.harness.errors import UnavailableError
from benchmarks.workloads.package import CPU_MEMBERS_PER_VMAP, SAEConfig, SAEInfo, SAEState, sae
from benchmarks.workloads.work import Shape, Work


def layout(tree: Any) -> Arrays:
    """Our parameters (or their moments) as PyTorch's linear layers hold them: weights ``(out, in)``."""
    return {name: np.asarray(a).T.copy() if a.ndim == 2 else np.asarray(a) for name, a in tree["params"].items()}


def draws(config: SAEConfig, state: SAEState) -> tuple[np.ndarray, ...]:
    """An autoencoder's step draws nothing."""
    return ()


def observe(config: SAEConfig, image_shape: Shape, state: SAEState, info: SAEInfo) -> Observation:
    """See :class:`benchmarks.harness.agreement.Observation`."""
    statistics = {
        name: np.asarray(getattr(state, name)) for name in ("mean_activation", "density", "steps_since_active")
    }
    return Observation(
        scalars={name: float(value) for name, value in info._asdict().items()},
        moments={"autoencoder": moments(layout, state.opt_state[0])},
        params={"autoencoder": layout(state.params), "statistics": statistics},
    )


def trees(params: Any) -> tuple[Any]:
    """The autoencoder's parameters."""
    return (params,)


def work(
    batch_size: int,
    *,
    variant: str = "kl",
    d_sae: int = 128,
    k: int = 25,
    image_shape: Shape = (28, 28, 1),
    chunk: int = 1000,
) -> Work:
    """The step with Adam and a cosine schedule, at ``batch_size``."""
    shape: dict[str, Any] = {"variant": variant, "d_sae": d_sae, "k": k}
    config = SAEConfig(**shape, decoder_norm=0.0, batch_size=batch_size, steps=1_000_000)
    name = f"sae_b{batch_size}" if variant == "kl" else f"sae_{variant}_{d_sae}_b{batch_size}"
    algorithm = sae(config, image_shape=image_shape)
    return Work(name, "sae", config, algorithm, batch_size, image_shape, chunk, draws, observe, trees)


def sweep() -> Work:
    """64 seeds of the autoencoder in one program, as a sweep trains them: a few at once, the others after them."""
    alone = work(256, chunk=200)
    return alone._replace(name="sae_sweep_b256", peers=False, members=64, members_per_vmap=CPU_MEMBERS_PER_VMAP)


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
