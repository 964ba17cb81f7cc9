"""Loss recovered, of a model whose loss is the distance from a target."""

import math

import numpy as np
import pytest

from saegan_jax.evaluation.loss_recovered import loss_recovered

X = np.random.default_rng(0).normal(1.0, 2.0, (30, 4)).astype(np.float32)


def loss(activations: np.ndarray) -> float:
    return float(((activations - X) ** 2).mean()) + 3.0


def test_perfect_absent_and_half():
    assert loss_recovered(loss, X, lambda x: x).recovered == 1
    assert loss_recovered(loss, X, lambda x: 0 * x).recovered == 0
    half = loss_recovered(loss, X, lambda x: x / 2)
    assert half.recovered == pytest.approx(0.75)  # the error is a quarter
    assert half.clean == 3
    assert half.ablated == pytest.approx(3 + float((X**2).mean()), rel=1e-6)
    assert loss_recovered(loss, X, lambda x: -x).recovered < 0


def test_the_mean_is_a_harder_ablation():
    mean = X.mean(axis=0)
    found = loss_recovered(loss, X, lambda x: x / 2, ablation=mean)
    assert found.ablated == pytest.approx(3 + float(((X - mean) ** 2).mean()), rel=1e-6)
    assert found.recovered < 0.75


def test_a_model_that_does_not_need_them():
    assert math.isnan(loss_recovered(lambda a: 1.0, X, lambda x: x).recovered)


@pytest.mark.parametrize(
    ("function", "reconstruct", "ablation", "message"),
    [
        (loss, lambda x: x[:, :3], None, r"got \(30, 4\) and \(30, 3\)"),
        (loss, lambda x: x, np.zeros(3), r"ablation must be \(4,\)"),
        (lambda a: math.nan, lambda x: x, None, "the clean loss is nan"),
    ],
)
def test_what_is_refused(function, reconstruct, ablation, message):
    with pytest.raises(ValueError, match=message):
        loss_recovered(function, X, reconstruct, ablation=ablation)
