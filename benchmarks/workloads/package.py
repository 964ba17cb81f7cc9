"""What is timed of the package, and all that the benchmarks use of its algorithms and its training.

No other module of the benchmarks imports them: what is renamed there is renamed here, and nowhere else.
"""

from saegan_jax.activations import topk_mask
from saegan_jax.algorithms.base import Algorithm, Batch, Examples
from saegan_jax.algorithms.cyclegan import CycleGANConfig, TranslationConfig
from saegan_jax.algorithms.energy import EnergyConfig
from saegan_jax.algorithms.gan import GANConfig, GANInfo, GANState, gan
from saegan_jax.algorithms.registry import build as build_system
from saegan_jax.algorithms.sae import STATISTICS_DECAY, SAEConfig, SAEInfo, SAEState, Start, sae
from saegan_jax.algorithms.saegan import SAEGANConfig, fit_pretrained, saegan
from saegan_jax.algorithms.vae import VAEConfig
from saegan_jax.errors import ConfigError
from saegan_jax.images import to_unit_float
from saegan_jax.training.aot import Forecast, compiler_versions, forecast, forecast_system, stay_on_host, topology
from saegan_jax.training.sharding import Placement, open_mesh
from saegan_jax.training.stream import Feed, many_streamed_steps
from saegan_jax.training.sweep import CPU_MEMBERS_PER_VMAP, data_center
from saegan_jax.training.systems import draw
from saegan_jax.training.transforms import Chunk, compile_chunk, ensemble, many_steps

__all__ = [
    "CPU_MEMBERS_PER_VMAP",
    "STATISTICS_DECAY",
    "Algorithm",
    "Batch",
    "Chunk",
    "ConfigError",
    "CycleGANConfig",
    "EnergyConfig",
    "Examples",
    "Feed",
    "Forecast",
    "GANConfig",
    "GANInfo",
    "GANState",
    "Placement",
    "SAEConfig",
    "SAEGANConfig",
    "SAEInfo",
    "SAEState",
    "Start",
    "TranslationConfig",
    "VAEConfig",
    "build_system",
    "compile_chunk",
    "compiler_versions",
    "data_center",
    "draw",
    "ensemble",
    "fit_pretrained",
    "forecast",
    "forecast_system",
    "gan",
    "many_steps",
    "many_streamed_steps",
    "open_mesh",
    "sae",
    "saegan",
    "stay_on_host",
    "to_unit_float",
    "topk_mask",
    "topology",
]
