"""Adversarial training: a generator against one or more critics, as pure functions over an immutable state."""

from saegan_jax.algorithms.gan.build import adversarial, gan, gan_game, known_classes
from saegan_jax.algorithms.gan.config import (
    DiscriminatorConfig,
    GANConfig,
    GeneratorConfig,
    ObjectiveConfig,
    OptimiserConfig,
    ScheduleConfig,
)
from saegan_jax.algorithms.gan.networks import NETWORKS, NetworkPair, image_generator, image_networks
from saegan_jax.algorithms.gan.objectives import ADVERSARIAL_LOSSES, AdversarialLoss
from saegan_jax.algorithms.gan.parts import Condition, Game, applied, gaussian_latent, generated, init_params
from saegan_jax.algorithms.gan.penalties import PENALTIES, Penalty, PenaltyInputs
from saegan_jax.algorithms.gan.schedule import GANHyper, OptimiserHyper, Scheduled, hyper, optimiser_hyper, scheduled
from saegan_jax.algorithms.gan.state import GANInfo, GANState, ObjectiveState
from saegan_jax.algorithms.gan.step import Rules, train_step
from saegan_jax.algorithms.nets import Nets

__all__ = [
    "ADVERSARIAL_LOSSES",
    "NETWORKS",
    "PENALTIES",
    "AdversarialLoss",
    "Condition",
    "DiscriminatorConfig",
    "GANConfig",
    "GANHyper",
    "GANInfo",
    "GANState",
    "Game",
    "GeneratorConfig",
    "Nets",
    "NetworkPair",
    "ObjectiveConfig",
    "ObjectiveState",
    "OptimiserConfig",
    "OptimiserHyper",
    "Penalty",
    "PenaltyInputs",
    "Rules",
    "ScheduleConfig",
    "Scheduled",
    "adversarial",
    "applied",
    "gan",
    "gan_game",
    "gaussian_latent",
    "generated",
    "hyper",
    "image_generator",
    "image_networks",
    "init_params",
    "known_classes",
    "optimiser_hyper",
    "scheduled",
    "train_step",
]
