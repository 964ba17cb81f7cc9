"""Dictionaries: how alike their atoms are, and how well one recovers another."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike


class Coherence(NamedTuple):
    """What `coherence` returns; float32 scalars in [0, 1].

    Attributes:
      largest: largest absolute cosine between two distinct atoms.
      mean: mean over the atoms of each one's largest absolute cosine to another.
    """

    largest: jax.Array
    mean: jax.Array


def coherence(W_dec: jax.Array) -> Coherence:
    """How alike a dictionary's atoms are.

    ``largest = max_{i != j} |cos(w_i, w_j)|`` and ``mean = (1 / d_sae) sum_i max_{j != i} |cos(w_i, w_j)|``: 0 for
    orthogonal atoms, 1 where an atom has a copy up to scale and sign. Takes ``d_sae^2`` numbers of memory.

    Args:
      W_dec: ``(d_sae, d_in)``, one atom a row, ``d_sae >= 2``, real numbers of any scale. An atom of zeros has cosine 0 to
        every other.

    Returns:
      See `Coherence`; computed in float32, NaN if an entry is not finite.

    Raises:
      ValueError: if ``W_dec`` is not a matrix of at least two rows.

    Source: Donoho and Huo, Uncertainty Principles and Ideal Atomic Decomposition, 2001, for the mutual coherence.
    """
    if W_dec.ndim != 2 or W_dec.shape[0] < 2:
        raise ValueError(
            f"W_dec must be (d_sae, d_in) with d_sae >= 2, got shape {W_dec.shape}: pass one atom per row."
        )
    atoms = W_dec.astype(jnp.float32)
    # Divide by the largest entry first: the squares of very small or large weights would under- or overflow.
    largest = jnp.max(jnp.abs(atoms), axis=1, keepdims=True)
    atoms = atoms / jnp.where(largest == 0, 1.0, largest)
    norm = jnp.linalg.norm(atoms, axis=1, keepdims=True)
    atoms = atoms / jnp.where(norm == 0, 1.0, norm)
    cosine = jnp.minimum(jnp.abs(jnp.matmul(atoms, atoms.T, precision="highest")), 1.0)
    nearest = jnp.max(jnp.where(jnp.eye(len(atoms), dtype=bool), 0.0, cosine), axis=1)
    return Coherence(largest=jnp.max(nearest), mean=jnp.mean(nearest))


class DictionaryMatch(NamedTuple):
    """What `dictionary_match` returns, on the host.

    Attributes:
      mean_cosine: mean of ``matched_cosine`` over all atoms of ``W_a``.
      matched_cosine: ``(d_a,)`` float64, cosine of each atom of ``W_a`` and its partner (absolute unless ``signed``); 0
        for an atom left without one.
      assignment: ``(d_a,)`` int64, row of ``W_b`` that each atom of ``W_a`` is matched with; -1 for none.
    """

    mean_cosine: float
    matched_cosine: np.ndarray
    assignment: np.ndarray


def dictionary_match(W_a: ArrayLike, W_b: ArrayLike, *, signed: bool = False) -> DictionaryMatch:
    """How well dictionary ``W_b`` recovers the atoms of ``W_a`` (the truth, or the same training with another seed).

    ``(1 / d_a) max_pi sum_i |cos(a_i, b_pi(i))|`` over one-to-one assignments of ``min(d_a, d_b)`` pairs, found by the
    Hungarian method: unlike the mean over ``i`` of ``max_j |cos(a_i, b_j)|``, one atom of ``W_b`` cannot stand for several of
    ``W_a``. Chance is not 0: it is the value for two independent random dictionaries of these sizes.

    Args:
      W_a: ``(d_a, d_in)``, one atom a row, real numbers; an atom of zeros has cosine 0 to every other.
      W_b: ``(d_b, d_in)``; ``d_b`` may differ from ``d_a``. With ``d_b < d_a`` the atoms left over count 0.
      signed: match on the cosine itself, as non-negative codes call for, instead of its absolute value.

    Returns:
      See `DictionaryMatch`; computed in float64.

    Raises:
      ValueError: if an argument is not a non-empty matrix or holds a non-finite value, or the widths differ.

    Source: Sharkey, Braun and Millidge, Taking features out of superposition with sparse autoencoders, 2022, for the mean
    max cosine similarity; its one-to-one variant is the mean correlation coefficient of Hyvarinen and Morioka, Unsupervised
    Feature Extraction by Time-contrastive Learning and Nonlinear ICA, 2016, with cosines for correlations.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and most users of this module do not need it

    a, b = _unit_rows(W_a, "W_a"), _unit_rows(W_b, "W_b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"W_a has {a.shape[1]} columns and W_b {b.shape[1]}: both must hold atoms of one input space.")
    cosine = np.clip(a @ b.T, -1.0, 1.0)
    if not signed:
        cosine = np.abs(cosine)
    rows, columns = linear_sum_assignment(cosine, maximize=True)
    matched, assignment = np.zeros(len(a)), np.full(len(a), -1, np.int64)
    matched[rows], assignment[rows] = cosine[rows, columns], columns
    return DictionaryMatch(mean_cosine=float(matched.mean()), matched_cosine=matched, assignment=assignment)


def _unit_rows(W: ArrayLike, name: str) -> np.ndarray:
    """Rows scaled to norm 1 in float64, zeros left."""
    atoms = np.asarray(W, np.float64)
    if atoms.ndim != 2 or atoms.size == 0:
        raise ValueError(f"{name} must be a non-empty (units, d_in), got shape {atoms.shape}: pass one atom per row.")
    if not np.isfinite(atoms).all():
        bad = int((~np.isfinite(atoms).all(axis=1)).sum())
        raise ValueError(f"{name} holds non-finite values in {bad} of {len(atoms)} rows: the dictionary is broken.")
    largest = np.abs(atoms).max(axis=1, keepdims=True)
    atoms = atoms / np.where(largest == 0, 1.0, largest)
    norm = np.linalg.norm(atoms, axis=1, keepdims=True)
    return atoms / np.where(norm == 0, 1.0, norm)
