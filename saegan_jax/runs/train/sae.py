"""A sparse autoencoder alone: reconstruction plus sparsity, on images or on vectors of any model."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh

from saegan_jax.algorithms.sae import Start, sae
from saegan_jax.data.registry import VECTORS
from saegan_jax.errors import require
from saegan_jax.runs.options import TrainSAE
from saegan_jax.runs.parse import parse
from saegan_jax.runs.probes import image_rows
from saegan_jax.runs.scores import finish, vector_rows
from saegan_jax.runs.session import RunData, labelled_images, open_run
from saegan_jax.runs.vectors import vector_data
from saegan_jax.training.saved_weights import SavedWeights, check_saved, read_saved, start_params
from saegan_jax.training.sweep import CENTER_IMAGES, data_center
from saegan_jax.training.systems import init_members


def image_data(options: TrainSAE, mesh: Mesh | None, *, saved: SavedWeights | None) -> RunData:
    """The images that the options name, for a training that begins with the ``saved`` weights where there are any."""
    fix = "images are in [0, 1] already, and this is for vectors; leave it out."
    require(options.normalise in ("auto", "none"), "normalise", options.normalise, fix)
    found = labelled_images(options, mesh)
    if saved is None:
        return found
    check_saved(saved, options.sae, found.image_shape)
    return replace(found, record={**found.record, "from": saved.sha256}, unrecorded=("start_from",))


def run(options: TrainSAE) -> None:
    """Train, score and show one run."""
    vectors = options.dataset.startswith(VECTORS)
    saved = None if options.start_from is None else read_saved(options.start_from)
    data: Callable[..., RunData] = partial(vector_data if vectors else image_data, saved=saved)
    with ExitStack() as stack:
        name = f"sae-{options.dataset_word}-seed{options.seed}"
        phases = {"sae": options.sae}
        job = open_run(stack, options, name=name, model=options.sae, phases=phases, data=data, scores_samples=False)
        if saved is not None:
            start = Start(params=start_params(saved, job.dataset.normalisation if vectors else None))
        else:
            start = Start(center=data_center(options.sae, job.some_images(CENTER_IMAGES)))
        algorithm = sae(options.sae, image_shape=job.dataset.image_shape)

        @jax.jit  # saved weights are an argument: as constants of the program they would be compiled
        def init(start: Start) -> Any:
            return init_members(algorithm, seed=options.seed, n_seeds=options.seeds, pretrained=start, shared=True)

        state = job.train(
            "sae",
            algorithm.step,
            partial(init, start),
            options.sae,
            shown=("reconstruction", "sparsity", "l0"),
            picture=None if vectors else job.sample_pictures("sae", algorithm),
        )
        rows = vector_rows if vectors else image_rows
        finish(job, rows(job, options.sae, state.params), offers_page=not vectors)


def parse_options(arguments: Sequence[str] | None = None) -> TrainSAE:
    """The command line as options."""
    return parse(TrainSAE, arguments, first=("sae.variant", "sae.d_sae", "sae.k", "sae.rho", "sae.beta", "sae.steps"))
