"""Distances between a set of real and a set of generated samples, on the host in float64."""

import numpy as np
from numpy.typing import ArrayLike


def frechet_distance(real_features: ArrayLike, fake_features: ArrayLike) -> float:
    """Squared Frechet (2-Wasserstein) distance between Gaussians fitted to two sets of features.

    ``||m_r - m_f||^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2))`` with the unbiased covariances ``S``.

    The trace term is computed as ``min_U ||R_r - U R_f||_F^2`` over orthogonal ``U``, with ``S = R^T R`` and ``R`` from
    a QR factorisation of the centred features: the same number (Bhatia, Jain and Lim, On the Bures-Wasserstein distance
    between positive definite matrices, 2019, theorem 1), but a sum of squares, so never negative, without the square
    root of a singular product, and without the cancellation that leaves noise where the two sets nearly agree.

    The estimate is biased upwards by roughly ``d^2 / n``: compare only distances at equal sample counts.

    Args:
      real_features: ``(n_real, d)``.
      fake_features: ``(n_fake, d)``; the counts may differ, and may be below ``d``.

    Returns:
      The distance, in squared units of the features, >= 0.

    Raises:
      ValueError: if a set has fewer than 2 rows, is not a matrix or holds a non-finite value, or the widths differ.

    Source: Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter, GANs Trained by a Two Time-Scale Update Rule Converge
    to a Local Nash Equilibrium, 2017, equation 6; the formula is Dowson and Landau, The Frechet distance between
    multivariate normal distributions, 1982, equation 4.
    """
    real_mean, real_root = _gaussian(real_features, "real_features")
    fake_mean, fake_root = _gaussian(fake_features, "fake_features")
    if real_mean.shape != fake_mean.shape:
        raise ValueError(
            f"real_features have {real_mean.size} columns and fake_features {fake_mean.size}: "
            "both must come from one feature network."
        )
    left, _, right = np.linalg.svd(real_root @ fake_root.T)
    difference = real_root - left @ right @ fake_root
    return float(np.sum((real_mean - fake_mean) ** 2) + np.sum(difference**2))


def _gaussian(features: ArrayLike, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``(d,)`` and a root ``R (d, d)`` of the unbiased covariance ``R^T R``."""
    values = np.asarray(features, np.float64)
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 1:
        raise ValueError(f"{name} must be (n, d) with n >= 2, got shape {values.shape}: pass one row per sample.")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values).all(axis=1)).sum())
        raise ValueError(f"{name} holds non-finite values in {bad} of {len(values)} rows: the samples are broken.")
    mean = values.mean(axis=0)
    root = np.linalg.qr(values - mean, mode="r") / np.sqrt(len(values) - 1)
    return mean, np.pad(root, ((0, values.shape[1] - root.shape[0]), (0, 0)))


def class_balance_kl(predicted_labels: ArrayLike, *, num_classes: int, reference: ArrayLike | None = None) -> float:
    """How unevenly samples fall on the classes: ``sum_c p_c ln(p_c / q_c)``, in nats.

    A generator that matches ``q`` still scores about ``(num_classes - 1) / (2 n)`` from sampling alone.

    Args:
      predicted_labels: ``(n,)`` integers in ``[0, num_classes)``; ``p`` is their empirical distribution.
      num_classes: number of classes.
      reference: ``q``, ``(num_classes,)`` probabilities; uniform by default.

    Returns:
      The divergence, >= 0; infinite where a class with ``q_c = 0`` is met.

    Raises:
      ValueError: on no labels, labels that are not integers or out of range, or a reference that is no distribution.
    """
    labels = np.asarray(predicted_labels)
    if labels.ndim != 1 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"predicted_labels must be (n,) integers with n >= 1, got {labels.dtype} {labels.shape}.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"predicted_labels run from {labels.min()} to {labels.max()}, outside [0, {num_classes}): fix num_classes."
        )
    q = np.full(num_classes, 1 / num_classes) if reference is None else np.asarray(reference, np.float64)
    if q.shape != (num_classes,) or (q < 0).any() or not np.isclose(q.sum(), 1):
        raise ValueError(f"reference must be {num_classes} probabilities of sum 1, got {q}: divide by the sum.")
    p = np.bincount(labels, minlength=num_classes) / labels.size
    met = p > 0
    with np.errstate(divide="ignore"):
        return max(0.0, float(np.sum(p[met] * np.log(p[met] / q[met]))))
