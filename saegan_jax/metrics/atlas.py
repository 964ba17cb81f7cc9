"""What each unit of a sparse autoencoder stands for: how often it is active, on which examples most, and for which class."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class UnitStatistics(NamedTuple):
    """What `unit_statistics` returns.

    Attributes:
      density: ``(d_sae,)``, share of the examples on which a unit is active, in [0, 1].
      strength: ``(d_sae,)``, mean activity where it is active; 0 where it never is.
      top: ``(d_sae, count)`` int64, rows of the examples on which it is most active, falling; -1 where it is not active.
      top_activity: ``(d_sae, count)``, the activity there; 0 beside -1.
    """

    density: np.ndarray
    strength: np.ndarray
    top: np.ndarray
    top_activity: np.ndarray


def unit_statistics(activity: ArrayLike, *, threshold: float, count: int) -> UnitStatistics:
    """How often and how strongly units are active, and the examples on which each is most active.

    Args:
      activity: ``(n, d_sae)``, of convolutional codes the largest of an example's positions.
      threshold: a unit is active above it; in the activity's unit.
      count: examples a unit, at least 1; at most ``n`` are given.

    Returns:
      See `UnitStatistics`. Of equal activities the earlier example comes first.

    Raises:
      ValueError: activity that is no matrix of at least one row, or not finite; ``count`` below 1.
    """
    values = _matrix(activity)
    if count < 1:
        raise ValueError(f"count = {count}: ask for at least one example a unit.")
    active = values > threshold
    times = active.sum(axis=0)
    strength = np.where(active, values, 0).sum(axis=0) / np.maximum(times, 1)
    top = np.argsort(-values, axis=0, kind="stable")[:count].T
    top_activity = np.take_along_axis(values.T, top, axis=1)
    shown = top_activity > threshold
    return UnitStatistics(times / len(values), strength, np.where(shown, top, -1), np.where(shown, top_activity, 0))


class ClassPurity(NamedTuple):
    """What `class_purity` returns.

    Attributes:
      purity: ``(d_sae,)`` in [0, 1]; NaN for a unit that is never active.
      label: ``(d_sae,)`` int64, the class that it is the share of; -1 for such a unit.
      floor: the share of the most frequent class in the data: the purity of a unit that is always active.
    """

    purity: np.ndarray
    label: np.ndarray
    floor: float


def class_purity(activity: ArrayLike, labels: ArrayLike, *, num_classes: int, threshold: float) -> ClassPurity:
    """Of the examples on which a unit is active, the share of their most frequent class: ``max_c P(class = c | active)``.

    A unit that is active on one example has purity 1, so read it beside the density.

    Args:
      activity: ``(n, d_sae)``.
      labels: ``(n,)`` integers, 0 to ``num_classes - 1``.
      num_classes: classes.
      threshold: a unit is active above it.

    Returns:
      See `ClassPurity`. Of equally frequent classes the first counts.

    Raises:
      ValueError: activity that is no matrix of at least one row, or not finite; labels that are not one per row, or
        outside the classes.

    Source: the purity of clusters, Manning, Raghavan and Schuetze, Introduction to Information Retrieval, 2008, section 16.3.
    """
    values, classes = _matrix(activity), np.asarray(labels)
    if classes.shape != values.shape[:1] or not np.issubdtype(classes.dtype, np.integer):
        raise ValueError(f"labels must be ({len(values)},) integers, one per row, got {classes.dtype} {classes.shape}.")
    if classes.min() < 0 or classes.max() >= num_classes:
        raise ValueError(f"labels lie between {classes.min()} and {classes.max()}, outside the {num_classes} classes.")
    member = np.eye(num_classes, dtype=np.float32)[classes]
    counts = (values > threshold).astype(np.float32).T @ member
    times = counts.sum(axis=1)
    seen = times > 0
    purity = np.where(seen, counts.max(axis=1) / np.maximum(times, 1), np.nan)
    return ClassPurity(purity, np.where(seen, counts.argmax(axis=1), -1), float(member.mean(axis=0).max()))


class NearestUnits(NamedTuple):
    """What `nearest_units` returns.

    Attributes:
      unit: ``(d_sae, count)`` int64, the other units with the largest cosine, falling.
      cosine: ``(d_sae, count)``, in [-1, 1].
    """

    unit: np.ndarray
    cosine: np.ndarray


def nearest_units(W_dec: ArrayLike, *, count: int) -> NearestUnits:
    """The units whose decoder rows have the largest cosine with each: codes are not negative, so the sign counts.

    Args:
      W_dec: ``(d_sae, d_in)``; a row of zeros has cosine 0 to every other.
      count: units, at least 1; at most ``d_sae - 1`` are given.

    Returns:
      See `NearestUnits`. Takes ``d_sae^2`` numbers of memory.

    Raises:
      ValueError: a dictionary that is no matrix of at least one row, or not finite; ``count`` below 1.
    """
    atoms = _matrix(W_dec)
    if count < 1:
        raise ValueError(f"count = {count}: ask for at least one neighbour.")
    largest = np.abs(atoms).max(axis=1, keepdims=True)
    atoms = atoms / np.where(largest == 0, 1, largest)
    norm = np.linalg.norm(atoms, axis=1, keepdims=True)
    atoms = atoms / np.where(norm == 0, 1, norm)
    cosine = np.clip(atoms @ atoms.T, -1, 1)
    np.fill_diagonal(cosine, -np.inf)
    order = np.argsort(-cosine, axis=1, kind="stable")[:, : min(count, len(atoms) - 1)]
    return NearestUnits(order, np.take_along_axis(cosine, order, axis=1))


def _matrix(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"a matrix of at least one row and column is needed, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError("the values are not all finite: the autoencoder has diverged.")
    return array
