"""Linear probes: how much of a labelling can be read off the codes by a linear map; on the host."""

import warnings
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from saegan_jax.errors import require, require_choice, require_positive

SPARSE_BELOW = 0.2
"""Share of non-zero codes below which a sparse matrix makes scikit-learn's solvers faster."""


class ProbeResult(NamedTuple):
    """What `linear_probe` returns.

    Attributes:
      accuracy: share of the test examples whose label is predicted, in [0, 1].
      train_accuracy: the same on the examples fitted; far above ``accuracy`` it says that ``C`` is too large.
      converged: the solver reached its tolerance within ``max_iter`` iterations.
    """

    accuracy: float
    train_accuracy: float
    converged: bool


class Probe(NamedTuple):
    """A fitted linear classifier on codes.

    Attributes:
      model: scikit-learn's.
      rms: ``(d,)``, what codes are divided by; infinite for units that never fired.
      converged: the solver reached its tolerance within its iterations.
    """

    model: Any
    rms: np.ndarray
    converged: bool

    def accuracy(self, codes: ArrayLike, labels: ArrayLike, *, name: str = "test") -> float:
        """Share of the examples ``(n, d)`` whose label ``(n,)`` is predicted; a class not seen in fitting is missed.

        Raises:
          ValueError: codes that are no matrix of the fitted width or not finite, labels not integer or not one per row.
        """
        h, y = _labelled(codes, labels, name)
        width = len(self.rms)
        if h.shape[1] != width:
            raise ValueError(f"train_codes have {width} columns and {name}_codes {h.shape[1]}: use one encoder.")
        return float(self.model.score(_compact(h / self.rms), y))


Kind = Literal["logistic", "svm"]


def fit_probe(
    codes: ArrayLike,
    labels: ArrayLike,
    *,
    C: float = 1.0,
    max_iter: int = 1000,
    kind: Kind = "logistic",
    per_unit: bool = True,
) -> Probe:
    """Fit scikit-learn's linear classifier to codes.

    ``1/2 ||W||^2 + C sum_n loss(h_n W + b, y_n)``, where ``h`` are the codes divided by each unit's root mean square: never
    centred, so that zeros stay zeros; a unit that never fires is 0 throughout. ``logistic`` is ``LogisticRegression``
    (multinomial cross-entropy, L-BFGS), ``svm`` is ``LinearSVC`` (squared hinge, one class against the rest).

    Args:
      codes: ``(n, d)``, finite numbers.
      labels: ``(n,)`` integers of at least two classes, any values.
      C: weight of the data against the penalty, > 0.
      max_iter: most iterations of the solver, >= 1.
      kind: the loss, ``"logistic"`` or ``"svm"``.
      per_unit: divide each unit by its own root mean square; off, all by their common one, as principal components want,
        whose scales mean something.

    Raises:
      ValueError: on codes that are no matrix or not finite, labels that are no integers or not one per row, a single class,
        or a setting out of range.

    Source: Alain and Bengio, Understanding intermediate layers using linear classifier probes, 2016; Pedregosa et al.,
    Scikit-learn, 2011.
    """
    # Slow to import: only for those who ask for it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    require_choice("kind", kind, get_args(Kind))
    require_positive(C=C)
    require(max_iter >= 1, "max_iter", max_iter, "it must be at least 1.")
    h, y = _labelled(codes, labels, "train")
    if len(np.unique(y)) < 2:
        raise ValueError(f"train_labels are all {y[0]}: a probe needs examples of at least two classes.")
    rms = np.sqrt(np.mean(h**2, axis=0))
    if not per_unit:
        rms = np.full_like(rms, np.sqrt(np.mean(rms**2)))
    rms[rms == 0] = np.inf
    # The primal of LinearSVC is the faster one for more examples than units, which probes have.
    model = (
        LogisticRegression(C=C, max_iter=max_iter)
        if kind == "logistic"
        else LinearSVC(C=C, max_iter=max_iter, dual=False, random_state=0)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(_compact(h / rms), y)
    return Probe(model, rms, not any(issubclass(w.category, ConvergenceWarning) for w in caught))


def linear_probe(
    train_codes: ArrayLike,
    train_labels: ArrayLike,
    test_codes: ArrayLike,
    test_labels: ArrayLike,
    *,
    C: float = 1.0,
    max_iter: int = 1000,
    kind: Kind = "logistic",
) -> ProbeResult:
    """:func:`fit_probe` on the training set and its accuracy on both; the arguments and errors are its own."""
    probe = fit_probe(train_codes, train_labels, C=C, max_iter=max_iter, kind=kind)
    accuracy = probe.accuracy(test_codes, test_labels)
    return ProbeResult(accuracy, probe.accuracy(train_codes, train_labels, name="train"), probe.converged)


def _compact(codes: np.ndarray) -> Any:
    from scipy.sparse import csr_array

    return csr_array(codes) if np.count_nonzero(codes) < SPARSE_BELOW * codes.size else codes


def _labelled(codes: ArrayLike, labels: ArrayLike, name: str) -> tuple[np.ndarray, np.ndarray]:
    h, y = np.asarray(codes, np.float64), np.asarray(labels)
    if h.ndim != 2 or h.size == 0:
        raise ValueError(f"{name}_codes must be a non-empty (n, d), got shape {h.shape}: pass one row per example.")
    if y.shape != h.shape[:1] or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            f"{name}_labels must be ({len(h)},) integers, one per row of {name}_codes, got {y.dtype} {y.shape}."
        )
    if not np.isfinite(h).all():
        bad = int((~np.isfinite(h).all(axis=1)).sum())
        raise ValueError(f"{name}_codes hold non-finite values in {bad} of {len(h)} rows: the encoder is broken.")
    return h, y
