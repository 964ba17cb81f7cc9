"""Recipes: the adversarial part of published methods."""

from collections.abc import Mapping
from typing import Any

# The adversarial part of published methods, on whatever networks the preset has unless the method names its own. Batch
# normalisation, which DCGAN and WGAN-GP had in the generator, is left out: networks here treat every image by itself.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "preset": {},
    # Huang et al., 2024; gamma as for its Stacked MNIST, it does not transfer between data sets.
    "r3gan": {
        "network": "residual", "loss": "relativistic", "r1_gamma": 1.0, "r2_gamma": 1.0, "final_gamma": 0.1,
        "learning_rate": 2e-4, "final_learning_rate": 0.25, "beta1": 0.0, "beta2": 0.9, "final_beta2": 0.99,
        "ema_burn_in": True,
    },
    # Radford et al., 2016.
    "dcgan": {
        "network": "dcgan", "head_hidden": (), "loss": "non_saturating", "r1_gamma": 0.0, "r2_gamma": 0.0,
        "learning_rate": 2e-4, "final_learning_rate": 1.0, "beta1": 0.5, "beta2": 0.999, "ema_half_life": 0.0,
        "batch_size": 128,
    },
    # Gulrajani et al., 2017: five critic steps of 64 for one of the generator.
    "wgan_gp": {
        "loss": "wasserstein", "r1_gamma": 0.0, "r2_gamma": 0.0, "gradient_penalty": 10.0, "d_steps": 5, "batch_size": 320,
        "learning_rate": 1e-4, "final_learning_rate": 1.0, "beta1": 0.0, "beta2": 0.9, "ema_half_life": 0.0,
    },
    # Miyato et al., 2018.
    "sngan": {
        "loss": "hinge", "r1_gamma": 0.0, "r2_gamma": 0.0, "spectral_norm": True, "d_steps": 5, "batch_size": 320,
        "learning_rate": 2e-4, "final_learning_rate": 1.0, "beta1": 0.0, "beta2": 0.9, "ema_half_life": 0.0,
    },
}  # fmt: skip
