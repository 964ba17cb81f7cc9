"""Every training that `saegan train` knows. A new system is a line here and one in `saegan_jax.algorithms.registry`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.runs.options import (
    RunOptions,
    TrainCycleGAN,
    TrainEnergy,
    TrainGAN,
    TrainSAE,
    TrainSAEGAN,
    TrainVAE,
)


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
        leaves; None where there is none.
    """

    options: type[RunOptions]
    settings: str
    phase: str
    module: str
    autoencoder: Callable[[Any, Any], tuple[SAEConfig, Any]] | None = None


TRAININGS: dict[str, Training] = {
    "sae": Training(TrainSAE, "sae", "sae", "saegan_jax.runs.train.sae", lambda sae, state: (sae, state.params)),
    "gan": Training(TrainGAN, "gan", "gan", "saegan_jax.runs.train.gan"),
    "saegan": Training(
        TrainSAEGAN,
        "model",
        "gan",
        "saegan_jax.runs.train.saegan",
        lambda model, state: (model.sae, state.pretrained.sae),
    ),
    "vae": Training(TrainVAE, "vae", "vae", "saegan_jax.runs.train.vae"),
    "energy": Training(TrainEnergy, "energy", "gan", "saegan_jax.runs.train.energy"),
    "cyclegan": Training(TrainCycleGAN, "model", "cyclegan", "saegan_jax.runs.train.cyclegan"),
}
