"""k-sparse probes find the units that stand for a class, and know nothing where nothing does."""

import numpy as np
import pytest

from saegan_jax.evaluation.sparse_probe import k_sparse_probe

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 600)
NOISE = np.abs(RNG.normal(size=(600, 8)))


def scores(codes, **options):
    return k_sparse_probe(codes[:400], LABELS[:400], codes[400:], LABELS[400:], **options)


def test_a_unit_for_each_class_is_found_and_enough():
    codes = NOISE.copy()
    codes[:, [6, 1, 4]] = 3 * (LABELS.reshape(-1, 1) == np.arange(3)) + 0.1 * NOISE[:, :3]
    found = scores(codes, ks=(1, 2))
    assert found.units[:, 0].tolist() == [6, 1, 4]
    assert found.mean[0] > 0.98
    assert found.classes.tolist() == [0, 1, 2]


def test_a_class_spread_over_two_units_needs_both():
    codes = NOISE.copy()
    half = RNG.random(600) < 0.5
    codes[:, 2] = 3 * ((LABELS == 0) & half) + 0.1 * NOISE[:, 0]
    codes[:, 5] = 3 * ((LABELS == 0) & ~half) + 0.1 * NOISE[:, 1]
    found = scores(codes, ks=(1, 2))
    assert found.accuracy[0, 0] < 0.85
    assert found.accuracy[1, 0] > 0.98
    assert set(found.units[0].tolist()) == {2, 5}


def test_noise_is_at_chance():
    assert scores(NOISE, ks=(1, 8)).accuracy == pytest.approx(np.full((2, 3), 0.5), abs=0.12)


def test_dead_units_are_not_chosen_before_others():
    codes = np.hstack([np.zeros((600, 4)), NOISE])
    assert scores(codes, ks=(8,)).units.min() == 4


@pytest.mark.parametrize(
    ("options", "message"), [({"ks": (0,)}, "from 1 to 8"), ({"ks": (9,)}, "from 1 to 8"), ({"ks": ()}, "from 1 to 8")]
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scores(NOISE, **options)


@pytest.mark.parametrize("row", [0, 599])
def test_codes_that_are_not_finite(row):
    codes = NOISE.copy()
    codes[row, 3] = np.inf  # in a column of infinite spread, which is never chosen
    with pytest.raises(ValueError, match="codes hold values that are not finite"):
        scores(codes, ks=(1,))


def test_a_class_without_test_examples():
    with pytest.raises(ValueError, match="every class needs"):
        k_sparse_probe(NOISE, LABELS, NOISE[LABELS > 0], LABELS[LABELS > 0], ks=(1,))
