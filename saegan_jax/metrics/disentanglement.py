"""How codes share known factors of the data among them: mutual information gap, disentanglement and completeness."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class DCI(NamedTuple):
    """What `dci` returns; all in [0, 1], where 1 is best.

    Attributes:
      disentanglement: whether each code depends on one factor alone, mean over codes weighed by their importance.
      completeness: whether each factor is captured by one code alone, mean over factors.
      by_code: ``(d,)``, disentanglement of each code; 0 of one that matters for no factor.
      by_factor: ``(m,)``, completeness of each factor; 0 of one for which no code matters.
    """

    disentanglement: float
    completeness: float
    by_code: NDArray[np.float64]
    by_factor: NDArray[np.float64]


def dci(importance: ArrayLike) -> DCI:
    """Disentanglement and completeness of a matrix of importances.

    ``D_i = 1 - H_m(P_i)`` with ``P_ij = R_ij / sum_j R_ij``, the entropy ``H_m`` to the base of the number of factors, and
    ``D = sum_i w_i D_i`` with ``w_i = sum_j R_ij / sum_ij R_ij``; ``C_j = 1 - H_d(P'_j)`` with ``P'_ij = R_ij / sum_i R_ij``.

    Args:
      importance: ``R (d, m)``, how much code i matters in predicting factor j, zero or above; d and m at least 2.

    Raises:
      ValueError: another shape, values below zero or not finite, or none above zero.

    Source: Eastwood and Williams, A framework for the quantitative evaluation of disentangled representations, 2018.
    """
    R = np.asarray(importance, np.float64)
    if R.ndim != 2 or min(R.shape) < 2:
        raise ValueError(f"importance must be (codes, factors) with two or more of each, got {R.shape}.")
    if not (np.isfinite(R).all() and (R >= 0).all() and (R > 0).any()):
        raise ValueError("importance must be finite, zero or above, and above zero somewhere.")
    by_code, by_factor = _concentration(R), _concentration(R.T)
    weights = R.sum(axis=1) / R.sum()
    return DCI(float(weights @ by_code), float(by_factor.mean()), by_code, by_factor)


def mutual_information(codes: ArrayLike, factors: ArrayLike, *, bins: int = 20) -> NDArray[np.float64]:
    """``I(c_i; v_j)`` in nats of every code and factor, from counts: ``(d, m)``.

    Codes are cut into ``bins`` intervals of equal width between their least and largest value; one that is constant tells
    nothing. The estimate is biased upwards by about ``(bins - 1) (levels - 1) / (2 n)``.

    Args:
      codes: ``(n, d)``, finite.
      factors: ``(n, m)``, integers from 0.
      bins: at least 2.

    Raises:
      ValueError: other shapes or types, or values that are not finite.
    """
    h, v = _checked(codes, factors)
    if bins < 2:
        raise ValueError(f"bins = {bins}: a code needs at least 2.")
    low, high = h.min(axis=0), h.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    cut = np.minimum((bins * (h - low) / width).astype(np.int64), bins - 1)
    found = np.empty((h.shape[1], v.shape[1]))
    for j in range(v.shape[1]):
        levels = int(v[:, j].max()) + 1
        for i in range(h.shape[1]):
            joint = np.bincount(cut[:, i] * levels + v[:, j], minlength=bins * levels).reshape(bins, levels) / len(h)
            found[i, j] = _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0)) - _entropy(joint.reshape(-1))
    return found


def mutual_information_gap(codes: ArrayLike, factors: ArrayLike, *, bins: int = 20) -> float:
    """``MIG = mean_j (I(c_1st; v_j) - I(c_2nd; v_j)) / H(v_j)``, the two codes that say most of factor j: in [0, 1].

    1: each factor is read from one code, and no other code tells anything of it. Arguments and errors: see
    :func:`mutual_information`; also fewer than two codes, or a factor that is constant.

    Source: Chen et al., Isolating sources of disentanglement in variational autoencoders, 2018, equation 6.
    """
    h, v = _checked(codes, factors)
    if h.shape[1] < 2:
        raise ValueError("codes must have two or more columns: a gap is between two of them.")
    entropy = np.array([_entropy(np.bincount(column) / len(column)) for column in v.T])
    if not (entropy > 0).all():
        raise ValueError(f"factor {int(entropy.argmin())} is constant: there is nothing to tell of it.")
    ordered = np.sort(mutual_information(h, v, bins=bins), axis=0)
    return float(((ordered[-1] - ordered[-2]) / entropy).mean())


def _concentration(R: NDArray[np.float64]) -> NDArray[np.float64]:
    """``1 - entropy`` of every row as a distribution, to the base of its length; 0 of a row of zeros."""
    totals = R.sum(axis=1, keepdims=True)
    P = R / np.where(totals > 0, totals, 1)
    entropies = np.array([_entropy(row) for row in P]) / np.log(R.shape[1])
    return np.where(totals[:, 0] > 0, 1 - entropies, 0.0)


def _entropy(p: NDArray[np.float64]) -> float:
    """In nats, of probabilities ``(k,)``."""
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())


def _checked(codes: ArrayLike, factors: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    h, v = np.asarray(codes, np.float64), np.asarray(factors)
    if h.ndim != 2 or v.ndim != 2 or len(h) != len(v) or not h.size or not v.size:
        raise ValueError(f"codes (n, d) and factors (n, m) of one n are needed, got {h.shape} and {v.shape}.")
    if not np.issubdtype(v.dtype, np.integer) or v.min() < 0:
        raise ValueError(f"factors must be integers from 0, got {v.dtype} from {v.min()}.")
    if not np.isfinite(h).all():
        raise ValueError("codes hold values that are not finite.")
    return h, v.astype(np.int64)
