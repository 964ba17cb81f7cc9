"""Every training that `saegan train` knows. A new system is a line here and one in `saegan_jax.algorithms.registry`."""

from typing import NamedTuple

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
    """

    options: type[RunOptions]
    settings: str
    phase: str
    module: str


TRAININGS: dict[str, Training] = {
    "sae": Training(TrainSAE, "sae", "sae", "saegan_jax.runs.train.sae"),
    "gan": Training(TrainGAN, "gan", "gan", "saegan_jax.runs.train.gan"),
    "saegan": Training(TrainSAEGAN, "model", "gan", "saegan_jax.runs.train.saegan"),
    "vae": Training(TrainVAE, "vae", "vae", "saegan_jax.runs.train.vae"),
    "energy": Training(TrainEnergy, "energy", "gan", "saegan_jax.runs.train.energy"),
    "cyclegan": Training(TrainCycleGAN, "model", "cyclegan", "saegan_jax.runs.train.cyclegan"),
}
