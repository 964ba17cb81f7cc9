"""Planted defects: real images in place of a generator's, with a known fault, and who finds it at which sample size.

A new defect is one line of :data:`DEFECTS`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from saegan_jax.evaluation.audit.compare import Comparison, compare
from saegan_jax.evaluation.audit.evidence import Evidence
from saegan_jax.evaluation.audit.run import ClassOfFeature
from saegan_jax.evaluation.audit.settings import AuditSettings
from saegan_jax.metrics.frechet import frechet_distance
from saegan_jax.metrics.kernel import kernel_distance
from saegan_jax.metrics.neighbours import neighbour_metrics

METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "frechet": frechet_distance,
    "kernel": kernel_distance,
    "coverage": lambda real, fake: neighbour_metrics(real, fake).coverage,
}
"""What the audit is compared with: functions of features ``(n, d)`` of reals and fakes."""
NULL = "nothing"
BAR = (slice(2, 4), slice(2, 10))  # in a corner where a centred digit has no ink
HUE_TURN = 0.08  # of the full circle: 29 degrees


class Pool(NamedTuple):
    """Images, or an altered version of them.

    Attributes:
      evidence: of the images.
      features: ``(n, d)``, of the network that the metrics read.
      label: ``(n,)``.
    """

    evidence: Evidence
    features: np.ndarray
    label: np.ndarray


class Defect(NamedTuple):
    """A fault of a generator.

    Attributes:
      share: of the fakes that are altered.
      alter: makes altered images of ``(n, h, w, c)`` uint8; None where the altered ones are training images, or none are.
      keep: the probability that an image of the chosen class is drawn, beside 1 for all others.
      right: ``right(comparison, altered, fake, classes, target)``, whether the finding that comes first names the fault.
    """

    share: float
    alter: Callable[[np.ndarray], np.ndarray] | None
    keep: float
    right: Callable[..., bool]


class Trial(NamedTuple):
    """One comparison: whether the audit found anything, whether rightly, and every metric's value."""

    found: bool
    right: bool
    values: dict[str, float]


def with_bar(images: np.ndarray) -> np.ndarray:
    """Images with a bright bar of 2 x 8 pixels near a corner."""
    changed = images.copy()
    changed[:, *BAR] = 255
    return changed


def with_hue(images: np.ndarray) -> np.ndarray:
    """Colour images with their hue turned by 29 degrees; saturation and value stay."""
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    hsv = rgb_to_hsv(images / 255)
    hsv[..., 0] = (hsv[..., 0] + HUE_TURN) % 1
    return np.rint(hsv_to_rgb(hsv) * 255).astype(np.uint8)


def _of_class(
    comparison: Comparison, altered: np.ndarray, fake: Evidence, classes: Mapping[int, ClassOfFeature], target: int
) -> bool:
    """Whether the first finding is a feature of the target class that fakes have less often."""
    first = comparison.found[:1]
    return any(one.kind in ("missing", "rarer") and classes[one.feature].label == target for one in first)


def _copies(comparison: Comparison, altered: np.ndarray, *_: Any) -> bool:
    return comparison.questions["copies"] in comparison.answered


def _artefact(comparison: Comparison, altered: np.ndarray, fake: Evidence, *_: Any) -> bool:
    """Whether fakes are badly described that mostly have the artefact, or the first feature is active at it."""
    asked = comparison.questions["undescribed"]
    if asked in comparison.answered:
        beyond = fake.error > asked.bound
        return bool(altered[beyond].mean() >= 0.5)
    for one in comparison.found[:1]:
        active = fake.codes[:, one.feature] > 0
        return bool(active[altered].mean() > 2 * active[~altered].mean())
    return False


def _any_feature(comparison: Comparison, *_: Any) -> bool:
    return bool(comparison.found)


DEFECTS: Mapping[str, Defect] = {
    NULL: Defect(0.0, None, 1.0, _any_feature),
    "a class dropped": Defect(0.0, None, 0.0, _of_class),
    "a class halved": Defect(0.0, None, 0.5, _of_class),
    "5 % copied": Defect(0.05, None, 1.0, _copies),
    "a bar in 10 %": Defect(0.1, with_bar, 1.0, _artefact),
    "hue turned": Defect(1.0, with_hue, 1.0, _any_feature),
}
"""Faults by name; the first is none."""


def drawn(
    defect: Defect, pool: Pool, altered: Pool | None, n: int, target: int, rng: np.random.Generator
) -> tuple[Pool, Pool, np.ndarray]:
    """Reals and fakes of disjoint images, ``n`` each, and which fakes are altered, ``(n,)`` bool.

    Args:
      defect: see :class:`Defect`.
      pool: held-out images.
      altered: their altered versions row by row; of a defect that alters some but makes no versions, training images.
      n: sample size.
      target: the class that is dropped or halved.
      rng: of the draw.

    Raises:
      ValueError: a pool too small.
    """
    order = rng.permutation(len(pool.label))
    real, rest = order[:n], order[n:]
    kept = rest[(pool.label[rest] != target) | (rng.random(len(rest)) < defect.keep)]
    if len(kept) < n:
        raise ValueError(f"the pool leaves {len(kept)} fakes of the {n} asked for; take smaller samples.")
    fake, k = kept[:n], round(defect.share * n)
    fakes = taken(pool, fake[k:])
    if k and altered is not None:
        rows = fake[:k] if defect.alter is not None else rng.permutation(len(altered.label))[:k]
        fakes = joined(taken(altered, rows), fakes)
    return taken(pool, real), fakes, np.arange(n) < k


def taken(pool: Pool, rows: np.ndarray) -> Pool:
    """The rows of a pool."""
    return Pool(pool.evidence.take(rows), pool.features[rows], pool.label[rows])


def joined(first: Pool, second: Pool) -> Pool:
    """The rows of one pool, then those of another."""
    features, label = (np.concatenate(pair) for pair in zip(first[1:], second[1:], strict=True))
    return Pool(first.evidence.join(second.evidence), features, label)


def run_trial(
    defect: Defect,
    pool: Pool,
    altered: Pool | None,
    *,
    n: int,
    target: int,
    classes: Mapping[int, ClassOfFeature],
    settings: AuditSettings,
    rng: np.random.Generator,
) -> Trial:
    """Draw reals and faulty fakes, audit them and measure every metric; arguments as in :func:`drawn`."""
    real, fake, which = drawn(defect, pool, altered, n, target, rng)
    comparison = compare(real.evidence, fake.evidence, settings)
    found = bool(comparison.found or comparison.answered)
    right = found and defect.right(comparison, which, fake.evidence, classes, target)
    values = {name: metric(real.features, fake.features) for name, metric in METRICS.items()}
    return Trial(found, right, values)


def outside(value: float, null: Sequence[float]) -> bool:
    """Whether a metric leaves the interval that holds 95 % of its values between equal distributions."""
    low, high = np.quantile(null, (0.025, 0.975))
    return not low <= value <= high
