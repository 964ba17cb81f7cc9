"""Is one arm better than another? Paired by seed, with intervals that hold for all comparisons together, and a picture."""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from saegan_jax.files import write_bytes

Verdict = Literal["better", "worse", "absent", "undecided"]
NEGLIGIBLE = 0.05  # a relative change within this is no effect
_RESAMPLES = 20_000


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
    half = t * d.std(ddof=1) / math.sqrt(n)
    tail = scipy.stats.norm.cdf(-t * math.sqrt(n / (n - 1)))
    means = d[np.random.default_rng(0).integers(0, n, (_RESAMPLES, n))].mean(axis=1)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(min(low, d.mean() - half)), float(max(high, d.mean() + half))


def effects(
    baseline: Mapping[Any, Sequence[float]], arms: Mapping[Any, Sequence[float]], *, lower_is_better: bool
) -> dict[Any, Effect]:
    """Every arm against its baseline, as one family of comparisons.

    The change of seed i is ``log(arm_i / baseline_i)``. Holm's procedure orders the arms by the p-value of a paired t test;
    the i-th of m gets an interval of level ``1 - .05 / (m - i)``, and after the first one that includes 0 none is found.
    *better* or *worse*: the interval excludes 0. *absent*: it lies within 5 %. *undecided*: neither; more seeds are needed.
    A value that is not finite, or not positive, is a failed seed and counts as the worst of all arms'.

    Args:
      baseline: one positive value a seed, for every key of ``arms``.
      arms: the same of the arm.
      lower_is_better: of the measure.

    Returns:
      An :class:`Effect` for every key.

    Raises:
      ValueError: an arm and its baseline with different numbers of seeds.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    everything = np.concatenate([np.asarray(v, np.float64) for v in (*baseline.values(), *arms.values())])
    usable = everything[np.isfinite(everything) & (everything > 0)]
    if not len(usable):
        return {}
    worst = usable.max() if lower_is_better else usable.min()

    def logs(values: Sequence[float]) -> np.ndarray:
        v = np.asarray(values, np.float64)
        return np.log(np.where(np.isfinite(v) & (v > 0), v, worst))

    differences = {}
    for key, values in arms.items():
        if len(values) != len(baseline[key]):
            raise ValueError(
                f"{key}: {len(values)} seeds, but its baseline has {len(baseline[key])}; pair them by seed."
            )
        differences[key] = logs(values) - logs(baseline[key])
    ordered = sorted(differences, key=lambda key: _p_value(differences[key]))
    found, stopped = {}, False
    for i, key in enumerate(ordered):
        low, high = paired_interval(differences[key], alpha=0.05 / (len(ordered) - i))
        stopped = stopped or low <= 0 <= high
        low, high = math.expm1(min(low, 700)), math.expm1(min(high, 700))
        verdict: Verdict = "undecided"
        if not stopped:
            verdict = "better" if (high < 0) == lower_is_better else "worse"
        elif low >= -NEGLIGIBLE and high <= NEGLIGIBLE:
            verdict = "absent"
        found[key] = Effect(math.expm1(differences[key].mean()), low, high, verdict)
    return {key: found[key] for key in arms}


def _p_value(differences: np.ndarray) -> float:
    if len(differences) < 2:
        return 1.0
    if differences.std() == 0:
        return 0.0 if differences.any() else 1.0
    return float(scipy.stats.ttest_1samp(differences, 0.0).pvalue)


def interaction(
    neither: Sequence[float], first: Sequence[float], second: Sequence[float], both: Sequence[float]
) -> Effect:
    """What two changes do together beyond the product of what each does alone, by seed: ``both neither / (first second)``.

    Returns:
      An :class:`Effect` with an uncorrected 95 % interval; ``better`` where the measure is lower than the product.
    """
    a, b, c, d = (np.log(np.asarray(v, np.float64)) for v in (neither, first, second, both))
    difference = d - b - c + a
    low, high = paired_interval(difference, alpha=0.05)
    verdict: Verdict = "better" if high < 0 else "worse" if low > 0 else "undecided"
    low, high = math.expm1(low), math.expm1(high)
    if verdict == "undecided" and low >= -NEGLIGIBLE and high <= NEGLIGIBLE:
        verdict = "absent"
    return Effect(math.expm1(difference.mean()), low, high, verdict)


COLOURS: Mapping[str, str] = {"better": "C2", "worse": "C3", "absent": "C0", "undecided": "0.5"}


def forest(panels: Mapping[str, Mapping[str, Effect]], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw every arm's change and interval, one panel a family, a band where a change is negligible.

    Args:
      panels: for each title the arms' effects.
      path: PNG to write.
      title: above the panels.
    """
    names = list(dict.fromkeys(name for arms in panels.values() for name in arms))
    figure = Figure(figsize=(1.8 + 3.2 * len(panels), 1.2 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (panel, arms) in zip(axes, panels.items(), strict=True):
        axis.axvspan(1 - NEGLIGIBLE, 1 + NEGLIGIBLE, color="0.92")
        axis.axvline(1, color="0.6", lw=1)
        for name, effect in arms.items():
            row, colour = names.index(name), COLOURS[effect.verdict]
            ratio = 1 + effect.change
            # An interval without end, of one seed, would leave no room for the others.
            ends = [max(1 + effect.low, ratio / 20), min(1 + effect.high, ratio * 20)]
            axis.plot(ends, [row, row], color=colour, lw=1.5)
            axis.plot(ratio, row, "o", color=colour, ms=5)
        axis.set_xscale("log")
        left, right = axis.get_xlim()
        axis.xaxis.set_major_locator(LogLocator(base=2) if right > 4 * left else MaxNLocator(6))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(panel, fontsize="medium")
        axis.set_xlabel("times the baseline")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    for verdict, colour in COLOURS.items():
        axes[0].plot([], [], "o-", color=colour, label=verdict)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    if title:
        figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_bytes(Path(path), buffer.getvalue())
