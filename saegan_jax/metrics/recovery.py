"""How well an autoencoder finds features that are known: its directions, and when its units are active."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from saegan_jax.metrics.dictionary import dictionary_match


class Matched(NamedTuple):
    """What `match_features` returns.

    Attributes:
      mcc: mean absolute cosine of the pairs of the best one-to-one assignment, in [0, 1].
      uniqueness: share of the units that are left if of those nearest to one feature one is counted, in (0, 1].
      nearest: ``(d_sae,)``, the feature of largest absolute cosine to each unit.
    """

    mcc: float
    uniqueness: float
    nearest: NDArray[np.int64]


class Activity(NamedTuple):
    """Counts over examples, each ``(d_sae,)`` int32: a pytree to add up over batches.

    Attributes:
      both: examples in which the unit is active and its feature is present.
      active: in which the unit is active.
      present: in which the feature is present.
    """

    both: jax.Array
    active: jax.Array
    present: jax.Array


class Detection(NamedTuple):
    """What `detection` returns, means over units, in [0, 1]; a unit of which one is undefined counts 0.

    Attributes:
      precision: of the examples in which a unit is active, the share in which its feature is present.
      recall: of the examples in which the feature is present, the share in which the unit is active.
      f1: their harmonic mean, of each unit.
    """

    precision: float
    recall: float
    f1: float


def match_features(W_dec: ArrayLike, atoms: ArrayLike) -> Matched:
    """Directions of the units beside those of the features.

    ``mcc = 1 / min(d_sae, features) max_pi sum_i |cos(w_i, a_pi(i))|``, found by the Hungarian method.

    Args:
      W_dec: ``(d_sae, d)``, a unit a row; a row of zeros has cosine 0 to every feature.
      atoms: ``(features, d)``.

    Raises:
      ValueError: as :func:`saegan_jax.metrics.dictionary_match`.

    Source: Chanin and Garriga-Alonso, SynthSAEBench, 2026.
    """
    found = dictionary_match(W_dec, atoms)
    w, a = np.asarray(W_dec, np.float64), np.asarray(atoms, np.float64)
    lengths = np.linalg.norm(a, axis=1)
    nearest = np.abs(w @ (a / np.where(lengths == 0, 1.0, lengths).reshape(-1, 1)).T).argmax(axis=1)
    pairs = min(len(w), len(a))
    return Matched(float(found.matched_cosine.sum() / pairs), len(np.unique(nearest)) / len(w), nearest)


def activity(codes: jax.Array, features: jax.Array, nearest: jax.Array, *, threshold: float) -> Activity:
    """Counts of one batch.

    Args:
      codes: ``(batch, d_sae)``; a unit is active where its code is strictly above ``threshold``.
      features: ``(batch, features)``, magnitudes; a feature is present where its own is above 0.
      nearest: ``(d_sae,)``, the feature of each unit.
      threshold: see above.

    Raises:
      ValueError: shapes that disagree.
    """
    if codes.ndim != 2 or features.ndim != 2 or len(codes) != len(features) or nearest.shape != codes.shape[1:]:
        raise ValueError(
            f"codes (batch, d_sae), features (batch, features) and nearest (d_sae,) are needed, got {codes.shape}, "
            f"{features.shape} and {nearest.shape}."
        )
    on, there = codes > threshold, jnp.take(features, nearest, axis=1) > 0
    counts = (jnp.sum(x, axis=0, dtype=jnp.int32) for x in (on & there, on, there))
    return Activity(*counts)


def detection(counts: Activity) -> Detection:
    """Units as detectors of their features, from the counts of all examples: see :class:`Detection`."""
    both, active, present = (np.asarray(count, np.float64) for count in counts)
    precision, recall = both / np.maximum(active, 1), both / np.maximum(present, 1)
    f1 = 2 * precision * recall / np.where(precision + recall > 0, precision + recall, 1)
    return Detection(float(precision.mean()), float(recall.mean()), float(f1.mean()))
