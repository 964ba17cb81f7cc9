"""The tests of an audit: every feature and every whole-set question, with one false discovery rate."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from saegan_jax.evaluation.audit.evidence import Evidence
from saegan_jax.evaluation.audit.settings import AuditSettings
from saegan_jax.metrics.concepts import (
    conformal_p_values,
    difference_interval,
    superiority,
    superiority_interval,
    wilson_interval,
)

TENTH = 0.1
"""A feature whose share in one set is at most this part of that in the other is missing, or new."""
QUESTIONS = ("undescribed", "described", "copies")


class Difference(NamedTuple):
    """One test of one feature.

    Attributes:
      feature: its number.
      measure: ``frequency``, or ``strength`` among the images in which it is active.
      kind: missing, rarer, more frequent, new, weaker or stronger.
      real_share, fake_share: shares of the images in which it is active.
      effect, low, high: of the frequency, share of fakes minus share of reals; of the strength, the probability that a fake is
        stronger than a real one (0.5: equal). The intervals are those of :func:`compare`.
      p, q: p-value, and the false discovery rate at which it would just be reported.
    """

    feature: int
    measure: str
    kind: str
    real_share: float
    fake_share: float
    effect: float
    low: float
    high: float
    p: float
    q: float


class SetTest(NamedTuple):
    """One question to the whole set of fakes.

    Attributes:
      question: ``undescribed``: more fakes than chance have a larger error than all but a ``tail`` of the reals. ``described``:
        errors of fakes are larger or smaller than those of reals. ``copies``: more fakes than chance are nearer to a training
        image than all but a ``tail`` of the reals.
      effect, low, high: the share of such fakes; of ``described`` the probability that a fake has the larger error.
      expected: the effect if nothing differs.
      bound: of the error or nearness; NaN for ``described``.
      p, q: as in :class:`Difference`.
      named: fakes that are singled out, the most unusual first; see :func:`named_fakes`.
    """

    question: str
    effect: float
    low: float
    high: float
    expected: float
    bound: float
    p: float
    q: float
    named: tuple[int, ...]


class Comparison(NamedTuple):
    """What :func:`compare` returns.

    Attributes:
      differences: of all features that were tested, the smallest p-value first.
      questions: by name, in the order of :data:`QUESTIONS`.
      fdr: at which differences count as found.
      level: of every interval.
      n_real, n_fake: images compared.
    """

    differences: tuple[Difference, ...]
    questions: dict[str, SetTest]
    fdr: float
    level: float
    n_real: int
    n_fake: int

    @property
    def found(self) -> tuple[Difference, ...]:
        """Differences of features within the false discovery rate, the smallest p-value first."""
        return tuple(one for one in self.differences if one.q <= self.fdr)

    @property
    def answered(self) -> tuple[SetTest, ...]:
        """Questions whose answer is yes within the false discovery rate."""
        return tuple(one for one in self.questions.values() if one.q <= self.fdr)


class _Test(NamedTuple):
    """A test before its interval and its false discovery rate."""

    feature: int
    measure: str
    effect: float
    p: float


def compare(real: Evidence, fake: Evidence, settings: AuditSettings) -> Comparison:
    """Test every feature's frequency and strength, and the three questions of :data:`QUESTIONS`.

    - *Frequency*: Fisher's exact test of the numbers of real and fake images in which a feature is active.
    - *Strength*: the Mann-Whitney test of its values where it is active. So the two tests look at different things.
    - A feature active in fewer than ``fewest_active`` images of both sets together has no frequency test, and one active in
      fewer than that in either set no strength test. This filter does not know which image is fake (in the first case), so
      it leaves the p-values valid and makes the family smaller (Bourgon, Gentleman and Huber, 2010).
    - *Error and copies*: :func:`tail_test`; *described*: Mann-Whitney.
    - Features and questions are two families, by :func:`rates_of_families`: the three questions would drown among hundreds of
      features. If nothing differs, anything is reported with probability of at most ``fdr``, given independent or positively
      dependent tests, which features need not be: the rate is measured on real images (docs/audit.md).
    - *Intervals* have the level ``1 - fdr R / m``, with ``R`` the findings among the ``m`` tests of both families: so of the
      intervals of what is found at most a share ``fdr`` misses, on average (Benjamini and Yekutieli, 2005).

    Args:
      real: of the held-out reals.
      fake: of the fakes, by the same autoencoder and training images.
      settings: see :class:`AuditSettings`.

    Returns:
      A :class:`Comparison`.

    Source: Benjamini and Hochberg, 1995, by ``scipy.stats.false_discovery_control``; the tests are SciPy's.
    """
    tests = _frequency_tests(real.codes, fake.codes, settings) + _strength_tests(real.codes, fake.codes, settings)
    questions = _question_tests(real, fake, settings)
    rates = rates_of_families([test.p for test in tests], [one.p for one in questions])
    m = len(rates)
    level = 1 - settings.fdr * max(1, int((rates <= settings.fdr).sum())) / m
    z = float(scipy.stats.norm.ppf((1 + level) / 2))
    differences = _differences(tests, rates[: len(tests)], real.codes, fake.codes, z=z)
    answers = {
        one.question: _with_interval(one, float(rate), len(real.error), len(fake.error), z=z)
        for one, rate in zip(questions, rates[len(tests) :], strict=True)
    }
    return Comparison(differences, answers, settings.fdr, level, len(real.error), len(fake.error))


def rates_of_families(features: Sequence[float], questions: Sequence[float]) -> np.ndarray:
    """False discovery rates at which each p-value would just be reported; of two families each has half the rate.

    ``FDP <= V_1 / R_1 + V_2 / R_2``, with ``V`` false ones among ``R`` findings: the expectation of each part is at most half
    the rate, so that of the sum is at most the rate. What one family finds does not make the other find more.

    Args:
      features: p-values, may be empty; then the questions have the whole rate.
      questions: p-values, at least one.

    Returns:
      ``(len(features) + len(questions),)``, in that order.
    """
    families = [np.asarray(p, np.float64) for p in (features, questions) if len(p)]
    rates = np.concatenate([scipy.stats.false_discovery_control(p) for p in families])
    return np.minimum(1.0, len(families) * rates)


def _frequency_tests(real: np.ndarray, fake: np.ndarray, settings: AuditSettings) -> list[_Test]:
    a, b = (real > 0).sum(axis=0), (fake > 0).sum(axis=0)
    chosen = np.flatnonzero(a + b >= settings.fewest_active)
    tests = []
    for j in chosen:
        table = [[a[j], len(real) - a[j]], [b[j], len(fake) - b[j]]]
        effect, p = float(b[j] / len(fake) - a[j] / len(real)), float(scipy.stats.fisher_exact(table).pvalue)
        tests.append(_Test(int(j), "frequency", effect, p))
    return tests


def _strength_tests(real: np.ndarray, fake: np.ndarray, settings: AuditSettings) -> list[_Test]:
    a, b = (real > 0).sum(axis=0), (fake > 0).sum(axis=0)
    tests = []
    for j in np.flatnonzero(np.minimum(a, b) >= settings.fewest_active):
        r, f = (codes[codes[:, j] > 0, j].astype(np.float64) for codes in (real, fake))
        tests.append(_Test(int(j), "strength", superiority(r, f), _rank_p_value(r, f)))
    return tests


def _rank_p_value(real: np.ndarray, fake: np.ndarray) -> float:
    return float(scipy.stats.mannwhitneyu(fake, real, method="asymptotic").pvalue)


def _question_tests(real: Evidence, fake: Evidence, settings: AuditSettings) -> list[SetTest]:
    effect, p = superiority(real.error, fake.error), _rank_p_value(real.error, fake.error)
    described = SetTest("described", effect, effect, effect, 0.5, np.nan, p, p, ())
    undescribed = tail_test("undescribed", real.error, fake.error, tail=settings.tail, fdr=settings.fdr)
    copies = tail_test("copies", -real.nearness, -fake.nearness, tail=settings.tail, fdr=settings.fdr)
    return [undescribed, described, copies._replace(bound=-copies.bound)]


def tail_test(question: str, real: np.ndarray, fake: np.ndarray, *, tail: float, fdr: float) -> SetTest:
    """Whether more fakes than chance lie beyond the r-th largest real; r is ``tail m``, rounded, at least 1.

    If fakes and reals are exchangeable and no scores are equal, the number of such fakes is negative hypergeometric: fakes
    met before the r-th real in a random order of both. Fakes equal to the bound do not count, which errs on the safe side.

    Args:
      question: its name.
      real: ``(m,)`` scores of reals, larger is more unusual.
      fake: ``(n,)`` scores of fakes.
      tail: share of the reals.
      fdr: of :func:`named_fakes`.

    Returns:
      A :class:`SetTest` whose interval and rate are not yet those of the family.

    Source: Balakrishnan and Ng, Precedence-Type Tests and Applications, 2006; the distribution is SciPy's.
    """
    m, n = len(real), len(fake)
    r = max(1, round(tail * m))
    bound = float(np.sort(real)[m - r])
    count = int((fake > bound).sum())
    p = float(scipy.stats.nhypergeom.sf(count - 1, m + n, n, r)) if count else 1.0
    named = named_fakes(real, fake, fdr=fdr)
    return SetTest(question, count / n, count / n, count / n, r / (m + 1), bound, p, p, named)


def named_fakes(real: np.ndarray, fake: np.ndarray, *, fdr: float) -> tuple[int, ...]:
    """Fakes whose score none or few of the reals reach, of which a share ``fdr`` may be chance; the largest score first.

    Benjamini and Hochberg's procedure on :func:`saegan_jax.metrics.concepts.conformal_p_values`. It needs at least about
    ``n / (fdr (m + 1))`` such fakes: a handful among many is found by :func:`tail_test` alone, if at all.
    """
    p = scipy.stats.false_discovery_control(conformal_p_values(real, fake))
    chosen = np.flatnonzero(p <= fdr)
    return tuple(int(i) for i in chosen[np.argsort(-fake[chosen], kind="stable")])


def _with_interval(one: SetTest, rate: float, n_real: int, n_fake: int, *, z: float) -> SetTest:
    if one.question == "described":
        low, high = superiority_interval(one.effect, n_real, n_fake, z=z)
    else:
        low, high = wilson_interval(round(one.effect * n_fake), n_fake, z=z)
    return one._replace(q=rate, low=float(low), high=float(high))


def _differences(
    tests: Sequence[_Test], rates: np.ndarray, real: np.ndarray, fake: np.ndarray, *, z: float
) -> tuple[Difference, ...]:
    a, b = (real > 0).sum(axis=0), (fake > 0).sum(axis=0)
    shares = a / len(real), b / len(fake)
    frequency = difference_interval(a, b, n_real=len(real), n_fake=len(fake), z=z)
    found = []
    for test, rate in zip(tests, rates, strict=True):
        j = test.feature
        if test.measure == "frequency":
            low, high = (float(end[j]) for end in frequency)
        else:
            low, high = (float(end) for end in superiority_interval(test.effect, a[j], b[j], z=z))
        kind = kind_of(test.measure, test.effect, float(shares[0][j]), float(shares[1][j]))
        found.append(
            Difference(
                j,
                test.measure,
                kind,
                float(shares[0][j]),
                float(shares[1][j]),
                test.effect,
                low,
                high,
                test.p,
                float(rate),
            )
        )
    return tuple(sorted(found, key=lambda one: (one.p, one.feature, one.measure)))


def kind_of(measure: str, effect: float, real_share: float, fake_share: float) -> str:
    """What a difference is called: missing and new are shares of at most a tenth of the other set's."""
    if measure == "strength":
        return "weaker" if effect < 0.5 else "stronger"
    if fake_share < real_share:
        return "missing" if fake_share <= TENTH * real_share else "rarer"
    return "new" if real_share <= TENTH * fake_share else "more frequent"
