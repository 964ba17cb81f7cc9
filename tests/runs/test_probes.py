"""Rows of the closing table that say what codes tell of labels."""

import math

import numpy as np
import pytest

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data.dataset import Dataset, Split
from saegan_jax.runs import probes
from saegan_jax.runs.probes import labelled_splits, mean_over_spread, noise, probe_scores


def dataset(train, test, **fields):
    splits = [Split(np.zeros((len(y), 2, 2, 1), np.uint8), np.array(y, np.int32)) for y in (train, [0], test)]
    return Dataset("x", *splits, num_classes=4, **fields)


def test_classes_that_cannot_be_probed_are_left_out():
    found = labelled_splits(dataset([0, 0, 1, 1, 2, 3, 3], [0, 1, 2, 0, 1]), most=10)
    assert found.n_classes == 2
    assert found.train.label.tolist() == [0, 0, 1, 1]  # one training image of class 2, no test image of class 3
    assert found.test.label.tolist() == [0, 1, 0, 1]
    assert labelled_splits(dataset([0, 0, 1, 1], [0, 1]), most=3) is None
    assert labelled_splits(dataset([0, 0, 1, 1], [0, 1], labelled=False), most=10) is None


def test_a_unit_of_a_class_is_enough_and_a_failed_member_is_left_out(monkeypatch):
    label = np.arange(60) % 3
    found = labelled_splits(dataset(label, label), most=60)
    codes = np.eye(3, 4)[label] + 0.01
    monkeypatch.setattr(probes, "encode_all", lambda config, params, images: codes if params else codes * math.nan)
    config = SAEConfig(variant="topk", d_sae=4, k=1)
    assert probe_scores(config, True, found, [1, 3]) == [1, 1, 1]
    assert np.isnan(probe_scores(config, False, found, [1, 3])).all()


def test_codes_of_positions_are_pooled_to_the_largest(monkeypatch):
    codes = np.arange(24.0).reshape(2, 12)
    monkeypatch.setattr(probes, "encode_all", lambda config, params, images: codes)
    pooled = probes.pooled_codes(SAEConfig(variant="topk", d_sae=4, k=1), None, np.zeros((2, 2, 2, 1), np.uint8))
    assert pooled.tolist() == [[8, 9, 10, 11], [20, 21, 22, 23]]


def test_the_mean_beside_what_varies_by_hand():
    assert mean_over_spread([[3.0, 4.0], [3.0, 8.0]]) == pytest.approx(math.hypot(3, 6) / 2)
    assert mean_over_spread([[3.0, 4.0], [3.0, 4.0]]) == math.inf


def test_noise_is_told_of_several_seeds():
    assert noise(np.array([0.5])) == ""
    assert "0.14 (standard deviation)" in noise(np.array([0.5, 0.7]))
