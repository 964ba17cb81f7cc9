"""The tests of an audit on synthetic evidence: planted differences are named, chance is not, questions have exact p-values."""

import numpy as np
import pytest
import scipy.stats

from saegan_jax.errors import ConfigError
from saegan_jax.evaluation.audit import AuditSettings, Evidence, compare
from saegan_jax.evaluation.audit.compare import kind_of, named_fakes, rates_of_families, tail_test

SETTINGS = AuditSettings()


def evidence(rng, n=400, d=30, shares=None, scale=None):
    """Codes that are active with a probability and a strength for each feature; errors and nearness of one distribution."""
    shares = np.full(d, 0.2) if shares is None else shares
    scale = np.ones(d) if scale is None else scale
    codes = (rng.random((n, d)) < shares) * rng.gamma(4.0, size=(n, d)) * scale
    return Evidence(codes.astype(np.float32), rng.gamma(5.0, size=n), rng.uniform(0.6, 1, n), rng.integers(0, 9, n))


def changed(base, **at):
    values = np.array(base)
    for name, value in at.items():
        values[int(name[1:])] = value
    return values


def test_planted_differences_are_found_first_and_named():
    rng = np.random.default_rng(0)
    shares = np.full(30, 0.2)
    real = evidence(rng)
    fake = evidence(rng, shares=changed(shares, f3=0.0, f5=0.08, f9=0.45), scale=changed(np.ones(30), f12=2.0, f20=0.4))
    found = compare(real, fake, SETTINGS)
    kinds = {one.feature: one.kind for one in found.found}
    assert kinds == {3: "missing", 5: "rarer", 9: "more frequent", 12: "stronger", 20: "weaker"}
    assert found.answered == ()
    by_feature = {one.feature: one for one in found.found}
    assert by_feature[3].fake_share == 0
    for j, difference in ((3, -0.2), (5, -0.12), (9, 0.25)):
        assert by_feature[j].low <= difference <= by_feature[j].high < 0 or 0 < by_feature[j].low <= difference
    assert by_feature[12].low > 0.5
    assert by_feature[20].high < 0.5
    p = [one.p for one in found.differences]
    assert p == sorted(p)
    assert found.level == pytest.approx(1 - 0.05 * 5 / (len(p) + 3))


def test_a_new_feature_and_one_too_rare_to_test():
    rng = np.random.default_rng(1)
    shares = changed(np.full(30, 0.2), f0=0.0, f1=0.005)
    real, fake = evidence(rng, shares=shares), evidence(rng, shares=changed(shares, f0=0.1))
    found = compare(real, fake, SETTINGS)
    assert [(one.feature, one.kind) for one in found.found] == [(0, "new")]
    tested = {(one.feature, one.measure) for one in found.differences}
    assert (1, "frequency") not in tested
    assert (0, "strength") not in tested  # no real has it
    assert (0, "frequency") in tested


def test_nothing_is_found_between_equal_distributions_at_most_at_the_rate():
    rng = np.random.default_rng(2)
    alarms, p_values = 0, {"frequency": [], "strength": [], "described": []}
    for _ in range(100):
        found = compare(evidence(rng, n=150, d=8), evidence(rng, n=150, d=8), SETTINGS)
        alarms += bool(found.found or found.answered)
        for one in found.differences:
            p_values[one.measure].append(one.p)
        p_values["described"].append(found.questions["described"].p)
    # 100 trials at 5 %: more than 11 has a probability of 0.4 %.
    assert alarms <= 11
    for measure, p in p_values.items():
        # Uniform; Fisher's test is discrete, and errs on the side of large ones.
        for level in (0.05, 0.5):
            slack = 4 * np.sqrt(level * (1 - level) / len(p))
            assert np.mean(np.array(p) <= level) <= level + slack, measure
    assert scipy.stats.kstest(p_values["strength"], "uniform").pvalue > 1e-3


def test_features_and_questions_are_two_families_each_at_half_the_rate():
    assert rates_of_families([1.0] * 300, [0.02])[-1] == pytest.approx(0.04)
    assert rates_of_families([1e-4] + [1.0] * 299, [1.0])[0] == pytest.approx(2 * 300 * 1e-4)
    np.testing.assert_allclose(rates_of_families([], [0.01, 0.5]), [0.02, 0.5])
    # However much one family finds, it says nothing of the other.
    np.testing.assert_array_equal(rates_of_families([1e-10] * 128, [1.0] * 3)[128:], 1)
    np.testing.assert_array_equal(rates_of_families([1.0] * 128, [1e-10] * 3)[:128], 1)


def test_the_tail_test_is_exact():
    rng = np.random.default_rng(3)
    p = [tail_test("undescribed", *rng.normal(size=(2, 50)), tail=0.1, fdr=0.05).p for _ in range(800)]
    for level in (0.01, 0.05, 0.3):
        assert np.mean(np.array(p) <= level) <= level + 4 * np.sqrt(level / 800)
    # Two of four fakes above the largest of three reals: of the 35 orders, 1 + 2 + ... begin with two fakes or more.
    one = tail_test("undescribed", np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.5, 4.0, 5.0]), tail=0.01, fdr=0.05)
    assert (one.effect, one.bound, one.expected) == (0.5, 3.0, 0.25)
    assert one.p == pytest.approx((4 * 3) / (7 * 6))
    none = tail_test("undescribed", np.ones(9), np.ones(9), tail=0.1, fdr=0.05)  # equal scores do not count
    assert none.p == 1


def test_copies_and_bad_descriptions_are_answered_and_named():
    rng = np.random.default_rng(4)
    real, fake = evidence(rng), evidence(rng)
    fake.nearness[:30] = 0.0
    fake.error[50:90] += 40  # a tenth: no shift of all errors
    found = compare(real, fake, SETTINGS)
    assert found.found == ()
    answers = {one.question: one for one in found.answered}
    assert set(answers) == {"copies", "undescribed"}
    assert set(range(30)) <= set(answers["copies"].named)
    assert len(answers["copies"].named) <= 36
    assert set(range(50, 90)) <= set(answers["undescribed"].named)
    assert answers["copies"].bound > 0
    assert answers["copies"].low < 30 / 400 < answers["copies"].high
    assert fake.error[answers["undescribed"].named[0]] == fake.error.max()
    assert found.questions["described"].effect > 0.5


def test_named_fakes_are_mostly_right_and_none_by_chance():
    rng = np.random.default_rng(5)
    false = []
    for _ in range(200):
        real, fake = rng.normal(size=300), rng.normal(size=200)
        fake[:40] += 6
        named = np.array(named_fakes(real, fake, fdr=0.1))
        false.append(np.mean(named >= 40))
    assert np.mean(false) <= 0.1
    assert named_fakes(np.zeros(100), np.zeros(100), fdr=0.1) == ()


def test_strengths_that_are_all_equal_are_no_difference():
    ones = Evidence(np.ones((150, 2), np.float32), np.ones(150), np.ones(150), np.zeros(150, int))
    found = compare(ones, ones, SETTINGS)
    assert found.found == found.answered == ()
    assert {one.p for one in found.differences} == {1.0}


@pytest.mark.parametrize(
    ("measure", "effect", "shares", "kind"),
    [
        ("frequency", -0.1, (0.11, 0.01), "missing"),
        ("frequency", -0.05, (0.11, 0.06), "rarer"),
        ("frequency", 0.1, (0.0, 0.1), "new"),
        ("frequency", 0.1, (0.1, 0.2), "more frequent"),
        ("strength", 0.4, (0.1, 0.1), "weaker"),
        ("strength", 0.6, (0.1, 0.1), "stronger"),
    ],
)
def test_kinds(measure, effect, shares, kind):
    assert kind_of(measure, effect, *shares) == kind


def test_settings_have_ranges_and_say_so():
    for bad in ({"fdr": 0.0}, {"fdr": 1.0}, {"tail": 0.5}, {"neighbours": 1}, {"fewest_active": 0}, {"compared": 99}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            AuditSettings(**bad)


def test_the_fewest_images_can_show_a_fifth():
    """Why at least 100 are asked for: of 100 each, 20 against 0 is found among 512 tests at half the rate; of 50, 10 is not."""
    for n, enough in ((100, True), (50, False)):
        p = scipy.stats.fisher_exact([[n // 5, n - n // 5], [0, n]]).pvalue
        rate = rates_of_families([p] + [1.0] * 511, [1.0] * 3)[0]
        assert (rate <= 0.05) == enough
