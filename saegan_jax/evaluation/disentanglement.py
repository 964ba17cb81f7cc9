"""Disentanglement of codes where the factors of the data are known: importances fitted by random forests, on the host."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saegan_jax.metrics.disentanglement import dci, mutual_information_gap

TREES = 20
DEPTH = 12
LEAF = 5


class Disentanglement(NamedTuple):
    """What `score_disentanglement` returns; all in [0, 1], where 1 is best.

    Attributes:
      disentanglement, completeness: see :class:`saegan_jax.metrics.disentanglement.DCI`.
      informativeness: share of the test examples whose level is predicted, mean over factors.
      accuracy: ``(m,)``, the same of each factor.
      chance: ``(m,)``, share of the commonest level among the test examples.
      mig: the mutual information gap, on the test examples.
      importance: ``(d, m)``, what the first two are made of.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    accuracy: NDArray[np.float64]
    chance: NDArray[np.float64]
    mig: float
    importance: NDArray[np.float64]


def score_disentanglement(
    train_codes: ArrayLike,
    train_factors: ArrayLike,
    test_codes: ArrayLike,
    test_factors: ArrayLike,
    *,
    bins: int = 20,
    seed: int = 0,
) -> Disentanglement:
    """DCI and MIG of codes against known factors.

    Importance is that of a random forest (20 trees of at most 12 levels, every
    code tried at each split) that predicts a factor's level from the codes: the
    mean decrease of impurity. A forest needs no linear relation, and says nothing of the direction.

    Args:
      train_codes, test_codes: ``(n, d)``.
      train_factors, test_factors: ``(n, m)``, integers from 0.
      bins: of the codes in the mutual information.
      seed: of the forests.

    Raises:
      ValueError: what :func:`dci` and :func:`mutual_information_gap` refuse.

    Source: Eastwood and Williams, A framework for the quantitative evaluation of disentangled representations, 2018.
    """
    from sklearn.ensemble import RandomForestClassifier  # slow to import: only for those who ask for it

    codes, factors = np.asarray(train_codes, np.float32), np.asarray(train_factors)
    held, levels = np.asarray(test_codes, np.float32), np.asarray(test_factors)
    mig = mutual_information_gap(held, levels, bins=bins)
    columns, accuracy = [], []
    for j in range(factors.shape[1]):
        forest = RandomForestClassifier(
            TREES, max_depth=DEPTH, min_samples_leaf=LEAF, max_features=None, random_state=seed
        )
        forest.fit(codes, factors[:, j])
        columns.append(forest.feature_importances_)
        accuracy.append(float((forest.predict(held) == levels[:, j]).mean()))
    importance = np.stack(columns, axis=1)
    found = dci(importance)
    chance = np.array([np.bincount(column).max() / len(column) for column in levels.T])
    scores = np.array(accuracy)
    return Disentanglement(
        found.disentanglement, found.completeness, float(scores.mean()), scores, chance, mig, importance
    )
