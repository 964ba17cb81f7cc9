"""A sparse autoencoder alone: reconstruction plus KL sparsity on images."""

from collections.abc import Sequence
from contextlib import ExitStack

import jax

from saegan_jax.algorithms.sae import Start, sae
from saegan_jax.runs.options import TrainSAE
from saegan_jax.runs.parse import parse
from saegan_jax.runs.scores import finish, sae_rows
from saegan_jax.runs.session import open_run
from saegan_jax.training.sweep import CENTER_IMAGES, data_center
from saegan_jax.training.systems import init_members


def run(options: TrainSAE) -> None:
    """Train, score and show one run."""
    with ExitStack() as stack:
        name = f"sae-{options.dataset_word}-seed{options.seed}"
        job = open_run(stack, options, name=name, model=options.sae, phases={"sae": options.sae}, scores_samples=False)
        start = Start(center=data_center(options.sae, job.some_images(CENTER_IMAGES)))
        algorithm = sae(options.sae, image_shape=job.dataset.image_shape)
        state = job.train(
            "sae",
            algorithm.step,
            jax.jit(
                lambda: init_members(algorithm, seed=options.seed, n_seeds=options.seeds, pretrained=start, shared=True)
            ),
            options.sae,
            shown=("reconstruction", "sparsity", "l0"),
            picture=job.sample_pictures("sae", algorithm),
        )
        finish(job, sae_rows(job, options.sae, state.params))


def parse_options(arguments: Sequence[str] | None = None) -> TrainSAE:
    """The command line as options."""
    return parse(TrainSAE, arguments, first=("sae.variant", "sae.d_sae", "sae.k", "sae.rho", "sae.beta", "sae.steps"))
