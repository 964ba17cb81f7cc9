"""Energy-based GANs whose discriminator is the sparse autoencoder: an image's energy is its reconstruction error."""

from saegan_jax.algorithms.energy.build import EnergyInfo, energy
from saegan_jax.algorithms.energy.config import EnergyConfig, EnergyGANConfig, discriminator_sae, energy_gan
from saegan_jax.algorithms.energy.discriminator import EnergyNet, energy_net
from saegan_jax.algorithms.energy.kinds import KINDS, EnergyKind, Judged

__all__ = [
    "KINDS",
    "EnergyConfig",
    "EnergyGANConfig",
    "EnergyInfo",
    "EnergyKind",
    "EnergyNet",
    "Judged",
    "discriminator_sae",
    "energy",
    "energy_gan",
    "energy_net",
]
