"""The linear probe against scikit-learn on codes divided by hand, and cases with a known answer."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from saegan_jax.evaluation.probe import linear_probe


def data(n: int, n_classes: int, *, density: float, seed: int = 0):
    """Sparse non-negative codes of very different scales, linearly readable up to noise."""
    rng = np.random.default_rng(seed)
    codes = rng.exponential(size=(n, 30)) * (rng.random((n, 30)) < density)
    scores = codes @ np.random.default_rng(1).normal(size=(30, n_classes)) + 0.5 * rng.normal(size=(n, n_classes))
    return codes * np.logspace(-3, 3, 30), scores.argmax(1)


def split(n_classes: int, *, density: float):
    codes, labels = data(900, n_classes, density=density)
    return codes[:600], labels[:600], codes[600:], labels[600:]


@pytest.mark.parametrize("density", [0.1, 0.6])
@pytest.mark.parametrize(("kind", "n_classes"), [("logistic", 4), ("logistic", 2), ("svm", 4), ("svm", 2)])
def test_agrees_with_scikit_learn(kind: str, n_classes: int, density: float) -> None:
    codes, labels, test_codes, test_labels = split(n_classes, density=density)
    rms = np.sqrt(np.mean(codes**2, axis=0))
    C = 0.3
    if kind == "logistic":
        model = LogisticRegression(C=C, tol=1e-8, max_iter=5000)
    else:
        model = LinearSVC(C=C, dual=False, tol=1e-8, max_iter=5000)
    model.fit(codes / rms, labels)
    got = linear_probe(codes, labels, test_codes, test_labels, C=C, kind=kind)
    assert got.converged
    assert got.accuracy == pytest.approx(model.score(test_codes / rms, test_labels), abs=1.5 / 300)
    assert got.train_accuracy == pytest.approx(model.score(codes / rms, labels), abs=1.5 / 600)
    assert 1 / n_classes + 0.15 < got.accuracy < got.train_accuracy + 0.05


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_separable_codes_any_label_values_dead_units_and_any_scale(kind: str) -> None:
    labels = np.array([7, -3, 40, 7, -3, 40] * 5)
    codes = np.zeros((30, 5))
    codes[np.arange(30), np.searchsorted([-3, 7, 40], labels)] = 1.0
    got = linear_probe(codes, labels, codes, labels, kind=kind, C=100.0)
    assert got == (1.0, 1.0, True)
    # A unit that is silent in training says nothing in the test set; a scale is only a unit.
    unseen = codes.copy()
    unseen[:, 4] = 1e30
    scale = np.array([1e-100, 1e100, 1.0, 1.0, 1.0])
    assert linear_probe(codes * scale, labels, unseen * scale, labels, kind=kind, C=100.0) == got
    assert linear_probe(codes, labels, codes, np.full(30, 99), kind=kind).accuracy == 0


def test_uninformative_codes_give_the_majority_class() -> None:
    labels = np.array([0] * 14 + [1] * 6)
    got = linear_probe(np.zeros((20, 3)), labels, np.zeros((20, 3)), labels)
    assert got.accuracy == got.train_accuracy == 0.7


def test_running_out_of_iterations_is_told_not_warned_about() -> None:
    codes, labels, test_codes, test_labels = split(4, density=0.6)
    for kind in ("logistic", "svm"):
        assert not linear_probe(codes, labels, test_codes, test_labels, kind=kind, max_iter=2).converged


def test_more_regularisation_fits_less() -> None:
    codes, labels, test_codes, test_labels = split(4, density=0.6)
    loose, tight = (linear_probe(codes, labels, test_codes, test_labels, C=C).train_accuracy for C in (10.0, 1e-4))
    assert tight < loose - 0.05


def test_bad_input_is_named() -> None:
    codes, labels = data(20, 2, density=0.6)
    for name, bad_codes, bad_labels in (
        ("codes", codes[0], labels),
        ("codes", codes[:0], labels[:0]),
        ("codes", np.where(codes == codes.max(), np.nan, codes), labels),
        ("codes", np.where(codes == codes.max(), np.inf, codes), labels),
        ("labels", codes, labels[:-1]),
        ("labels", codes, labels.astype(float)),
        ("labels", codes, labels[:, None]),
    ):
        with pytest.raises(ValueError, match=f"train_{name}"):
            linear_probe(bad_codes, bad_labels, codes, labels)
        with pytest.raises(ValueError, match=f"test_{name}"):
            linear_probe(codes, labels, bad_codes, bad_labels)
    with pytest.raises(ValueError, match="at least two classes"):
        linear_probe(codes, np.zeros(20, int), codes, labels)
    with pytest.raises(ValueError, match="30 columns and test_codes 3"):
        linear_probe(codes, labels, codes[:, :3], labels)
    for setting in ({"C": 0.0}, {"max_iter": 0}, {"kind": "tree"}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            linear_probe(codes, labels, codes, labels, **setting)
