"""k-sparse probes: how well a class is told by the few units that stand for it best; on the host, beside the dense probe."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saegan_jax.evaluation.probe import fit_probe

KS = (1, 2, 5, 10, 20)


class SparseProbe(NamedTuple):
    """What `k_sparse_probe` returns.

    Attributes:
      k: numbers of units.
      accuracy: ``(len(k), classes)``, balanced accuracy on the test examples: mean of the shares of the class, and of all
        others, that are recognised; 0.5 is chance.
      units: ``(classes, max k)``, the units of each class, best first.
      classes: the labels.
    """

    k: tuple[int, ...]
    accuracy: NDArray[np.float64]
    units: NDArray[np.int64]
    classes: NDArray[np.int64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """``(len(k),)``, mean over classes."""
        return self.accuracy.mean(axis=1)


def k_sparse_probe(
    train_codes: ArrayLike,
    train_labels: ArrayLike,
    test_codes: ArrayLike,
    test_labels: ArrayLike,
    *,
    ks: Sequence[int] = KS,
    seed: int = 0,
) -> SparseProbe:
    """One logistic regression a class and k, on the k units whose means differ most between the class and all others.

    The difference is divided by the unit's standard deviation. As many other examples as the class has, drawn at random, are
    fitted; all test examples are scored. Units are chosen and fitted on the training examples alone.

    Args:
      train_codes, test_codes: ``(n, d)``, finite.
      train_labels, test_labels: ``(n,)`` integers; every class has two training examples or more and one test example.
      ks: numbers of units, each from 1 to d.
      seed: of the draw.

    Raises:
      ValueError: codes or labels as in :func:`fit_probe`, codes that are not finite, a k out of range, or a class without
        examples.

    Source: Gurnee et al., Finding neurons in a haystack: case studies with sparse probing, 2023 (mean difference).
    """
    h, y = np.asarray(train_codes, np.float64), np.asarray(train_labels)
    held, wanted = np.asarray(test_codes, np.float64), np.asarray(test_labels)
    if h.ndim != 2 or held.ndim != 2 or h.shape[1] != held.shape[1]:
        raise ValueError(f"codes (n, d) of one width are needed, got {h.shape} and {held.shape}.")
    if not (np.isfinite(h).all() and np.isfinite(held).all()):
        raise ValueError("codes hold values that are not finite.")
    if not ks or min(ks) < 1 or max(ks) > h.shape[1]:
        raise ValueError(f"ks = {tuple(ks)}: each must be from 1 to {h.shape[1]}, the number of units.")
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2 or counts.min() < 2 or not np.isin(classes, wanted).all():
        raise ValueError(
            "every class needs two training examples or more and one test example, of two classes or more."
        )
    spread, total = h.std(axis=0), h.sum(axis=0)
    spread[spread == 0] = np.inf
    rng = np.random.default_rng(seed)
    accuracy, units = np.empty((len(ks), len(classes))), np.empty((len(classes), max(ks)), np.int64)
    for c, name in enumerate(classes):
        mine, others = np.flatnonzero(y == name), np.flatnonzero(y != name)
        own = h[mine].sum(axis=0)
        difference = np.abs(own / len(mine) - (total - own) / len(others)) / spread
        units[c] = np.argsort(-difference, kind="stable")[: max(ks)]
        fitted = np.concatenate([mine, rng.choice(others, min(len(mine), len(others)), replace=False)])
        train, test, positive = h[np.ix_(fitted, units[c])], held[:, units[c]], wanted == name
        for i, k in enumerate(ks):
            probe = fit_probe(train[:, :k], (y[fitted] == name).astype(np.int64))
            inside = probe.accuracy(test[positive, :k], np.ones(positive.sum(), np.int64))
            outside = probe.accuracy(test[~positive, :k], np.zeros((~positive).sum(), np.int64))
            accuracy[i, c] = (inside + outside) / 2
    return SparseProbe(tuple(ks), accuracy, units, classes)
