"""The main job: train a sparse autoencoder, fit the sparse prior, train a GAN that uses both, and show the result."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import jax
from rich.text import Text

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.sae import Start, sae
from saegan_jax.algorithms.saegan import SAEGANConfig, saegan
from saegan_jax.runs.options import TrainSAEGAN
from saegan_jax.runs.page import Subject, write_page
from saegan_jax.runs.parse import parse
from saegan_jax.runs.scores import finish, sae_rows, sample_rows
from saegan_jax.runs.session import Run, open_run
from saegan_jax.training.busy import busy
from saegan_jax.training.members import members_of
from saegan_jax.training.sweep import data_center
from saegan_jax.training.systems import fit_members, init_members


def run(options: TrainSAEGAN) -> None:
    """Train, score and show one run."""
    model = options.model
    plain = {"sampler": "factorised", "generator_output": "images", "encoder": "trained"}
    special = [f"-{getattr(model, name)}" for name, usual in plain.items() if getattr(model, name) != usual]
    places = f"{model.generator_input}-{model.discriminator}{''.join(special)}"
    name = f"saegan-{options.dataset_word}-{places}-seed{options.seed}"
    phases = {"sae": model.sae, "gan": model.gan} if model.encoder == "trained" else {"gan": model.gan}
    with ExitStack() as stack:
        job = open_run(stack, options, name=name, model=model, phases=phases)
        shape, n_classes = job.dataset.image_shape, job.dataset.num_classes
        members: dict[str, Any] = {"seed": options.seed, "n_seeds": options.seeds}

        autoencoder = sae(model.sae, image_shape=shape)
        middle = Start(center=data_center(model.sae, job.data.image))
        start = jax.jit(lambda: init_members(autoencoder, pretrained=middle, shared=True, **members))
        if model.encoder == "trained":
            shown = ("reconstruction", "sparsity", "l0")
            sae_state = job.train("sae", autoencoder.step, start, model.sae, shown=shown)
        else:
            sae_state = start()
        fit = jax.jit(lambda params, images: fit_members(model, params, images, **members))
        pretrained = fit(sae_state.params, job.data.image)
        rows = sae_rows(job, model.sae, pretrained.sae)
        algorithm = saegan(model, image_shape=shape, n_classes=n_classes)
        gan_state = job.train(
            "gan",
            algorithm.step,
            jax.jit(lambda: init_members(algorithm, pretrained=pretrained, **members)),
            model.gan,
            shown=("discriminator_loss", "generator_loss", "accuracy"),
            score=job.sample_evaluator(algorithm),
            picture=job.sample_pictures("gan", algorithm),
        )
        rows |= sample_rows(job, algorithm, gan_state)
        finish(job, rows, offers_page=not options.evaluate)
        show(job, algorithm, gan_state)


def show(job: Run, algorithm: Algorithm, states: Any) -> None:
    """Write the page of the run, of its first member, and say where it is; none where nothing is to be scored."""
    if not job.options.evaluate:
        return
    out = job.folder / "report.html"
    state = members_of(states, job.n_seeds)[0]
    model: SAEGANConfig = job.options.model  # type: ignore[attr-defined]
    sae = (model.sae, state.pretrained.sae)
    with busy(job.display.console, "writing the page of the run"):
        write_page(Subject(job.folder, job.config, model.gan.steps, 0, algorithm, state, sae, job.dataset), out)
    job.display.console.print(Text(f"{out} is the page of this run: open it in a browser."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> TrainSAEGAN:
    """The command line as options."""
    return parse(
        TrainSAEGAN,
        arguments,
        first=("generator_input", "discriminator", "recipe", "sae.variant", "gan.network", "gan.steps"),
    )
