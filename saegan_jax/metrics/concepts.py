"""How often and how strongly each feature is active in real and in fake images: effect sizes and their intervals."""

import numpy as np
from numpy.typing import ArrayLike


def wilson_interval(count: ArrayLike, n: int, *, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of a proportion: ``(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``.

    Args:
      count: ``(...)``, successes among ``n``, each from 0 to ``n``.
      n: trials, at least 1.
      z: normal quantile of the level; 1.96 for 95 %.

    Returns:
      ``(low, high)``, shaped as ``count``, in [0, 1].

    Raises:
      ValueError: no trials, or counts outside ``0..n``.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    k = np.asarray(count, np.float64)
    if n < 1 or (k < 0).any() or (k > n).any():
        raise ValueError(f"count must lie from 0 to n and n be at least 1, but n = {n} and counts reach {k.max()}.")
    p = k / n
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Rounding would leave 1e-19 in place of 0.
    low, high = np.where(k == 0, 0.0, (middle - half) / scale), np.where(k == n, 1.0, (middle + half) / scale)
    return low, high


def difference_interval(
    real_count: ArrayLike, fake_count: ArrayLike, *, n_real: int, n_fake: int, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of the share of fakes minus the share of reals, from Wilson's interval ``[l, u]`` of each share ``p``.

    ``[d - sqrt((p_f - l_f)^2 + (u_r - p_r)^2), d + sqrt((u_f - p_f)^2 + (p_r - l_r)^2)]`` with ``d = p_f - p_r``. It covers
    about as often as its level says at shares near 0 and 1 too, where the usual interval collapses.

    Args:
      real_count, fake_count: ``(...)``, images of each set in which a feature is active.
      n_real, n_fake: images of each set.
      z: normal quantile of the level.

    Returns:
      ``(low, high)``, in [-1, 1].

    Raises:
      ValueError: as :func:`wilson_interval`, or counts of different shapes.

    Source: Newcombe, Interval estimation for the difference between independent proportions, 1998, method 10.
    """
    real, fake = np.asarray(real_count, np.float64), np.asarray(fake_count, np.float64)
    if real.shape != fake.shape:
        raise ValueError(
            f"real_count has shape {real.shape} and fake_count {fake.shape}: they must count the same features."
        )
    real_low, real_high = wilson_interval(real, n_real, z=z)
    fake_low, fake_high = wilson_interval(fake, n_fake, z=z)
    real_share, fake_share = real / n_real, fake / n_fake
    difference = fake_share - real_share
    low = difference - np.hypot(fake_share - fake_low, real_high - real_share)
    return low, difference + np.hypot(fake_high - fake_share, real_share - real_low)


def superiority(real: ArrayLike, fake: ArrayLike) -> float:
    """Probability that a fake value exceeds a real one, ``P(f > r) + P(f = r) / 2``: the Mann-Whitney statistic, scaled.

    Args:
      real: ``(m,)``, at least one value.
      fake: ``(n,)``, at least one value.

    Returns:
      In [0, 1]; 0.5 where neither tends to be larger.

    Raises:
      ValueError: an empty set, or one that is no vector.

    Source: Mann and Whitney, On a test of whether one of two random variables is stochastically larger than the other, 1947.
    """
    r, f = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    if r.ndim != 1 or f.ndim != 1 or not len(r) or not len(f):
        raise ValueError(f"real and fake must be vectors of at least one value, got shapes {r.shape} and {f.shape}.")
    ordered = np.sort(r)
    below, not_above = (np.searchsorted(ordered, f, side=side).mean() for side in ("left", "right"))
    return float((below + not_above) / (2 * len(r)))


def superiority_interval(
    value: ArrayLike, n_real: ArrayLike, n_fake: ArrayLike, *, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of :func:`superiority`: all ``t`` with ``|value - t| <= z sqrt(V(t))``.

    ``V(t) = t (1 - t) (1 + N (1 - t) / (2 - t) + N t / (1 + t)) / (m n)`` with ``N = (m + n) / 2 - 1``. It does not collapse at
    0 and 1, where the two sets do not overlap.

    Args:
      value: ``(...)``, in [0, 1].
      n_real, n_fake: values of each set, of the same shape or scalars, at least 1.
      z: normal quantile of the level.

    Returns:
      ``(low, high)``, in [0, 1], shaped as ``value``.

    Raises:
      ValueError: values outside [0, 1] (NaN among them), or no values in a set.

    Source: Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2, 2006,
    method 5.
    """
    found = np.asarray(value, np.float64)
    m, n = (np.broadcast_to(np.asarray(size, np.float64), found.shape) for size in (n_real, n_fake))
    if not ((found >= 0) & (found <= 1)).all() or (m < 1).any() or (n < 1).any():
        raise ValueError("value must lie in [0, 1] and both sets have at least one value.")

    def outside(t: np.ndarray) -> np.ndarray:
        larger = (m + n) / 2 - 1
        variance = t * (1 - t) * (1 + larger * (1 - t) / (2 - t) + larger * t / (1 + t)) / (m * n)
        return np.abs(found - t) > z * np.sqrt(variance)

    ends = []
    for limit in (0.0, 1.0):
        far, near = np.full(found.shape, limit), found.copy()
        for _ in range(50):  # bisection, to 1e-15
            middle = (far + near) / 2
            out = outside(middle)
            far, near = np.where(out, middle, far), np.where(out, near, middle)
        ends.append(np.where(found == limit, limit, (far + near) / 2))
    return ends[0], ends[1]


def conformal_p_values(real_scores: ArrayLike, fake_scores: ArrayLike) -> np.ndarray:
    """Of every fake, how unusual its score is among real ones: ``p_i = (1 + #{j : s_j >= s_i}) / (m + 1)``.

    If a fake comes from the distribution of the reals, ``P(p_i <= a) <= a`` for every ``a``, whatever the score, as long as the
    score was not fitted to these reals. Benjamini and Hochberg's procedure on them controls the false discovery rate, since
    p-values that share their reals depend on each other positively.

    Args:
      real_scores: ``(m,)``, larger is more unusual.
      fake_scores: ``(n,)``.

    Returns:
      ``(n,)``, from ``1 / (m + 1)`` to 1.

    Raises:
      ValueError: an empty set, or one that is no vector or holds NaN.

    Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005; Bates, Candes, Lei, Romano and Sesia,
    Testing for outliers with conformal p-values, 2023.
    """
    real, fake = np.asarray(real_scores, np.float64), np.asarray(fake_scores, np.float64)
    if real.ndim != 1 or fake.ndim != 1 or not len(real) or not len(fake):
        raise ValueError(f"scores must be vectors of at least one value, got shapes {real.shape} and {fake.shape}.")
    if np.isnan(real).any() or np.isnan(fake).any():
        raise ValueError("scores hold NaN: the images or the autoencoder are broken.")
    at_least = len(real) - np.searchsorted(np.sort(real), fake, side="left")
    return (1 + at_least) / (len(real) + 1)
