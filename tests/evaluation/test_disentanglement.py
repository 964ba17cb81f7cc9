"""Forests find which code stands for which factor, and score codes that mix them lower."""

import numpy as np
import pytest

from saegan_jax.evaluation.disentanglement import score_disentanglement

RNG = np.random.default_rng(0)
FACTORS = RNG.integers(0, 3, (900, 3))
TURN = np.linalg.qr(RNG.normal(size=(3, 3)))[0]


def scores(codes):
    return score_disentanglement(codes[:600], FACTORS[:600], codes[600:], FACTORS[600:])


def test_codes_that_are_the_factors_in_another_order():
    codes = FACTORS[:, [2, 0, 1]] + RNG.normal(scale=0.05, size=FACTORS.shape)
    found = scores(codes)
    assert found.disentanglement > 0.9
    assert found.completeness > 0.9
    assert found.informativeness > 0.98
    assert found.importance.argmax(axis=1).tolist() == [2, 0, 1]
    assert found.chance == pytest.approx([1 / 3] * 3, abs=0.1)


def test_turned_codes_know_as_much_and_are_not_disentangled():
    found = scores(FACTORS @ TURN + RNG.normal(scale=0.05, size=FACTORS.shape))
    assert found.informativeness > 0.9
    assert found.disentanglement < 0.6
    assert found.mig < 0.4


def test_noise():
    found = scores(RNG.normal(size=FACTORS.shape))
    assert np.abs(found.accuracy - 1 / 3).max() < 0.12
    assert found.disentanglement < 0.1
