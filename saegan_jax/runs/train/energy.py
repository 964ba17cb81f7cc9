"""An energy-based GAN, EBGAN or BEGAN, whose discriminator is a sparse autoencoder, with or without training it beforehand."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import jax

from saegan_jax.algorithms.energy import energy
from saegan_jax.algorithms.sae import Start, sae
from saegan_jax.runs.options import TrainEnergy
from saegan_jax.runs.parse import parse
from saegan_jax.runs.scores import finish, sae_rows, sample_rows
from saegan_jax.runs.session import open_run
from saegan_jax.training.sweep import data_center
from saegan_jax.training.systems import init_members


def run(options: TrainEnergy) -> None:
    """Train, score and show one run."""
    model = options.energy
    name = f"energy-{options.dataset_word}-{model.kind}-seed{options.seed}"
    phases = ({"sae": model.sae} if model.pretrained else {}) | {"gan": model.gan}
    with ExitStack() as stack:
        job = open_run(stack, options, name=name, model=model, phases=phases)
        shape = job.dataset.image_shape
        members: Any = {"seed": options.seed, "n_seeds": options.seeds}
        center = None if model.hidden else data_center(model.sae, job.data.image)
        start = None if center is None else Start(center=center)
        if model.pretrained:
            autoencoder = sae(model.sae, image_shape=shape)
            trained = job.train(
                "sae",
                autoencoder.step,
                jax.jit(lambda: init_members(autoencoder, pretrained=Start(center=center), shared=True, **members)),
                model.sae,
                shown=("reconstruction", "sparsity", "l0"),
            )
            start = Start(params=trained.params)
        algorithm = energy(model, image_shape=shape)
        state = job.train(
            "gan",
            algorithm.step,
            jax.jit(lambda: init_members(algorithm, pretrained=start, shared=not model.pretrained, **members)),
            model.gan,
            shown=("real_energy", "fake_energy", "convergence" if model.kind == "began" else "above_margin"),
            score=job.sample_evaluator(algorithm),
            picture=job.sample_pictures("gan", algorithm),
        )
        # What the game has left of the autoencoder; with layers around it there is no dictionary of images.
        rows = {} if model.hidden else sae_rows(job, model.sae, state.params.discriminator["sae"])
        finish(job, rows | sample_rows(job, algorithm, state))


def parse_options(arguments: Sequence[str] | None = None) -> TrainEnergy:
    """The command line as options."""
    return parse(TrainEnergy, arguments, first=("kind", "margin", "sae.variant", "gan.steps"))
