"""Paired comparisons: intervals that cover, families that hold together, verdicts that follow from them."""

import math

import numpy as np
import pytest
import scipy.stats

from saegan_jax.stats import NEGLIGIBLE, effects, interaction, over_seeds, paired_interval, paired_p_value


def test_the_interval_is_at_least_students_and_symmetric_under_reflection():
    d = np.array([0.1, 0.3, -0.05, 0.2, 0.15, 0.02])
    for alpha in (0.05, 0.01, 0.001):
        low, high = paired_interval(d, alpha=alpha)
        student = scipy.stats.t.interval(1 - alpha, 5, d.mean(), scipy.stats.sem(d))
        assert low <= student[0] + 1e-12
        assert high >= student[1] - 1e-12
        assert high - low < 1.5 * (student[1] - student[0])
        mirrored = paired_interval(-d, alpha=alpha)
        np.testing.assert_allclose(mirrored, (-high, -low), rtol=0.05, atol=0.01)
    assert paired_interval([0.4], alpha=0.05) == (-math.inf, math.inf)


@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_intervals_of_six_seeds_cover_as_often_as_they_say(alpha):
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(300):
        low, high = paired_interval(rng.normal(0.2, 1.0, 6), alpha=alpha)
        missed += not low <= 0.2 <= high
    # One in twenty, or one in two hundred, with the chance of 300 repetitions; a plain percentile bootstrap misses 12 %.
    assert missed <= 300 * alpha + 3 * math.sqrt(300 * alpha) + 1


def test_a_family_without_effects_rarely_finds_one():
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(60):
        base = np.exp(rng.normal(0, 0.1, 8))
        arms = {i: np.exp(rng.normal(0, 0.1, 8)) for i in range(12)}
        found = effects(dict.fromkeys(arms, base), arms, lower_is_better=True)
        wrong += any(effect.verdict in ("better", "worse") for effect in found.values())
    assert wrong <= 9  # 3 to be expected


BASE = [2.0, 2.2, 1.9, 2.1, 2.05, 1.95, 2.1, 2.0]
WOBBLE = np.array([0.01, -0.02, 0.015, 0.0, -0.01, 0.02, -0.015, 0.005])


def arm(factor, wobble=1.0):
    return list(np.array(BASE) * factor * np.exp(wobble * WOBBLE))


def test_verdicts_and_changes():
    arms = {"half": arm(0.5), "more": arm(1.3), "same": arm(1.0), "noisy": arm(1.0, 20.0)}
    for lower in (True, False):
        found = effects(dict.fromkeys(arms, BASE), arms, lower_is_better=lower)
        assert list(found) == list(arms)
        good, bad = ("better", "worse") if lower else ("worse", "better")
        assert {name: e.verdict for name, e in found.items()} == {
            "half": good, "more": bad, "same": "absent", "noisy": "undecided",
        }  # fmt: skip
        for name, factor in (("half", 0.5), ("more", 1.3), ("same", 1.0)):
            e = found[name]
            np.testing.assert_allclose(e.change, factor * math.exp(WOBBLE.mean()) - 1, rtol=1e-9)
            assert e.low < e.change < e.high
        assert -NEGLIGIBLE < found["same"].low < 0 < found["same"].high < NEGLIGIBLE
        assert found["noisy"].high - found["noisy"].low > 0.2


def test_holm_widens_with_the_family_and_stops_at_the_first_that_includes_zero():
    near = [b * math.exp(d) for b, d in zip(BASE, [0.1, 0.02, 0.13, -0.01, 0.09, 0.04, 0.12, 0.05], strict=True)]
    alone = effects({"near": BASE}, {"near": near}, lower_is_better=False)["near"]
    assert alone.verdict == "better"
    crowd = {"near": near} | {f"other{i}": arm(1.0, 20.0 + i) for i in range(30)}
    together = effects(dict.fromkeys(crowd, BASE), crowd, lower_is_better=False)["near"]
    assert together.verdict == "undecided"
    assert together.low < alone.low < alone.high < together.high
    assert together.change == pytest.approx(alone.change)


def test_a_failed_seed_counts_as_the_worst_of_all():
    values = arm(0.5)
    worst = arm(3.0)
    for lower, expected in ((True, max(worst)), (False, min(values))):
        found, filled = (
            effects({"a": BASE, "b": BASE}, {"a": [first, *values[1:]], "b": worst}, lower_is_better=lower)
            for first in (math.nan, expected)
        )
        assert found["a"] == filled["a"]


def test_seeds_must_pair_up():
    with pytest.raises(ValueError, match=r"a: 3 seeds, but its baseline has 8"):
        effects({"a": BASE}, {"a": BASE[:3]}, lower_is_better=True)


def test_the_interaction_is_what_the_product_does_not_explain():
    neither, first, second = BASE, arm(0.8), arm(1.5, 2.0)
    product = [a * b / c for a, b, c in zip(first, second, neither, strict=True)]
    none = interaction(neither, first, second, product)
    assert abs(none.change) < 1e-12
    assert none.verdict == "absent"
    helps = interaction(neither, first, second, [0.5 * p * math.exp(w) for p, w in zip(product, WOBBLE, strict=True)])
    assert helps.change == pytest.approx(-0.5, abs=0.01)
    assert helps.verdict == "better"


def test_over_seeds_is_the_percentile_bootstrap_of_the_mean():
    values = np.random.default_rng(3).normal(2.0, 1.0, 12)
    found = over_seeds(values.tolist())
    assert found.mean == pytest.approx(values.mean())
    # An independent resampling agrees within its own noise.
    means = np.random.default_rng(9).choice(values, (50_000, 12)).mean(axis=1)
    np.testing.assert_allclose((found.low, found.high), np.quantile(means, [0.025, 0.975]), atol=0.03)
    assert over_seeds(values.tolist()) == found
    assert over_seeds([3.0, 3.0, 3.0]) == (3.0, 3.0, 3.0)


def test_over_seeds_has_no_interval_for_one_seed_or_a_failed_one():
    assert over_seeds([1.5]) == (1.5, None, None)
    for bad in (math.nan, math.inf):
        mean, low, high = over_seeds([1.0, bad, 2.0])
        assert not math.isfinite(mean)
        assert low is high is None
    assert math.isnan(over_seeds([math.inf, -math.inf]).mean)
    with pytest.raises(ValueError, match="values are empty"):
        over_seeds([])


def test_equal_differences_have_a_point_for_an_interval_and_a_certain_p_value():
    assert paired_interval([0.5, 0.5, 0.5], alpha=0.05) == (0.5, 0.5)
    assert paired_p_value([0.5, 0.5]) == 0.0
    assert paired_p_value([0.0, 0.0]) == paired_p_value([0.3]) == 1.0
    d = [0.1, 0.3, -0.05]
    assert paired_p_value(d) == pytest.approx(scipy.stats.ttest_1samp(d, 0.0).pvalue)
