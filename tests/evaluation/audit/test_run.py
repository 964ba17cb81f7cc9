"""The audit of images: what it finds in digits without a class, the split, nearness, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from saegan_jax.data import load
from saegan_jax.errors import ConfigError
from saegan_jax.evaluation.audit import AuditSettings, audit, default_sae
from saegan_jax.evaluation.audit import run as audit_run
from saegan_jax.evaluation.audit.evidence import (
    flatten_uint8,
    gather_evidence,
    nearness_to,
    reconstruct,
    refer_to,
    standardised_error,
)
from saegan_jax.evaluation.audit.images import checked_images
from saegan_jax.evaluation.audit.run import classes_of, split_reals

DIGITS = load("digits").train
SETTINGS = AuditSettings(compared=400)
CONFIG = replace(default_sae((8, 8, 1), 600), steps=300, learning_rate=1e-2, auxk=0.0)


@pytest.fixture(scope="module")
def found():
    """Fakes: 350 digits without a 0, of which 20 are copies of training images and 20 are noise."""
    real, fake = np.arange(0, len(DIGITS.label), 3), np.arange(1, len(DIGITS.label), 3)
    real = np.concatenate([real, np.arange(2, len(DIGITS.label), 3)])
    split = split_reals(len(real), 400, seed=0)
    images = DIGITS.image[fake][DIGITS.label[fake] != 0][:350].copy()
    images[:20] = DIGITS.image[real][split.train[:20]]
    images[20:40] = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1))
    return audit(DIGITS.image[real], images, settings=SETTINGS, sae=CONFIG, labels=DIGITS.label[real])


def test_a_dropped_class_is_the_first_finding_that_fakes_lack(found):
    lacking = [one for one in found.comparison.found if one.kind in ("missing", "rarer")]
    assert found.classes[lacking[0].feature].label == 0
    assert lacking[0].fake_share < 0.5 * lacking[0].real_share


def test_copies_and_noise_are_named(found):
    answers = {one.question: one for one in found.comparison.answered}
    assert set(range(20)) <= set(answers["copies"].named)
    assert set(range(20, 40)) <= set(answers["undescribed"].named)
    np.testing.assert_array_equal(found.fake.nearness[:20], 0)
    # Each copy's nearest training image is the one that was copied.
    training = found.real_images[found.split.train]
    np.testing.assert_array_equal(training[found.fake.nearest[:20]], found.fake_images[:20])


def test_the_split_is_a_partition_and_no_test_reads_the_labels(found):
    split = found.split
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(len(found.real_images)))
    assert len(split.compared) == 400 == found.comparison.n_real == len(found.real.error)
    assert split_reals(1000, None, seed=1).compared.size == 500
    assert split_reals(30_000, None, seed=1).compared.size == 10_000
    assert (split_reals(1000, None, seed=1).train != split_reals(1000, None, seed=2).train).any()
    unlabelled = audit(found.real_images, found.fake_images, settings=SETTINGS, sae=found.trained)
    assert unlabelled.comparison == found.comparison
    assert unlabelled.classes == {}


def test_errors_and_codes_are_those_of_the_reconstruction(found):
    weights = {name: np.asarray(value) for name, value in found.trained.params["params"].items()}
    some = found.fake_images[:5]
    decoded = found.fake.codes[:5] @ weights["W_dec"] + weights["b_dec"]
    reference = refer_to(found.trained, found.real_images[found.split.train])
    error = standardised_error((flatten_uint8(some) - decoded) ** 2, reference.usual)
    np.testing.assert_allclose(found.fake.error[:5], error, rtol=1e-4)
    again = gather_evidence(reference, reference.training, neighbours=3)
    np.testing.assert_array_equal(again.codes, reference.codes)
    assert 0.7 < again.error.mean() < 1  # of training images; the floor makes it smaller than 1
    shown = reconstruct(found.trained, some)
    np.testing.assert_allclose(shown.reshape(5, -1), decoded.clip(0, 1), atol=1e-5)
    assert ((found.fake.codes > 0).sum(axis=1) <= CONFIG.k).all()


def test_floats_and_bytes_give_the_same(found):
    floats = checked_images((found.fake_images / 255).astype(np.float32), "fake")
    np.testing.assert_array_equal(floats, found.fake_images)
    np.testing.assert_array_equal(checked_images(found.fake_images[..., 0], "fake"), found.fake_images)


def test_standardised_errors_by_hand():
    # A spot where nothing usually goes wrong weighs more: 1 / (0 + 0.1) against 1 / (2 + 0.1), mean of the usual 1.
    found = standardised_error(np.array([[1.0, 0], [0, 1], [0, 0]], np.float32), np.array([0.0, 2]))
    np.testing.assert_allclose(found, [1 / 0.1 / 2, 1 / 2.1 / 2, 0])
    assert np.isfinite(standardised_error(np.ones((1, 2), np.float32), np.zeros(2))).all()


def test_nearness_by_hand():
    training = np.array([0, 10, 30], np.uint8).reshape(3, 1, 1, 1)
    images = np.array([10, 12, 0], np.uint8).reshape(3, 1, 1, 1)
    nearness, nearest = nearness_to(images, training, neighbours=2)
    np.testing.assert_allclose(nearness, [0, 2 / 7, 0], atol=1e-6)  # distances 2 and 12, mean 7
    np.testing.assert_array_equal(nearest, [1, 1, 0])
    same = nearness_to(images, np.full((3, 1, 1, 1), 10, np.uint8), neighbours=5)[0]  # fewer than 5, all copies of one
    np.testing.assert_allclose(same, [0, 1, 1])


def test_the_class_of_a_feature_by_hand():
    codes = np.array([[1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1]], np.float32)
    found = classes_of(codes, [5, 5, 5, -7])
    assert found[0] == (5, 1.0)
    assert found[1] == (-7, 1.0)
    assert 2 not in found  # never active
    assert found[3] == (
        5,
        pytest.approx(2 / 3),
    )  # the most frequent class, though more of the other's images activate it


def test_a_convolutional_autoencoder_gives_one_code_an_image():
    config = replace(CONFIG, patch_size=4, stride=4, d_sae=16, k=2, steps=5)
    real, fake = DIGITS.image[:300], DIGITS.image[300:450]
    found = audit(real, fake, sae=config, settings=AuditSettings(compared=120))
    assert found.fake.codes.shape == (150, 16)
    assert found.fake.codes.max() > 0


REAL, FAKE = DIGITS.image[:300], DIGITS.image[300:450]
NAN = np.where(np.arange(150)[:, None, None, None] == 3, np.nan, 0.5) * np.ones((150, 8, 8, 1))


@pytest.mark.parametrize(
    ("real", "fake", "options", "message"),
    [
        (REAL, FAKE[:0], {}, r"fake = 'images of shape \(0, 8, 8, 1\).*there are no images"),
        (REAL, FAKE[:99], {}, r"fake = '99 images' .* give at least 100: with fewer"),
        (REAL[:199], FAKE, {}, r"real = '199 images' .* give at least 200, half to train on"),
        (REAL, FAKE[:, :7], {}, r"its images have 8x7 pixels and 1 channel, the real ones 8x8 pixels and 1 channel"),
        (REAL, FAKE.repeat(3, -1), {}, r"8x8 pixels and 3 channels, the real ones 8x8 pixels and 1 channel; resize"),
        (REAL, NAN, {}, r"fake = .*1 images hold NaN or infinity"),
        (REAL, FAKE.astype(np.float32), {}, r"values run from 0 to 255; floats must lie in \[0, 1\]"),
        (REAL, FAKE.astype(np.int64), {}, r"must be uint8 from 0 to 255, or floats"),
        (REAL.reshape(300, -1), FAKE, {}, r"real = .* must be \(n, height, width, channels\)"),
        (REAL, FAKE.repeat(2, -1), {}, r"with 1 or 3 channels"),
        (REAL, FAKE, {"labels": np.zeros(299, int)}, r"labels = 'int64 \(299,\)' .* 300 whole numbers"),
        (REAL, FAKE, {"settings": AuditSettings(compared=201)}, r"compared = 201 .* hold out at most 200"),
    ],
)
def test_what_cannot_be_audited_is_refused_before_training(real, fake, options, message, monkeypatch):
    monkeypatch.setattr(audit_run, "train_sae", lambda *_, **__: pytest.fail("training began"))
    with pytest.raises(ConfigError, match=message):
        audit(real, fake, **options)


def test_an_autoencoder_of_other_images_is_refused(found):
    with pytest.raises(ConfigError, match=r"it reads images of 8x8 pixels and 1 channel, and the real ones have 9x8"):
        audit(np.zeros((300, 8, 9, 1), np.uint8), np.zeros((150, 8, 9, 1), np.uint8), sae=found.trained)
