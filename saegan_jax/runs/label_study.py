"""Which objective makes a CycleGAN keep labels: arms of a study. A new one is one line in :data:`ARMS`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.cyclegan.config import DIRECTIONS, ConceptDistance
from saegan_jax.data.domains import Domains
from saegan_jax.errors import require_positive
from saegan_jax.evaluation.features import FeatureNetwork
from saegan_jax.metrics import frechet_distance
from saegan_jax.report.table import Row
from saegan_jax.runs.label_evaluator import IMAGES
from saegan_jax.runs.options import TrainCycleGAN
from saegan_jax.runs.restore import restore_run
from saegan_jax.runs.session import holds_run
from saegan_jax.runs.train.cyclegan import MNIST
from saegan_jax.runs.train.cyclegan import run as train
from saegan_jax.runs.translations import SCORED, held_out, scorers, translate_images
from saegan_jax.training.members import members_of
from saegan_jax.training.writers import read_metrics

UNTRANSLATED, REAL = "left untranslated", "validation images of the target domain"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What the arms have in common.

    Attributes:
      concept: weight of concept consistency.
      distance: of the codes.
      semantic: weight of semantic consistency.
    """

    concept: float = 30.0
    distance: ConceptDistance = "cosine"
    semantic: float = 3.0

    def __post_init__(self) -> None:
        require_positive(concept=self.concept, semantic=self.semantic)


def plain(options: TrainCycleGAN, weights: Weights) -> TrainCycleGAN:
    """Nothing asks for labels."""
    return options


def concept(options: TrainCycleGAN, weights: Weights, **settings: Any) -> TrainCycleGAN:
    """Codes of a translation agree with those of its source."""
    config = replace(options.cyclegan, concept_weight=weights.concept, concept_distance=weights.distance, **settings)
    return replace(options, cyclegan=config)


def random_concept(options: TrainCycleGAN, weights: Weights) -> TrainCycleGAN:
    """The same with an autoencoder that was never trained."""
    return concept(options, weights, concept_encoder="random")


def dense_concept(options: TrainCycleGAN, weights: Weights) -> TrainCycleGAN:
    """The same with all units active."""
    return concept(replace(options, sae=replace(options.sae, k=options.sae.d_sae)), weights)


def semantic(options: TrainCycleGAN, weights: Weights) -> TrainCycleGAN:
    """CyCADA: a classifier of domain A judges all images."""
    return replace(options, cyclegan=replace(options.cyclegan, semantic_weight=weights.semantic))


def semantic_both(options: TrainCycleGAN, weights: Weights) -> TrainCycleGAN:
    """A classifier of each domain."""
    made = semantic(options, weights)
    return replace(made, cyclegan=replace(made.cyclegan, semantic_labels="both"))


ARMS: Mapping[str, Callable[[TrainCycleGAN, Weights], TrainCycleGAN]] = {
    "plain": plain,
    "concept": concept,
    "concept_random": random_concept,
    "concept_dense": dense_concept,
    "semantic": semantic,
    "semantic_both": semantic_both,
}
"""What is trained, by name."""

METRICS = {
    "label_kept_ab": "share of translations of A that the classifier of B reads as their source's label; higher is better",
    "label_kept_ba": "the same of translations of B by the classifier of A",
    "frechet_ab": "Frechet distance of translations of A to test images of B in features of B; lower is better",
    "frechet_ba": "the same of translations of B to test images of A",
    "cycle": "mean absolute error after translating there and back, of both directions; lower is better",
    "validation_ab": "label kept from A to B by validation images, at the end of the training",
    "validation_ba": "the same from B to A",
}
"""Measures and their units."""


def train_arm(options: TrainCycleGAN, name: str, weights: Weights, folder: Path) -> Path:
    """Train an arm in its folder, from where an earlier call was stopped; a finished one is only scored again."""
    out = folder / name
    if not (out / "summary.json").exists():
        train(replace(ARMS[name](options, weights), out=out, resume=holds_run(out)))
    return out


def base_options(*, steps: int, sae_steps: int, seed: int, seeds: int, **places: Any) -> TrainCycleGAN:
    """The plain arm on ``mnist_digits``."""
    return replace(
        MNIST,
        domains="mnist_digits",
        cyclegan=replace(MNIST.cyclegan, steps=steps),
        sae=replace(MNIST.sae, steps=sae_steps),
        save_every=500,
        picture_every=500,
        seed=seed,
        seeds=seeds,
        **places,
    )


def measured(images: np.ndarray, label: np.ndarray, target: FeatureNetwork, real: np.ndarray) -> dict[str, float]:
    """Labels kept, and the Frechet distance to ``real`` test images of the target domain."""
    logits, features = target.run(images)
    return {
        "label_kept": float(np.mean(logits.argmax(axis=1) == label)),
        "frechet": frechet_distance(target.features(real), features),
    }


def arm_rows(name: str, run: Path, domains: Domains) -> list[Row]:
    """Rows of one arm's run: test images through every member's final translators, and the last validation scores."""
    restored = restore_run(run)
    networks = scorers(domains)
    values: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for member in members_of(restored.state, restored.n_seeds):
        errors = []
        for direction in DIRECTIONS:
            held, other = held_out(domains, direction), "ba" if direction == "ab" else "ab"
            there = translate_images(member, held.image, algorithm=restored.algorithm, direction=direction)
            back = translate_images(member, there, algorithm=restored.algorithm, direction=other)
            target, real = target_of(domains, networks, direction)
            for metric, value in measured(np.asarray(there), held.label, target, real).items():
                values[f"{metric}_{direction}"].append(value)
            errors.append(float(jnp.abs(back - held.image).mean()))
        values["cycle"].append(float(np.mean(errors)))
    last = [row for row in read_metrics(run) if row["phase"] == "cyclegan-scores"][-1]
    for direction in DIRECTIONS:
        values[f"validation_{direction}"] = np.atleast_1d(last[f"label_kept_{direction}"]).tolist()
    return [Row.of(name, metric, found, unit=METRICS[metric]) for metric, found in values.items()]


def target_of(
    domains: Domains, networks: tuple[FeatureNetwork, FeatureNetwork], direction: str
) -> tuple[FeatureNetwork, np.ndarray]:
    """The classifier and the test images of the domain that ``direction`` leads to."""
    if direction == "ab":
        return networks[1], domains.b.test.image[:SCORED]
    return networks[0], domains.a.test.image[:SCORED]


def reference_rows(domains: Domains) -> list[Row]:
    """The same measures of sources that are left untranslated, and of validation images of the target domain itself."""
    networks, rows = scorers(domains), []
    for direction in DIRECTIONS:
        held, (target, real) = held_out(domains, direction), target_of(domains, networks, direction)
        validation = held_out(domains, direction, n=IMAGES, split="validation")
        own = held_out(domains, "ba" if direction == "ab" else "ab", split="validation")
        unchanged = measured(np.asarray(held.image), held.label, target, real)
        unchanged["validation"] = measured(np.asarray(validation.image), validation.label, target, real)["label_kept"]
        found = {UNTRANSLATED: unchanged, REAL: measured(np.asarray(own.image), own.label, target, real)}
        rows += [
            Row.of(arm, f"{metric}_{direction}", [value], unit=METRICS[f"{metric}_{direction}"])
            for arm, values in found.items()
            for metric, value in values.items()
        ]
    return rows


def study_rows(arms: Iterable[str], folder: Path, domains: Domains) -> list[Row]:
    """Rows of the references and of all arms that were trained in ``folder``."""
    rows = reference_rows(domains)
    for name in arms:
        rows += arm_rows(name, folder / name, domains)
    return rows
