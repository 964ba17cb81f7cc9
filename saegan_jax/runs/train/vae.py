"""A variational autoencoder: Gaussian, spike and slab, or with the KL sparsity penalty of a sparse autoencoder."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.vae import KINDS, VAEConfig, fit_aggregate, reconstruct, sample_aggregate, score_vae, vae
from saegan_jax.evaluation.features import load_feature_network
from saegan_jax.evaluation.sample_quality import sample_quality
from saegan_jax.images import to_unit_float
from saegan_jax.report import image_grid
from saegan_jax.runs.options import TrainVAE
from saegan_jax.runs.parse import parse
from saegan_jax.runs.scores import finish, member_scores, row, sample_rows
from saegan_jax.runs.session import SAMPLE_SEED, Run, open_run
from saegan_jax.training.systems import draw, init_members

DRAWS = 50  # of the importance-weighted bound
RECONSTRUCTED = 32


def vae_rows(run: Run, config: VAEConfig, states: Any) -> dict[str, dict[str, Any]]:
    """Bounds and sparsity of every member on the test images: rows of the closing table."""
    images, key = jnp.asarray(run.dataset.test.image), jax.random.key(SAMPLE_SEED)
    score = jax.jit(lambda s, x: jax.lax.map(lambda one: score_vae(config, one, x, key, draws=DRAWS), s))
    found = jax.tree.map(np.asarray, score(states, images))
    of, kind = f"of {config.d_latent}", KINDS[config.kind]
    activity = kind.prior_activity(config)
    prior = "" if activity is None else f"; prior {activity * config.d_latent:.3g}"
    caveat = "; no density: pixels are not binary" if config.likelihood == "bernoulli" else ""
    return {
        "ELBO": row(found.elbo, "nats", f"test images, beta 1{caveat}"),
        f"IWAE bound, K={DRAWS}": row(found.iwae, "nats", "test images"),
        "divergence from the prior": row(found.kl, "nats", "summed over units"),
        "VAE FVU": row(found.fvu, "share of variance", "of posterior draws; 0 perfect, 1 the mean image"),
        "VAE L0": row(found.l0, f"{of} units", f"{kind.active_means}{prior}"),
        "active units": row(found.active_units, f"{of} units", "Var of the posterior mean > 0.01"),
    }


def reconstructions(run: Run, config: VAEConfig, state: Any) -> None:
    """Test images of the first member above their reconstructions, as ``reconstructions.png``."""
    images = to_unit_float(jnp.asarray(run.dataset.test.image[:RECONSTRUCTED]))
    columns = RECONSTRUCTED // 2
    decoded = reconstruct(config, state, images)
    pairs = jnp.stack([images, decoded]).reshape(2, 2, columns, *images.shape[1:]).swapaxes(0, 1)
    pixels = np.nan_to_num(np.asarray(pairs.reshape(-1, *images.shape[1:])), nan=0.5)
    image_grid(pixels, run.folder / "reconstructions.png", columns=columns)


def fitted_rows(run: Run, aggregate: Algorithm, state: Any) -> dict[str, dict[str, Any]]:
    """The distances of :func:`sample_rows` for samples from the fitted aggregate posterior."""
    if not run.options.evaluate:
        return {}
    images = draw(aggregate, state, seed=SAMPLE_SEED + 1, n=len(run.dataset.test.label), n_seeds=run.n_seeds)
    rows = {}
    for seed, which in enumerate(("", ", second network")):
        network = load_feature_network(run.dataset, seed=seed, allow_random=True)
        score = partial(sample_quality, network, dataset=run.dataset, pairs=False)
        scores = member_scores(images, score)
        note = "codes drawn unit by unit from the aggregate posterior, not the prior"
        rows[f"Frechet / floor{which}, fitted{network.suffix}"] = row([s["ratio"] for s in scores], "ratio", note)
        if not which and run.dataset.labelled:
            balance = [s["class_balance_kl"] for s in scores]
            rows["class balance KL, fitted"] = row(balance, "nats", note)
    return rows


def run(options: TrainVAE) -> None:
    """Train, score and show one run."""
    config = options.vae
    with ExitStack() as stack:
        name = f"vae-{options.dataset_word}-{config.kind}-seed{options.seed}"
        job = open_run(stack, options, name=name, model=config, phases={"vae": config})
        shape = job.dataset.image_shape
        algorithm = vae(config, image_shape=shape)
        state = job.train(
            "vae",
            algorithm.step,
            jax.jit(lambda: init_members(algorithm, seed=options.seed, n_seeds=options.seeds)),
            config,
            shown=("log_likelihood", "kl", "l0"),
            picture=job.sample_pictures("vae", algorithm),
        )
        states = state if options.seeds > 1 else jax.tree.map(lambda x: x[None], state)
        rows = vae_rows(job, config, states)
        reconstructions(job, config, jax.tree.map(lambda x: x[0], states))
        key = jax.random.key(SAMPLE_SEED)
        fit = jax.jit(lambda s, x: jax.lax.map(lambda one: fit_aggregate(config, one, x, key), s))
        fitted = fit(states, job.data.image)
        if options.seeds == 1:
            fitted = jax.tree.map(lambda x: x[0], fitted)
        aggregate = Algorithm(algorithm.init, algorithm.step, sample_aggregate(config, image_shape=shape))
        job.sample_pictures("aggregate", aggregate)(config.steps, (state, fitted))
        rows |= sample_rows(job, algorithm, state)
        finish(job, rows | fitted_rows(job, aggregate, (state, fitted)))


def parse_options(arguments: Sequence[str] | None = None) -> TrainVAE:
    """The command line as options."""
    return parse(TrainVAE, arguments, first=("vae.kind", "vae.d_latent", "vae.steps"))
