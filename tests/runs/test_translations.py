"""Scores of translations: labels kept by hand, by the right classifier, and of a member that has failed."""

import numpy as np
from two_domains import ALGORITHM, DOMAINS, SHAPE, bright, dark, members

from saegan_jax.algorithms.cyclegan.config import DIRECTIONS, other
from saegan_jax.runs.translations import Labellers, held_out, label_kept, scores


def test_labels_kept_by_hand() -> None:
    images = np.ones((4, *SHAPE), np.float32) * np.array([0.1, 0.9, 0.8, 0.7], np.float32).reshape(-1, 1, 1, 1)
    label = np.array([0, 1, 1, 0])
    assert label_kept(images, label, bright) == 0.75
    images[2, 0, 0] = np.inf
    assert np.isnan(label_kept(images, label, bright))


def test_a_direction_is_source_and_target() -> None:
    assert [other(direction) for direction in DIRECTIONS] == ["ba", "ab"]
    for direction, domain in zip(DIRECTIONS, (DOMAINS.a, DOMAINS.b), strict=True):
        levels = np.unique(np.asarray(held_out(DOMAINS, direction).image) * 255).round()
        np.testing.assert_array_equal(levels, np.unique(domain.test.image))


def test_a_member_that_failed_has_no_labels_kept_and_the_other_has_its_own() -> None:
    label_of = Labellers({"a": bright, "b": dark}, "fakes")
    found = scores(DOMAINS, ALGORITHM, members(True, False, failed=True), n_seeds=2, name="arm", label_of=label_of)
    for arrow, untouched in (("A to B", 0.0), ("B to A", 0.0)):
        row = found.rows[f"label kept, {arrow}"]
        assert row["values"][0] == 1
        assert np.isnan(row["values"][1])
        assert row["floor"] == 1
        assert row["note"].endswith(f"of the sources themselves 1.000, left untranslated {untouched:.3f}")
    errors = found.rows["cycle error, A to B and back"]["values"]
    np.testing.assert_allclose(errors[0], 0, atol=1e-6)
    assert np.isnan(errors[1])
