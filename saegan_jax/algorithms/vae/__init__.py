"""Variational autoencoders: Gaussian, spike and slab, and Gaussian with the KL sparsity penalty on a sigmoid code."""

from saegan_jax.algorithms.vae.config import VAEConfig, hyper
from saegan_jax.algorithms.vae.evaluate import VAEMetrics, fit_aggregate, reconstruct, sample_aggregate, score_vae
from saegan_jax.algorithms.vae.kinds import KINDS, Kind
from saegan_jax.algorithms.vae.model import Variational, sample_prior, variational
from saegan_jax.algorithms.vae.posterior import (
    Draw,
    Posterior,
    divergence,
    draw_posterior,
    draw_relaxed,
    log_ratio,
    most_probable,
    posterior_mean,
    slab,
)
from saegan_jax.algorithms.vae.state import VAEHyper, VAEInfo, VAEParams, VAEState
from saegan_jax.algorithms.vae.train import vae

__all__ = [
    "KINDS",
    "Draw",
    "Kind",
    "Posterior",
    "VAEConfig",
    "VAEHyper",
    "VAEInfo",
    "VAEMetrics",
    "VAEParams",
    "VAEState",
    "Variational",
    "divergence",
    "draw_posterior",
    "draw_relaxed",
    "fit_aggregate",
    "hyper",
    "log_ratio",
    "most_probable",
    "posterior_mean",
    "reconstruct",
    "sample_aggregate",
    "sample_prior",
    "score_vae",
    "slab",
    "vae",
    "variational",
]
