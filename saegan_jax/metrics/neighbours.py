"""Fidelity, variety and copying of generated samples from nearest neighbours, on the host in float64."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from saegan_jax.metrics.kernel import BLOCK, checked_features

# Squared distances come from products, as ||x||^2 + ||y||^2 - 2 x . y about the mean of the real points, and carry a
# rounding error of about 1e-15 of ||x||^2 + ||y||^2. Within this share of that sum, points count as equally far.
_SLACK = 1e-12


class NeighbourMetrics(NamedTuple):
    """What `neighbour_metrics` returns.

    Attributes:
      precision: share of the generated points that lie in the ball of any real one; in [0, 1].
      recall: share of the real points that lie in the ball of any generated one; in [0, 1].
      density: number of real balls that a generated point lies in, over ``k``, on average; >= 0, about 1 if the two
        distributions agree.
      coverage: share of the real points whose ball holds a generated one; in [0, 1].
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbour_metrics(real_features: ArrayLike, fake_features: ArrayLike, *, k: int = 5) -> NeighbourMetrics:
    """How much of the generated points lies among the real ones, and the reverse.

    With ``B(x_i)`` the closed ball about ``x_i`` through the ``k``-th nearest *other* point of its own set:
    ``precision = mean_j 1[y_j in any B(x_i)]``, ``recall = mean_i 1[x_i in any B(y_j)]``, ``density = (1 / k n) sum_{i, j}
    1[y_j in B(x_i)]`` and ``coverage = mean_i 1[any y_j in B(x_i)]``, ``x`` real and ``y`` generated.

    Copies of a point are other points, at distance 0: a point that occurs ``k + 1`` times has a ball of radius 0, which
    holds its copies in either set. A distance is within a radius if it exceeds it by no more than rounding does, 1e-12 of
    the points' squared norms about the real mean, so points nearer than about 1e-6 of those norms are copies. Precision
    and recall rise with outliers, whose balls are large; density and coverage are robust to them. For
    equal distributions and equal, large counts density is about 1 and coverage about ``1 - 2^-k``, while precision and
    recall depend on the distribution: compare all four to a floor of real points at the same counts.

    Args:
      real_features: ``(m, d)``, ``m > k``.
      fake_features: ``(n, d)``, ``n > k``; the counts may differ.
      k: neighbour that sets the radius, >= 1; 3 in the first source, 5 in the second.

    Returns:
      See `NeighbourMetrics`. Time grows with ``(m + n)^2 d``, memory does not: some 64 MB beside the features.

    Raises:
      ValueError: if a set is not a matrix of more than ``k`` rows or holds a non-finite value or one beyond 1e40, the
        widths differ, or ``k`` is no positive integer.

    Source: Kynkaanniemi, Karras, Laine, Lehtinen and Aila, Improved Precision and Recall Metric for Assessing Generative
    Models, 2019, equations 1 and 2; Naeem, Oh, Uh, Choi and Yoo, Reliable Fidelity and Diversity Metrics for Generative
    Models, 2020, section 3.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k = {k!r}: choose a positive whole number of neighbours, such as 5.")
    sets: dict[str, ArrayLike] = {"real_features": real_features, "fake_features": fake_features}
    real, fake = checked_features(sets)
    for name, values in zip(sets, (real, fake), strict=True):
        if len(values) <= k:
            raise ValueError(
                f"{name} have {len(values)} rows, and none has {k} others (k = {k}): pass more samples or a smaller k."
            )
    origin = real.mean(axis=0)
    real, fake = real - origin, fake - origin
    real_radius, fake_radius = _squared_radii(real, k), _squared_radii(fake, k)
    left, right = _left(real, 1 - _SLACK), _right(fake, 1 - _SLACK)
    rows, pairs = max(1, BLOCK // len(fake)), 0
    precise, recalled, covered = np.zeros(len(fake), bool), np.zeros(len(real), bool), np.zeros(len(real), bool)
    for start in range(0, len(real), rows):
        part = slice(start, start + rows)
        squared = left[part] @ right.T
        recalled[part] = (squared <= fake_radius).any(axis=1)
        inside = squared <= real_radius[part, None]
        covered[part] = inside.any(axis=1)
        precise |= inside.any(axis=0)
        pairs += int(np.count_nonzero(inside))
    return NeighbourMetrics(
        precision=float(precise.mean()),
        recall=float(recalled.mean()),
        density=pairs / (int(k) * len(fake)),
        coverage=float(covered.mean()),
    )


class Memorisation(NamedTuple):
    """What `memorisation` returns.

    Attributes:
      probability: that a generated point lies nearer to its nearest training point than a held-out one does, in [0, 1];
        0.5 is right, towards 1 is copying, towards 0 is far from the data.
      ratio: median distance to the nearest training point, generated over held-out; 1 is right, 0 is copying. Infinite
        if only the held-out median is 0, NaN if both are.
    """

    probability: float
    ratio: float


def memorisation(train_features: ArrayLike, held_out_features: ArrayLike, fake_features: ArrayLike) -> Memorisation:
    """Whether generated points lie nearer to the training points than fresh real ones do.

    With ``d(z) = min_i ||z - x_i||`` over training points, ``y`` generated and ``h`` held out: ``probability = P(d(y) <
    d(h)) + P(d(y) = d(h)) / 2``, the Mann-Whitney statistic over its largest value, and ``ratio = median d(y) / median
    d(h)``. One number for the whole space, where the source takes a mean over cells of it; a generator that copies in
    one region and is far from the data in another can have 0.5.

    Args:
      train_features: ``(t, d)``, of what the generator was trained on.
      held_out_features: ``(m, d)``, of real samples that it was not.
      fake_features: ``(n, d)``; the counts may differ.

    Returns:
      See `Memorisation`. Time grows with ``t (m + n) d``, memory does not. Under equal distributions the probability's
      standard deviation is ``sqrt((m + n + 1) / (12 m n))``, 0.004 at 10,000 of each, with the training points fixed.

    Raises:
      ValueError: if a set is not a matrix, is empty or holds a non-finite value or one beyond 1e40, or the widths differ.

    Source: Meehan, Chaudhuri and Dasgupta, A Non-Parametric Test to Detect Data-Copying in Generative Models, 2020,
    section 3.
    """
    train, held_out, fake = checked_features(
        {"train_features": train_features, "held_out_features": held_out_features, "fake_features": fake_features},
        fewest=1,
    )
    return compare_distances(nearest_distances(train, held_out), nearest_distances(train, fake))


def nearest_distances(
    train_features: ArrayLike, features: ArrayLike | None = None, *, rows: int | None = None
) -> np.ndarray:
    """``min_i ||z - x_i||`` over training points ``x (t, d)`` for each row ``z`` of ``features (n, d)``: ``(n,)`` float64.

    Exact for the neighbour found, so 0 for a copy; errors as in `memorisation`. Without ``features``, the distance of
    each of the first ``rows`` training points (by default, all) to the nearest *other* one, ``t >= 2``.
    """
    others = features is None
    points = np.asarray(train_features)[:rows] if features is None else features
    train, points = checked_features({"train_features": train_features, "features": points}, fewest=1)
    if others and len(train) < 2:
        raise ValueError("train_features has one row, and so no other one to measure to: pass at least 2.")
    origin = train.mean(axis=0)
    left, right = _left(points - origin), _right(train - origin)
    height, width = 1000, BLOCK // 1000
    nearest = np.zeros(len(points), np.int64)
    for start in range(0, len(points), height):
        part = left[start : start + height]
        best, index = np.full(len(part), np.inf), nearest[start : start + height]
        for first in range(0, len(train), width):
            squared = part @ right[first : first + width].T
            if others:
                point = np.arange(start, start + len(part))
                inside = (point >= first) & (point < first + squared.shape[1])
                squared[inside, point[inside] - first] = np.inf
            position = squared.argmin(axis=1)
            smallest = squared[np.arange(len(part)), position]
            closer = smallest < best
            best[closer], index[closer] = smallest[closer], first + position[closer]
    return np.linalg.norm(points - train[nearest], axis=1)


def compare_distances(held_out: np.ndarray, fake: np.ndarray) -> Memorisation:
    """`memorisation` from the `nearest_distances` ``(m,)`` of held-out and ``(n,)`` of generated points."""
    ordered = np.sort(held_out)
    below, not_above = (np.searchsorted(ordered, fake, side=side).mean() for side in ("left", "right"))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.median(fake) / np.median(held_out))
    return Memorisation(probability=float(1 - (below + not_above) / (2 * len(ordered))), ratio=ratio)


def _left(x: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """With `_right`: ``_left(x) @ _right(y).T`` are the squared distances, from one matrix product alone."""
    return np.column_stack([-2 * x, scale * np.einsum("ij,ij->i", x, x), np.ones(len(x))])


def _right(y: np.ndarray, scale: float = 1.0) -> np.ndarray:
    return np.column_stack([y, np.ones(len(y)), scale * np.einsum("ij,ij->i", y, y)])


def _squared_radii(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row to the ``k``-th nearest other row, ``(n,)``; not exactly 0 for copies, see _SLACK."""
    left, right, radii = _left(x), _right(x), np.empty(len(x))
    rows = max(1, BLOCK // len(x))
    for start in range(0, len(x), rows):
        squared = left[start : start + rows] @ right.T
        row = np.arange(len(squared))
        squared[row, start + row] = np.inf
        squared.partition(k - 1, axis=1)
        radii[start : start + rows] = squared[:, k - 1]
    return radii
