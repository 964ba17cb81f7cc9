"""GANs with a sparse autoencoder in the generator's input, in its output, or in the discriminator."""

from saegan_jax.algorithms.saegan.build import saegan, saegan_game
from saegan_jax.algorithms.saegan.config import SAEGANConfig
from saegan_jax.algorithms.saegan.critics import DISCRIMINATORS, Critic, CriticParts, Discriminator, Projection
from saegan_jax.algorithms.saegan.frozen import FrozenSAE, Pretrained
from saegan_jax.algorithms.saegan.generators import INPUTS, OUTPUTS, alignment_loss
from saegan_jax.algorithms.saegan.pretrained import fit_pretrained, fitting_operations, pretrained_shapes

__all__ = [
    "DISCRIMINATORS",
    "INPUTS",
    "OUTPUTS",
    "Critic",
    "CriticParts",
    "Discriminator",
    "FrozenSAE",
    "Pretrained",
    "Projection",
    "SAEGANConfig",
    "alignment_loss",
    "fit_pretrained",
    "fitting_operations",
    "pretrained_shapes",
    "saegan",
    "saegan_game",
]
