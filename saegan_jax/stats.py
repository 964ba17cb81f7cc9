"""Intervals over seeds, and comparisons paired by seed: bootstrap, Student and Holm, as pure functions of numbers.

SciPy does the resampling, the t test and the distributions. The expanded percentile interval and Holm's step-down intervals
are written out here, since SciPy has neither.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.stats

Verdict = Literal["better", "worse", "absent", "undecided"]
NEGLIGIBLE = 0.05  # a relative change within this is no effect
SEED_RESAMPLES = 10_000  # of an interval over seeds
PAIR_RESAMPLES = 20_000  # of an interval of paired differences, which may be at a far smaller level


class Summary(NamedTuple):
    """A mean over seeds with its interval; the ends are None where there is no interval."""

    mean: float
    low: float | None
    high: float | None


class Effect(NamedTuple):
    """A relative change against a baseline: 0.1 is ten percent more.

    Attributes:
      change: ratio of geometric means minus 1.
      low, high: interval that holds for all comparisons of the family together.
      verdict: see :func:`effects`.
    """

    change: float
    low: float
    high: float
    verdict: Verdict


def over_seeds(values: Sequence[float]) -> Summary:
    """Mean over seeds and its 95 % percentile bootstrap interval, 10,000 resamples of a fixed generator.

    Args:
      values: ``(n,)``, one for each seed, at least one.

    Returns:
      A :class:`Summary`; without an interval for a single seed, or where a value is not finite, which the mean then is not
      either.

    Raises:
      ValueError: no values.

    Source: Efron, Bootstrap methods: another look at the jackknife, 1979.
    """
    sample = np.asarray(values, np.float64)
    if not len(sample):
        raise ValueError("values are empty: there is nothing to summarise.")
    with np.errstate(invalid="ignore"):  # of infinities of both signs
        mean = float(np.mean(sample))
    if len(sample) < 2 or not np.isfinite(sample).all():
        return Summary(mean, None, None)
    low, high = _percentiles(sample, level=0.95, resamples=SEED_RESAMPLES)
    return Summary(mean, low, high)


def _percentiles(sample: np.ndarray, *, level: float, resamples: int) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of ``(n,)``, from a generator of seed 0."""
    result = scipy.stats.bootstrap(
        (sample,), np.mean, n_resamples=resamples, confidence_level=level, method="percentile", rng=0
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def paired_interval(differences: Sequence[float] | np.ndarray, *, alpha: float) -> tuple[float, float]:
    """Interval of level ``1 - alpha`` for the mean of paired differences: the wider of two, at each end.

    The percentile bootstrap over pairs, its tail widened so that it has Student's width at this number of pairs (a plain
    percentile interval of six pairs covers some 88 % for 95), and Student's own interval: below ``alpha`` of about ``2^-n``
    resampling n pairs cannot tell any further.

    Args:
      differences: ``(n,)``, one for each seed.
      alpha: share of repetitions in which it may miss the mean.

    Returns:
      ``(low, high)``; infinite for fewer than two pairs.

    Source: Hesterberg, What teachers should know about the bootstrap, 2015, section 5.3 (the expanded percentile interval).
    """
    d = np.asarray(differences, np.float64)
    n = len(d)
    if n < 2:
        return -math.inf, math.inf
    t = scipy.stats.t.ppf(1 - alpha / 2, n - 1)
    half = t * d.std(ddof=1) / math.sqrt(n)  # SciPy's t interval is NaN where all differences are equal
    tail = scipy.stats.norm.cdf(-t * math.sqrt(n / (n - 1)))
    low, high = _percentiles(d, level=1 - 2 * tail, resamples=PAIR_RESAMPLES)
    return float(min(low, d.mean() - half)), float(max(high, d.mean() + half))


def paired_p_value(differences: Sequence[float] | np.ndarray) -> float:
    """p-value of a two-sided t test that the mean of paired differences ``(n,)`` is 0; 1 for fewer than two pairs."""
    d = np.asarray(differences, np.float64)
    if len(d) < 2:
        return 1.0
    if d.std() == 0:
        return 0.0 if d.any() else 1.0
    return float(scipy.stats.ttest_1samp(d, 0.0).pvalue)


def effects(
    baseline: Mapping[Any, Sequence[float]], arms: Mapping[Any, Sequence[float]], *, lower_is_better: bool
) -> dict[Any, Effect]:
    """Every arm against its baseline, as one family of comparisons.

    The change of seed i is ``log(arm_i / baseline_i)``. Holm's procedure orders the arms by the p-value of a paired t test;
    the i-th of m gets an interval of level ``1 - 0.05 / (m - i)``, and after the first one that includes 0 none is found.
    *better* or *worse*: the interval excludes 0. *absent*: it lies within 5 %. *undecided*: neither; more seeds are needed.
    A value that is not finite, or not positive, is a failed seed and counts as the worst of all arms'.

    Args:
      baseline: one positive value a seed, for every key of ``arms``.
      arms: the same of the arm.
      lower_is_better: of the measure.

    Returns:
      An :class:`Effect` for every key; none where no value is usable.

    Raises:
      ValueError: an arm and its baseline with different numbers of seeds.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    everything = np.concatenate([np.asarray(v, np.float64) for v in (*baseline.values(), *arms.values())])
    usable = everything[np.isfinite(everything) & (everything > 0)]
    if not len(usable):
        return {}
    worst = float(usable.max() if lower_is_better else usable.min())
    differences = {}
    for key, values in arms.items():
        if len(values) != len(baseline[key]):
            raise ValueError(
                f"{key}: {len(values)} seeds, but its baseline has {len(baseline[key])}; pair them by seed."
            )
        differences[key] = _logs(values, worst) - _logs(baseline[key], worst)
    found = _holm(differences, lower_is_better=lower_is_better)
    return {key: found[key] for key in arms}


def _logs(values: Sequence[float], worst: float) -> np.ndarray:
    """Logarithms, of ``worst`` where a value is not a finite number above 0."""
    v = np.asarray(values, np.float64)
    return np.log(np.where(np.isfinite(v) & (v > 0), v, worst))


def _holm(differences: Mapping[Any, np.ndarray], *, lower_is_better: bool) -> dict[Any, Effect]:
    """Effects of paired log differences, the levels of their intervals by Holm's procedure."""
    ordered = sorted(differences, key=lambda key: paired_p_value(differences[key]))
    found, stopped = {}, False
    for i, key in enumerate(ordered):
        interval = paired_interval(differences[key], alpha=0.05 / (len(ordered) - i))
        stopped = stopped or interval[0] <= 0 <= interval[1]
        low, high = (math.expm1(min(end, 700)) for end in interval)
        verdict: Verdict = "undecided"
        if not stopped:
            verdict = "better" if (high < 0) == lower_is_better else "worse"
        elif _negligible(low, high):
            verdict = "absent"
        found[key] = Effect(math.expm1(differences[key].mean()), low, high, verdict)
    return found


def _negligible(low: float, high: float) -> bool:
    return low >= -NEGLIGIBLE and high <= NEGLIGIBLE


def interaction(
    neither: Sequence[float], first: Sequence[float], second: Sequence[float], both: Sequence[float]
) -> Effect:
    """What two changes do together beyond the product of what each does alone, by seed: ``both neither / (first second)``.

    Args:
      neither, first, second, both: ``(n,)``, positive, one for each seed.

    Returns:
      An :class:`Effect` with an uncorrected 95 % interval; ``better`` where the measure is lower than the product.
    """
    a, b, c, d = (np.log(np.asarray(v, np.float64)) for v in (neither, first, second, both))
    difference = d - b - c + a
    low, high = paired_interval(difference, alpha=0.05)
    verdict: Verdict = "better" if high < 0 else "worse" if low > 0 else "undecided"
    low, high = math.expm1(low), math.expm1(high)
    if verdict == "undecided" and _negligible(low, high):
        verdict = "absent"
    return Effect(math.expm1(difference.mean()), low, high, verdict)
