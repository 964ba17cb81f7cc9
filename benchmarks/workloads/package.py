"""What is timed of the package, and all that the benchmarks use of its algorithms and its training.

No other module of the benchmarks imports them: what is renamed there is renamed here, and nowhere else.
"""

from saegan_jax.algorithms.base import Algorithm, Batch, Examples
from saegan_jax.algorithms.gan import GANConfig, GANInfo, GANState, gan
from saegan_jax.algorithms.sae import STATISTICS_DECAY, SAEConfig, SAEInfo, SAEState, sae
from saegan_jax.images import to_unit_float
from saegan_jax.training.stream import Feed, many_streamed_steps
from saegan_jax.training.sweep import CPU_MEMBERS_PER_VMAP
from saegan_jax.training.transforms import Chunk, compile_chunk, ensemble, many_steps

__all__ = [
    "CPU_MEMBERS_PER_VMAP",
    "STATISTICS_DECAY",
    "Algorithm",
    "Batch",
    "Chunk",
    "Examples",
    "Feed",
    "GANConfig",
    "GANInfo",
    "GANState",
    "SAEConfig",
    "SAEInfo",
    "SAEState",
    "compile_chunk",
    "ensemble",
    "gan",
    "many_steps",
    "many_streamed_steps",
    "sae",
    "to_unit_float",
]
