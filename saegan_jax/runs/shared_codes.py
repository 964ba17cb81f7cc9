"""Autoencoders of two domains, trained or not, and how well their codes tell labels across the domains."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.cyclegan import TwoDomains, code_statistics
from saegan_jax.algorithms.cyclegan.config import DIRECTIONS
from saegan_jax.algorithms.cyclegan.guides import centred_codes
from saegan_jax.algorithms.sae import SAEConfig, autoencoder, sae
from saegan_jax.data.domains import Domains
from saegan_jax.evaluation.shared_codes import neighbour_agreement
from saegan_jax.images import to_unit_float
from saegan_jax.report.table import Row
from saegan_jax.runs.train.cyclegan import mixed_batches
from saegan_jax.runs.translations import held_out, label_kept, scorers
from saegan_jax.training.members import unstacked
from saegan_jax.training.systems import member_keys
from saegan_jax.training.transforms import many_fresh_steps

QUERIES, KEYS = 1000, 6000  # validation images of one domain, training images of the other
METRIC = "agreement_{}"
UNITS = {
    "agreement_ab": "share of validation images of A whose nearest training image of B has their label; higher is better",
    "agreement_ba": "the same of B among images of A",
}
"""Measures and their units."""
READ = {
    "agreement_ab": "share of validation images of A that the classifier of B reads as their label; higher is better",
    "agreement_ba": "the same of B by the classifier of A",
}
"""Units of what stands beside them: no nearest images, but the classifiers that score translations."""


def encoders(sae_config: SAEConfig) -> Mapping[str, tuple[SAEConfig, bool]]:
    """Settings of each arm's autoencoder, and whether it is trained."""
    dense = replace(sae_config, k=sae_config.d_sae)
    return {
        f"TopK, {sae_config.k} of {sae_config.d_sae}": (sae_config, True),
        f"TopK, {sae_config.k} of {sae_config.d_sae}, never trained": (sae_config, False),
        f"dense, {dense.d_sae}": (dense, True),
        f"dense, {dense.d_sae}, never trained": (dense, False),
    }


def trained_members(config: SAEConfig, domains: Domains, *, train: bool, seed: int, seeds: int) -> list[Any]:
    """Parameters of every seed."""
    algorithm = sae(config, image_shape=domains.image_shape)
    run = many_fresh_steps(algorithm.step, mixed_batches(config.batch_size), length=config.steps)
    data = TwoDomains(jnp.asarray(domains.a.train.image), jnp.asarray(domains.b.train.image))

    def one(key: jax.Array, data: TwoDomains) -> Any:
        state = algorithm.init(key)
        return (run(state, data)[0] if train else state).params

    found = jax.jit(lambda keys, data: jax.lax.map(lambda key: one(key, data), keys))(member_keys(seed, seeds), data)
    return unstacked(found, seeds)


def agreement(domains: Domains, codes_of: Any) -> dict[str, float]:
    """:func:`neighbour_agreement` in both directions; ``codes_of(domain, images in [0, 1]) -> (n, d)``."""
    found = {}
    for direction in DIRECTIONS:
        source, target = direction
        queries = held_out(domains, direction, n=QUERIES, split="validation")
        keys = domains.both[target].train
        images = to_unit_float(jnp.asarray(keys.image[:KEYS]))
        codes = [np.asarray(codes_of(name, x)) for name, x in ((source, queries.image), (target, images))]
        found[METRIC.format(direction)] = neighbour_agreement(codes[0], queries.label, codes[1], keys.label[:KEYS])
    return found


def pixel_rows(domains: Domains) -> list[Row]:
    """Pixels, centred in each domain; and, beside them, the classifiers' reading of untranslated validation images."""
    means = {name: domain.train.image[:KEYS].mean(axis=0) / 255 for name, domain in domains.both.items()}
    found = agreement(domains, lambda name, x: (np.asarray(x) - means[name]).reshape(len(x), -1))
    networks, rows = scorers(domains), []
    for direction in DIRECTIONS:
        metric = METRIC.format(direction)
        held = held_out(domains, direction, n=QUERIES, split="validation")
        read = label_kept(np.asarray(held.image), held.label, networks[direction[1]].predict_labels)
        rows.append(
            Row.of("left untranslated, by the classifier of the other domain", metric, [read], unit=READ[metric])
        )
        rows.append(Row.of("pixels", metric, [found[metric]], unit=UNITS[metric]))
    return rows


def code_rows(arm: str, config: SAEConfig, members: list[Any], domains: Domains) -> list[Row]:
    """Rows of one autoencoder, its codes centred as concept consistency centres them."""
    functions = autoencoder(config, image_shape=domains.image_shape)
    images = TwoDomains(jnp.asarray(domains.a.train.image), jnp.asarray(domains.b.train.image))
    fit = jax.jit(lambda params, images: code_statistics(config, params, images))
    encode = jax.jit(lambda params, statistics, x: centred_codes(functions, params, statistics, x))
    values: dict[str, list[float]] = {metric: [] for metric in UNITS}
    for params in members:
        statistics = fit(params, images)._asdict()
        found = agreement(domains, lambda name, x, p=params, s=statistics: encode(p, s[name], x))
        for metric, value in found.items():
            values[metric].append(value)
    return [Row.of(arm, metric, found, unit=UNITS[metric]) for metric, found in values.items()]
