"""Labels kept by a translation while it trains: of validation images, one number a member."""

from collections.abc import Callable
from typing import Any

import numpy as np

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.cyclegan.config import DIRECTIONS
from saegan_jax.data.domains import Domains
from saegan_jax.runs.translations import Labellers, held_out, label_kept, translate_images
from saegan_jax.training.callbacks import Scores
from saegan_jax.training.members import members_of

IMAGES = 500  # validation images of a domain in one evaluation
SHOWN = tuple(f"label_kept_{direction}" for direction in DIRECTIONS)
"""Names of the scores: the share of translations in which the target domain's classifier sees the label of the source."""


def label_evaluator(
    domains: Domains, algorithm: Algorithm, label_of: Labellers, *, n_seeds: int
) -> Callable[[int, Any], Scores]:
    """``score(step, state) -> Scores``: ``label_kept_ab`` and ``label_kept_ba`` of at most 500 validation images a domain.

    Always of the same images.

    Args:
      domains: whose validation images are translated.
      algorithm: whose ``translate`` is called.
      label_of: classifiers of both domains.
      n_seeds: members in the state.
    """
    held = {direction: held_out(domains, direction, n=IMAGES, split="validation") for direction in DIRECTIONS}

    def score(step: int, state: Any) -> Scores:
        values: dict[str, list[float]] = {name: [] for name in SHOWN}
        for member in members_of(state, n_seeds):
            for name, direction in zip(SHOWN, DIRECTIONS, strict=True):
                images, label, _ = held[direction]
                there = np.asarray(translate_images(member, images, algorithm=algorithm, direction=direction))
                values[name].append(label_kept(there, label, label_of.of[direction[1]]))
        return Scores(values, {})

    return score
