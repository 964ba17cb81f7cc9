"""The autoencoders whose samplers of codes are compared: trained here, or read from a run with its generator."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from saegan_jax.algorithms.base import Examples
from saegan_jax.algorithms.registry import build
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data import load, share
from saegan_jax.errors import ConfigError, require
from saegan_jax.evaluation.prior_gap import Subject
from saegan_jax.priors import Sampler
from saegan_jax.runs.options import TrainSAE
from saegan_jax.runs.restore import autoencoder_of, restore_run
from saegan_jax.training.members import members_of, unstacked
from saegan_jax.training.phase import check_batch
from saegan_jax.training.sweep import Member, train_members


def require_whole(config: SAEConfig) -> None:
    """Refuse convolutional codes, whose positions are not alike."""
    fix = "a sampler draws one code per image, and this autoencoder has one per patch; set it to 0."
    require(config.patch_size == 0, "sae.patch_size", config.patch_size, fix)


def train_subject(options: TrainSAE, say: Callable[[str], None]) -> Subject:
    """Train the autoencoders that the options describe; ``say`` is called with the progress."""
    config = options.sae
    require_whole(config)
    dataset = load(options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir, **options.image_files)
    train = share(dataset.train, options.fraction)
    check_batch("sae", config.batch_size, len(train.label), steps=config.steps)
    data = Examples(jnp.asarray(train.image), jnp.asarray(train.label))
    seeds = [Member(config, options.seed + i) for i in range(options.seeds)]
    states, _ = train_members(seeds, data, progress=lambda step, _: say(f"step {step} of {config.steps}"))
    return Subject(dataset, train, config, unstacked(states.params, options.seeds))


def read_subject(
    run: Path, samplers: Sequence[Sampler], *, manual_dir: Path | None = None, data_dir: Path | None = None
) -> Subject:
    """The autoencoders of a run, and its generators where they read sparse codes.

    Raises:
      ConfigError: a run without an autoencoder of its own, or with a convolutional one.
    """
    restored = restore_run(run)
    training, settings, n = restored.training, restored.settings, restored.n_seeds
    read = autoencoder_of(restored, restored.state)
    if read is None:
        fix = "it has no autoencoder of its own; take a run of train_sae or train_saegan."
        raise ConfigError("run", str(run), fix)
    config, params = read
    require_whole(config)
    dataset = load(restored.options.dataset, manual_dir=manual_dir, data_dir=data_dir, **restored.options.image_files)
    found = Subject(dataset, share(dataset.train, restored.options.fraction), config, members_of(params, n))
    own = training.sampler(settings)
    if own is None:
        return found
    known: dict[str, Any] = {"image_shape": restored.image_shape, "n_classes": restored.n_classes}
    generators = {sampler: build(replace(settings, sampler=sampler), **known) for sampler in samplers}
    return found._replace(generators=generators, states=members_of(restored.state, n), trained_with=own)
