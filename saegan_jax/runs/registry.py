"""Every training that `saegan train` knows. A new system is a line here and one in `saegan_jax.algorithms.registry`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from saegan_jax.algorithms.energy import EnergyConfig
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.algorithms.saegan.generators import INPUTS
from saegan_jax.runs.options import (
    RunOptions,
    TrainCycleGAN,
    TrainEnergy,
    TrainGAN,
    TrainSAE,
    TrainSAEGAN,
    TrainVAE,
)


def no_sampler(settings: Any) -> None:
    """Of a generator that reads no codes, or of no generator."""
    return


def code_sampler(model: SAEGANConfig) -> str | None:
    """The sampler of the codes that a SAE-GAN's generator reads; None where it reads none."""
    return model.sampler if INPUTS[model.generator_input].has_code else None


def energy_autoencoder(model: EnergyConfig, state: Any) -> tuple[SAEConfig, Any] | None:
    """The discriminator of an energy-based GAN; with layers around it, it is none of images."""
    return None if model.hidden else (model.sae, state.params.discriminator["sae"])


class Training(NamedTuple):
    """One command of `saegan train`.

    Attributes:
      options: the class of its options.
      settings: the attribute of the options that holds the settings of the system, of a class in
        :data:`saegan_jax.algorithms.registry.SYSTEMS`.
      phase: whose state is the result; names its folder of checkpoints.
      module: with ``parse_options(arguments) -> options`` and ``run(options)``; imported where it is run, since one training
        does not need the others.
      autoencoder: ``autoencoder(settings, state)``, settings and parameters of the sparse autoencoder of images that a run
        leaves, or None where these settings have none; None where no run has one.
      sampler: ``sampler(settings)``, the sampler of the codes that the generator reads; None where it reads none.
      gan: ``gan(settings)``, settings of the GAN whose generator draws the images; None where there is none.
    """

    options: type[RunOptions]
    settings: str
    phase: str
    module: str
    autoencoder: Callable[[Any, Any], tuple[SAEConfig, Any] | None] | None = None
    sampler: Callable[[Any], str | None] = no_sampler
    gan: Callable[[Any], GANConfig] | None = None


TRAININGS: dict[str, Training] = {
    "sae": Training(
        TrainSAE, "sae", "sae", "saegan_jax.runs.train.sae", autoencoder=lambda sae, state: (sae, state.params)
    ),
    "gan": Training(TrainGAN, "gan", "gan", "saegan_jax.runs.train.gan", gan=lambda gan: gan),
    "saegan": Training(
        TrainSAEGAN,
        "model",
        "gan",
        "saegan_jax.runs.train.saegan",
        autoencoder=lambda model, state: (model.sae, state.pretrained.sae),
        sampler=code_sampler,
        gan=lambda model: model.gan,
    ),
    "vae": Training(TrainVAE, "vae", "vae", "saegan_jax.runs.train.vae"),
    "energy": Training(TrainEnergy, "energy", "gan", "saegan_jax.runs.train.energy", autoencoder=energy_autoencoder),
    "cyclegan": Training(TrainCycleGAN, "model", "cyclegan", "saegan_jax.runs.train.cyclegan"),
}
