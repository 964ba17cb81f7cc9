"""Which objective makes a CycleGAN keep labels: arms of a study. A new one is one line in :data:`ARMS`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.cyclegan.config import DIRECTIONS, ConceptDistance, Direction, other
from saegan_jax.data.domains import Domains
from saegan_jax.errors import require_positive
from saegan_jax.evaluation.features import FeatureNetwork
from saegan_jax.metrics import frechet_distance
from saegan_jax.metrics.cycle_robustness import paired_error
from saegan_jax.report.table import Row
from saegan_jax.runs.label_evaluator import IMAGES
from saegan_jax.runs.options import TrainCycleGAN
from saegan_jax.runs.restore import restore_run
from saegan_jax.runs.session import holds_run, require_same_run
from saegan_jax.runs.train.cyclegan import MNIST, UNRECORDED
from saegan_jax.runs.train.cyclegan import run as train
from saegan_jax.runs.translations import SCORED, cycled, held_out, label_kept, scorers
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
    """The same with a code of as many units as the autoencoder has: TopK then keeps all that are positive, as a ReLU does."""
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
    """Train an arm in its folder, from where an earlier call was stopped; a finished one is only scored again.

    Raises:
      ConfigError: the folder holds a run of other settings.
    """
    out = folder / name
    arm = replace(ARMS[name](options, weights), out=out, resume=holds_run(out))
    if (out / "summary.json").exists():
        require_same_run(arm, out, UNRECORDED)
    else:
        train(arm)
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


class Target(NamedTuple):
    """The domain that a direction leads to: its classifier, and the features ``(n, d)`` of its test images."""

    network: FeatureNetwork
    real: np.ndarray


def targets_of(domains: Domains) -> dict[Direction, Target]:
    """The target of each direction."""
    networks = scorers(domains)
    real = {name: network.features(domains.both[name].test.image[:SCORED]) for name, network in networks.items()}
    return {direction: Target(networks[direction[1]], real[direction[1]]) for direction in DIRECTIONS}


def measured(images: np.ndarray, label: np.ndarray, target: Target) -> dict[str, float]:
    """Labels kept, and the Frechet distance to test images of the target domain; NaN where images are not finite."""
    finite = bool(np.isfinite(images).all())
    return {
        "label_kept": label_kept(images, label, target.network.predict_labels),
        "frechet": frechet_distance(target.real, target.network.features(images)) if finite else float("nan"),
    }


def arm_rows(name: str, run: Path, domains: Domains, targets: Mapping[Direction, Target]) -> list[Row]:
    """Rows of one arm's run: test images through every member's final translators, and the last validation scores."""
    restored = restore_run(run)
    held = {direction: held_out(domains, direction) for direction in DIRECTIONS}
    values: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for member in members_of(restored.state, restored.n_seeds):
        errors = []
        for direction, (image, label, _) in held.items():
            found = cycled(restored.algorithm, member, image, direction)
            for metric, value in measured(found.there, label, targets[direction]).items():
                values[f"{metric}_{direction}"].append(value)
            errors.append(float(paired_error(image, jnp.asarray(found.back)).mean()))
        values["cycle"].append(float(np.mean(errors)))
    last = [row for row in read_metrics(run) if row["phase"] == "cyclegan-scores"][-1]
    for direction in DIRECTIONS:
        values[f"validation_{direction}"] = np.atleast_1d(last[f"label_kept_{direction}"]).tolist()
    return [Row.of(name, metric, found, unit=METRICS[metric]) for metric, found in values.items()]


def reference_rows(domains: Domains, targets: Mapping[Direction, Target]) -> list[Row]:
    """The same measures of sources that are left untranslated, and of validation images of the target domain itself."""
    rows = []
    for direction, target in targets.items():
        held = held_out(domains, direction)
        validation = held_out(domains, direction, n=IMAGES, split="validation")
        own = held_out(domains, other(direction), split="validation")
        unchanged = measured(np.asarray(held.image), held.label, target)
        unchanged["validation"] = label_kept(
            np.asarray(validation.image), validation.label, target.network.predict_labels
        )
        found = {UNTRANSLATED: unchanged, REAL: measured(np.asarray(own.image), own.label, target)}
        rows += [
            Row.of(arm, f"{metric}_{direction}", [value], unit=METRICS[f"{metric}_{direction}"])
            for arm, values in found.items()
            for metric, value in values.items()
        ]
    return rows


def study_rows(arms: Iterable[str], folder: Path, domains: Domains) -> list[Row]:
    """Rows of the references and of all arms that were trained in ``folder``."""
    targets = targets_of(domains)
    rows = reference_rows(domains, targets)
    for name in arms:
        rows += arm_rows(name, folder / name, domains, targets)
    return rows
