"""What a guided CycleGAN reads: its autoencoder's statistics in both domains, and classifiers that it is trained against."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.cyclegan import CycleGANConfig, Guides, TwoDomains, code_statistics
from saegan_jax.algorithms.cyclegan.guides import CLASSIFIER_FEATURES, CLASSIFIER_WIDTH
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data import Dataset
from saegan_jax.data.domains import Domains
from saegan_jax.errors import require
from saegan_jax.evaluation.features import FeatureNetwork, FeatureRecipe, load_feature_network

SEED = 1
"""Of the classifiers that are trained against; those that score translations have seed 0, and other layers."""
FEW, EPOCHS_OF_FEW = 10_000, 40
EPOCHS_OF_MANY = 3


def guide_recipe(dataset: Dataset) -> FeatureRecipe:
    """How a classifier that is trained against is trained: of other layers than one that scores."""
    few = len(dataset.train.label) < FEW
    return replace(
        FeatureRecipe.for_image(dataset.image_shape),
        epochs=EPOCHS_OF_FEW if few else EPOCHS_OF_MANY,
        batch_size=64 if few else 128,
        width=CLASSIFIER_WIDTH,
        feature_dim=CLASSIFIER_FEATURES,
    )


def guide_classifiers(config: CycleGANConfig, domains: Domains) -> dict[str, FeatureNetwork]:
    """The classifiers that ``config`` asks for, by domain: trained on its labels, or from the cache."""
    chosen = {name: domains.both[name] for name in config.labelled_domains}
    return {
        name: load_feature_network(dataset, seed=SEED, recipe=guide_recipe(dataset)) for name, dataset in chosen.items()
    }


def check_classes(config: CycleGANConfig, domains: Domains) -> None:
    """Raise :class:`saegan_jax.errors.ConfigError` for another number of classes than the labels of both domains have."""
    found = sorted({domain.num_classes for domain in (domains.a, domains.b)})
    fix = f"the labels of {domains.name} have {' and '.join(map(str, found))} classes."
    require(not config.semantic_weight or found == [config.classes], "cyclegan.classes", config.classes, fix)


def fit_member_guides(
    config: CycleGANConfig,
    sae: SAEConfig,
    sae_params: Any,
    domains: Domains,
    classifiers: dict[str, FeatureNetwork],
    *,
    n_seeds: int,
) -> Guides:
    """The guides of every member, stacked where there are several: each has an autoencoder, all share classifiers."""
    weights = {name: jax.tree.map(jnp.asarray, network.params) for name, network in classifiers.items()}
    if n_seeds > 1:
        weights = jax.tree.map(lambda leaf: jnp.stack([leaf] * n_seeds), weights)
    if not config.concept_weight:
        return Guides((), (), weights)
    images = TwoDomains(jnp.asarray(domains.a.train.image), jnp.asarray(domains.b.train.image))

    def fit(params: Any, images: TwoDomains) -> TwoDomains:
        one = partial(code_statistics, sae, images=images)
        return one(params) if n_seeds == 1 else jax.lax.map(one, params)

    return Guides(sae_params, jax.jit(fit)(sae_params, images), weights)
