"""Scores of many autoencoders of one sweep: reconstruction, sparsity, probes of the codes, and dictionaries between seeds."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.sae import SAEConfig, SAEState
from saegan_jax.data import Dataset
from saegan_jax.evaluation.probe import linear_probe
from saegan_jax.metrics import SAEMetrics, coherence, dictionary_match
from saegan_jax.training.members import unstacked
from saegan_jax.training.sweep import Member, encode_all, score_members


class Swept(NamedTuple):
    """Trained members of one variant, the seeds of a combination beside each other, as :func:`train_members` gives them."""

    members: Sequence[Member]
    states: SAEState
    infos: Any
    seeds: int


class SweepScores(NamedTuple):
    """Scores of every member.

    Attributes:
      columns: by measure, on test images.
      validation: on validation images.
      finite: whether a member's loss, weights and scores are finite, ``(members,)`` bool.
    """

    columns: dict[str, list[float]]
    validation: SAEMetrics
    finite: np.ndarray


def decoder(config: SAEConfig, params: Any) -> np.ndarray:
    """``(d_sae, d_in)`` on the host; of stacked parameters with their leading axis."""
    weights = params["params"]
    return np.asarray(np.swapaxes(weights["W_enc"], -1, -2) if config.tied else weights["W_dec"])


def probe_accuracies(
    members: Sequence[Member], params: Sequence[Any], finite: np.ndarray, dataset: Dataset, *, images: int
) -> list[float]:
    """Test accuracy of a logistic regression on each member's codes of ``images`` training images; NaN where there is none."""
    n = min(images, len(dataset.train.label))
    train, labels = jnp.asarray(dataset.train.image[:n]), dataset.train.label[:n]
    test, test_labels = jnp.asarray(dataset.test.image), dataset.test.label
    found = []
    for member, weights, good in zip(members, params, finite, strict=True):
        if not (n and good):
            found.append(float("nan"))
            continue
        codes = [encode_all(member.config, weights, images) for images in (train, test)]
        found.append(linear_probe(codes[0], labels, codes[1], test_labels).accuracy)
    return found


def seed_matches(config: SAEConfig, params: Sequence[Any], finite: np.ndarray, *, seeds: int) -> list[float]:
    """Of every member, the mean Hungarian match of its dictionary with those of the other seeds of its combination."""
    found = np.full(len(params), np.nan)
    for start in range(0, len(params), seeds):
        pairs: dict[int, list[float]] = {i: [] for i in range(start, start + seeds)}
        for i, j in combinations(pairs, 2):
            if finite[i] and finite[j]:
                cosine = dictionary_match(decoder(config, params[i]), decoder(config, params[j])).mean_cosine
                pairs[i].append(cosine)
                pairs[j].append(cosine)
        for i, cosines in pairs.items():
            found[i] = np.mean(cosines) if cosines else np.nan
    return found.tolist()


def score_sweep(swept: Swept, dataset: Dataset, *, probe_images: int, say: Callable[[str], None]) -> SweepScores:
    """Every score of every member; ``say`` is called with the progress."""
    members, states = swept.members, swept.states
    base = members[0].config
    say("scoring")
    validation, test = (
        score_members(members, states, jnp.asarray(split.image)) for split in (dataset.validation, dataset.test)
    )
    active = score_members(members, states, jnp.asarray(dataset.test.image), active_only=True)
    params = unstacked(states.params, len(members))
    weights_finite = np.array([all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(p)) for p in params])
    finite = weights_finite & np.isfinite(test.fvu) & np.isfinite(swept.infos.loss).all(axis=1)
    say("probing")
    columns = {
        "l0": test.l0.tolist(),
        "fvu": test.fvu.tolist(),
        "fvu_active": active.fvu.tolist(),
        "dead_fraction": test.dead_fraction.tolist(),
        "probe_accuracy": probe_accuracies(members, params, finite, dataset, images=probe_images),
        "dictionary_match": seed_matches(base, params, finite, seeds=swept.seeds),
        "coherence": [float(coherence(jnp.asarray(decoder(base, p))).mean) for p in params],
    }
    return SweepScores(columns, validation, finite)
