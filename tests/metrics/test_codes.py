"""L0 and co-activation by hand, their noise, and a classifier that tells what it should and no more."""

import jax
import numpy as np
import pytest

from saegan_jax.metrics import co_activation_error, l0_error, two_sample_accuracy

THRESHOLD = 0.1


def test_l0_by_hand():
    real = np.array([[0.5, 0.0, 0.0], [0.5, 0.5, 0.1]])  # 1 and 2 active: what is at the threshold is not
    assert l0_error(real, real, threshold=THRESHOLD) == (0, 0)
    fake = np.array([[0.2, 0.2, 0.2], [0.2, 0.0, 0.2], [0.0, 0.0, 0.0], [0.0, 0.0, 0.2]])  # 3, 2, 0, 1
    # Sorted by quarters: 1 1 2 2 against 0 1 2 3.
    assert l0_error(real, fake, threshold=THRESHOLD) == pytest.approx((0.0, 0.5))
    assert l0_error(real, fake[:1], threshold=THRESHOLD) == pytest.approx((1.5, 1.5))
    assert l0_error(fake[:1], real, threshold=THRESHOLD).mean == -1.5


def test_co_activation_by_hand():
    real = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]]) * 0.5
    fake = np.array([[1, 0, 1], [0, 0, 0]]) * 0.3
    # Pairs 01, 02, 12: real 1/2, 0, 0; fake 0, 1/2, 0; independent 1/4 each.
    got = co_activation_error(real, fake, threshold=THRESHOLD)
    assert got.rms == pytest.approx(np.sqrt((0.25 + 0.25) / 3))
    assert got.relative == pytest.approx(np.sqrt(2))
    assert got.independent == pytest.approx(0.25)
    assert co_activation_error(real, real[::-1], threshold=THRESHOLD)[:2] == (0, 0)
    assert co_activation_error(real[:, :2], fake[:, :2], threshold=THRESHOLD).rms == pytest.approx(0.5)
    # No pair of the real codes ever meets.
    alone = np.eye(3)
    assert co_activation_error(alone, alone, threshold=THRESHOLD).relative == 0
    assert co_activation_error(alone, fake, threshold=THRESHOLD).relative == np.inf


def test_co_activation_of_two_samples_of_one_law_is_the_noise_that_the_docstring_states():
    rng = np.random.default_rng(0)
    shared = rng.random((3000, 1)) < 0.5
    codes = np.where(shared, rng.random((3000, 40)) < 0.4, rng.random((3000, 40)) < 0.1).astype(float)
    real, fake = codes[:2000], codes[2000:]
    got = co_activation_error(real, fake, threshold=THRESHOLD)
    c = np.mean(shared) * 0.16 + (1 - np.mean(shared)) * 0.01
    assert got.rms == pytest.approx(np.sqrt(c * (1 - c) * (1 / 2000 + 1 / 1000)), rel=0.25)
    assert got.independent > 2 * got.rms


@pytest.fixture(scope="module")
def codes():
    """Three sets of one law, in which units are on together, and one of the same marginal laws with independent units."""
    rng = np.random.default_rng(0)

    def draw(together):
        shared = rng.random((600, 1 if together else 12)) < 0.5
        on = rng.random((600, 12)) < np.where(shared, 0.7, 0.1)
        return np.where(on, rng.uniform(0.2, 1.0, (600, 12)), 0).astype(np.float32)

    return draw(True), draw(True), draw(False)


def test_a_classifier_tells_codes_of_other_company_and_not_those_of_one_law(codes):
    real, same, independent = codes
    key = jax.random.key(0)
    alike = two_sample_accuracy(real, same, key)
    assert alike.examples == 1200
    assert alike.low < alike.accuracy < alike.high
    assert alike.high - alike.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 1200), rel=0.02)
    assert abs(alike.accuracy - 0.5) < 4 * np.sqrt(0.25 / 1200)
    # Every unit alone has one law in both: only units together tell.
    assert two_sample_accuracy(real, independent, key).low > 0.6


def test_the_classifier_test_is_fixed_by_its_key_and_cuts_to_equal_size(codes):
    real, _, independent = codes
    small = {"folds": 2, "epochs": 2, "hidden": (8,)}
    first = two_sample_accuracy(real[:101], independent, jax.random.key(0), **small)
    assert first.examples == 200
    # Which codes are kept of the larger set is the key's choice too, so nothing depends on their order but by chance.
    assert two_sample_accuracy(real[:101], independent, jax.random.key(0), **small) == first
    assert two_sample_accuracy(real[:101], independent, jax.random.key(1), **small) != first


def test_a_unit_that_only_samples_use_gives_them_away(codes):
    """And units that are never active do no harm."""
    real, same, _ = codes
    real, fake = (np.pad(c[:200], ((0, 0), (0, 2))) for c in (real, same))
    fake[:, -1] = np.linspace(0.5, 1, 200)
    got = two_sample_accuracy(real, fake, jax.random.key(0))
    assert got.accuracy == got.high == 1
    assert 0.98 < got.low < 1


@pytest.mark.parametrize(
    "metric",
    [
        lambda a, b: l0_error(a, b, threshold=THRESHOLD),
        lambda a, b: co_activation_error(a, b, threshold=THRESHOLD),
        lambda a, b: two_sample_accuracy(a, b, jax.random.key(0)),
    ],
)
def test_bad_codes_are_named(metric):
    good = np.ones((6, 3))
    with pytest.raises(ValueError, match=r"real_codes must be \(n, d_sae\)"):
        metric(np.ones(3), good)
    with pytest.raises(ValueError, match=r"fake_codes must be \(n, d_sae\)"):
        metric(good, np.ones((0, 3)))
    with pytest.raises(ValueError, match="fake_codes holds non-finite"):
        metric(good, np.full((6, 3), np.nan))
    with pytest.raises(ValueError, match="3 units and fake_codes 2"):
        metric(good, np.ones((6, 2)))


def test_other_bad_input():
    with pytest.raises(ValueError, match="one unit"):
        co_activation_error(np.ones((5, 1)), np.ones((5, 1)), threshold=THRESHOLD)
    for folds in (1, 7):
        with pytest.raises(ValueError, match=f"folds = {folds}.*from 2 to 6"):
            two_sample_accuracy(np.ones((6, 3)), np.ones((9, 3)), jax.random.key(0), folds=folds)
