"""Kernel distance between a set of real and a set of generated samples, on the host in float64."""

import numpy as np
from numpy.typing import ArrayLike

BLOCK = 4_000_000  # float64 numbers of a block of pairs held in memory at once: 32 MB
_LARGEST = 1e40  # the sixth power of such features is still a float64


def kernel_distance(real_features: ArrayLike, fake_features: ArrayLike) -> float:
    """Squared maximum mean discrepancy with a cubic kernel, unbiased: the kernel inception distance, in any features.

    ``sum_{i != j} k(x_i, x_j) / (m (m - 1)) + sum_{i != j} k(y_i, y_j) / (n (n - 1)) - 2 sum_{i, j} k(x_i, y_j) / (m n)``
    with ``k(x, y) = (x . y / d + 1)^3``, over all pairs of the whole sets, not averaged over subsets.

    Its mean does not depend on the sample counts and is 0 for equal distributions, so values below 0 occur. Rotations
    of both sets leave it as it is, translations and scales do not: compare within one feature network only.

    Args:
      real_features: ``(m, d)``.
      fake_features: ``(n, d)``; the counts may differ.

    Returns:
      The distance, in units of the kernel; of either sign. Memory does not grow with ``m n``.

    Raises:
      ValueError: if a set has fewer than 2 rows, is not a matrix or holds a non-finite value or one beyond 1e40, or the
        widths differ.

    Source: Binkowski, Sutherland, Arbel and Gretton, Demystifying MMD GANs, 2018, section 4; the estimator is Gretton,
    Borgwardt, Rasch, Schoelkopf and Smola, A Kernel Two-Sample Test, 2012, equation 3.
    """
    real, fake = checked_features({"real_features": real_features, "fake_features": fake_features})
    m, n = len(real), len(fake)
    within_real = (_kernel_sum(real, real) - _kernel_diagonal(real)) / (m * (m - 1))
    within_fake = (_kernel_sum(fake, fake) - _kernel_diagonal(fake)) / (n * (n - 1))
    return float(within_real + within_fake - 2 * _kernel_sum(real, fake) / (m * n))


def checked_features(sets: dict[str, ArrayLike], *, fewest: int = 2) -> list[np.ndarray]:
    """The named sets as float64 ``(n, d)`` of one width, each of at least ``fewest`` rows; ValueError otherwise."""
    checked: list[np.ndarray] = []
    for name, features in sets.items():
        values = np.asarray(features, np.float64)
        if values.ndim != 2 or values.shape[0] < fewest or values.shape[1] < 1:
            raise ValueError(
                f"{name} must be (n, d) with n >= {fewest}, got shape {values.shape}: pass one row per sample."
            )
        usable = np.abs(values) <= _LARGEST  # false for NaN
        if not usable.all():
            bad = int((~usable.all(axis=1)).sum())
            raise ValueError(
                f"{name} holds non-finite values, or some beyond {_LARGEST:g}, in {bad} of {len(values)} rows: the "
                "samples are broken."
            )
        checked.append(values)
    first, *others = sets
    for name, values in zip(others, checked[1:], strict=True):
        if values.shape[1] != checked[0].shape[1]:
            raise ValueError(
                f"{first} have {checked[0].shape[1]} columns and {name} {values.shape[1]}: both must come from one "
                "feature network."
            )
    return checked


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
    """``sum_{i, j} k(x_i, y_j)``, some rows of ``x`` at a time."""
    rows, scaled, total = max(1, BLOCK // len(y)), x / x.shape[1], 0.0
    for start in range(0, len(x), rows):
        block = scaled[start : start + rows] @ y.T
        block += 1
        total += float(np.vdot(block, block * block))
    return total


def _kernel_diagonal(x: np.ndarray) -> float:
    """``sum_i k(x_i, x_i)``."""
    return float(np.sum((np.einsum("ij,ij->i", x, x) / x.shape[1] + 1) ** 3))
