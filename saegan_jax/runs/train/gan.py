"""The plain GAN, with no sparse autoencoder anywhere: the baseline of every comparison."""

from collections.abc import Sequence
from contextlib import ExitStack

import jax

from saegan_jax.algorithms.gan import gan
from saegan_jax.runs.options import TrainGAN
from saegan_jax.runs.parse import parse
from saegan_jax.runs.scores import finish, sample_rows
from saegan_jax.runs.session import open_run
from saegan_jax.training.systems import init_members


def run(options: TrainGAN) -> None:
    """Train, score and show one run."""
    with ExitStack() as stack:
        name = f"gan-{options.dataset_word}-seed{options.seed}"
        job = open_run(stack, options, name=name, model=options.gan, phases={"gan": options.gan})
        algorithm = gan(options.gan, image_shape=job.dataset.image_shape, n_classes=job.dataset.num_classes)
        state = job.train(
            "gan",
            algorithm.step,
            jax.jit(lambda: init_members(algorithm, seed=options.seed, n_seeds=options.seeds)),
            options.gan,
            shown=("discriminator_loss", "generator_loss", "accuracy"),
            score=job.sample_evaluator(algorithm),
            picture=job.sample_pictures("gan", algorithm),
        )
        finish(job, sample_rows(job, algorithm, state))


def parse_options(arguments: Sequence[str] | None = None) -> TrainGAN:
    """The command line as options."""
    return parse(TrainGAN, arguments, first=("recipe", "gan.network", "gan.loss", "gan.r1_gamma", "gan.steps"))
