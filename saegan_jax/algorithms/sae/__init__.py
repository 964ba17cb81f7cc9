"""Sparse autoencoders: settings, pure functions, training. A variant is one file in ``variants`` and a line of its registry."""

from saegan_jax.algorithms.sae.autoencoder import Autoencoder, SAETerms, autoencoder, module
from saegan_jax.algorithms.sae.config import SAEConfig, SAEHyper, hyper
from saegan_jax.algorithms.sae.state import SAEInfo, SAEState, Start
from saegan_jax.algorithms.sae.train import project_params, remove_parallel_gradient, sae
from saegan_jax.algorithms.sae.variants import VARIANTS, SAELens, Variant
from saegan_jax.algorithms.sae.variants.base import STATISTICS_DECAY

__all__ = [
    "STATISTICS_DECAY",
    "VARIANTS",
    "Autoencoder",
    "SAEConfig",
    "SAEHyper",
    "SAEInfo",
    "SAELens",
    "SAEState",
    "SAETerms",
    "Start",
    "Variant",
    "autoencoder",
    "hyper",
    "module",
    "project_params",
    "remove_parallel_gradient",
    "sae",
]
