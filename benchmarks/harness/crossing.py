"""When a training first reaches a quality: how it is followed, what is charged, and the rows of a result.

Samples are scored after fixed numbers of steps. A mark is reached at the first evaluation at or below it; nothing is
interpolated between evaluations, and a training that ends above a mark has a censored value there: it needs more than that.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.harness.rows import Row, Rows, row
from benchmarks.harness.timing import watched


class Evaluation(NamedTuple):
    """One evaluation: after how many steps, seconds of training until then, and the distance over that of real images."""

    step: int
    seconds: float
    ratio: float


class Trainee(Protocol):
    """A training that can be taken a few steps further.

    Attributes:
      before: seconds of what it needs before its first step, by name; compiling is left out.
      compile_s: seconds that compiling all of its programs took.
    """

    before: Mapping[str, float]
    compile_s: float

    def advance(self, steps: int) -> None:
        """Take so many steps; returns when they are done."""

    def sample(self, n: int) -> np.ndarray:
        """``(n, height, width, channels)`` float32 in [0, 1], by the averaged weights."""

    def close(self) -> None:
        """Give back what it holds."""


class Course(NamedTuple):
    """One training.

    Attributes:
      work, arm, seed: of it.
      before, compile_s: see :class:`Trainee`.
      evaluations: in their order.
      other: cores that other processes used while it trained; NaN where unknown.
      flops: operations before the first step, and of a step; None where they are not counted.
    """

    work: str
    arm: str
    seed: int
    before: Mapping[str, float]
    compile_s: float
    evaluations: Sequence[Evaluation]
    other: float
    flops: tuple[float, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """What a result keeps of it; a distance that is no number is None."""
        course = [[e.step, e.seconds, e.ratio if np.isfinite(e.ratio) else None] for e in self.evaluations]
        about = {"work": self.work, "arm": self.arm, "seed": self.seed}
        return {**about, "before": dict(self.before), "compile_s": self.compile_s, "evaluations": course}


def crossing(evaluations: Sequence[Evaluation], mark: float) -> tuple[Evaluation, bool]:
    """The first evaluation at or below ``mark`` and True; where there is none the last one and False.

    A distance that is no number reaches no mark.
    """
    for evaluation in evaluations:
        if evaluation.ratio <= mark:
            return evaluation, True
    return evaluations[-1], False


def follow(
    trainee: Trainee,
    score: Callable[[np.ndarray], float],
    *,
    marks: Sequence[float],
    every: int,
    most_steps: int,
    n: int,
    tell: Callable[[Evaluation], None],
) -> tuple[list[Evaluation], float]:
    """Train until the lowest mark is reached, or for ``most_steps``; drawing and scoring samples is not on the clock.

    Args:
      trainee: at its first step.
      score: distance of samples over that of as many real images.
      marks: to reach.
      every: steps between evaluations; ``most_steps`` is a multiple of it.
      most_steps: after which what is not reached is censored.
      n: samples of an evaluation.
      tell: gets every evaluation.

    Returns:
      The evaluations, and the cores that other processes used meanwhile.
    """
    found, seconds, others = [], 0.0, 0.0
    for step in range(every, most_steps + 1, every):
        took, other = watched(partial(trainee.advance, every))
        seconds, others = seconds + took, others + other
        found.append(Evaluation(step, seconds, score(trainee.sample(n))))
        tell(found[-1])
        if found[-1].ratio <= min(marks):
            break
    return found, others / seconds


def _to_mark(work: str, arm: str, courses: Sequence[Course], mark: float) -> list[Row]:
    """Steps, seconds and operations to one mark, a value a seed; of a censored one those at its end."""
    crossings = [crossing(course.evaluations, mark) for course in courses]
    extra = {"mark": mark, "censored": [not reached for _, reached in crossings]}
    ends = [(course, evaluation) for course, (evaluation, _) in zip(courses, crossings, strict=True)]
    seconds = [sum(course.before.values()) + e.seconds for course, e in ends]
    totals = [s + course.compile_s for s, course in zip(seconds, courses, strict=True)]
    rows = [
        row(work, arm, f"steps_{mark:g}", "steps", [e.step for _, e in ends], **extra),
        row(work, arm, f"seconds_{mark:g}", "s", seconds, **extra),
        row(work, arm, f"total_{mark:g}", "s, compiling included", totals, **extra),
    ]
    flops = [1e-12 * (c.flops[0] + e.step * c.flops[1]) for c, e in ends if c.flops is not None]
    if len(flops) == len(courses):
        rows.append(row(work, arm, f"operations_{mark:g}", "TFLOP", flops, **extra))
    return rows


def rows_of(courses: Sequence[Course], marks: Sequence[float]) -> list[Row]:
    """One row per arm and metric, a value a seed.

    Rows of a mark name it under ``"mark"`` and say under ``"censored"`` which of their values are lower bounds. ``lowest`` is
    the smallest distance of any evaluation, and -1 of a training with none that is a number.
    """
    arms: dict[tuple[str, str], list[Course]] = {}
    for course in courses:
        arms.setdefault((course.work, course.arm), []).append(course)
    found = []
    for (work, arm), mine in arms.items():
        rows = Rows(work, arm)
        finite = [[e.ratio for e in course.evaluations if np.isfinite(e.ratio)] for course in mine]
        rows.add("lowest", "times the floor", [min(ratios, default=-1.0) for ratios in finite])
        for name in dict.fromkeys(name for course in mine for name in course.before):
            rows.add(f"before: {name}", "s", [course.before.get(name, 0.0) for course in mine])
        rows.add("compile", "s", [course.compile_s for course in mine])
        rows.add("rate", "steps/s", [c.evaluations[-1].step / c.evaluations[-1].seconds for c in mine])
        rows.add_load([course.other for course in mine])
        found += rows.rows
        for mark in sorted(marks, reverse=True):
            found += _to_mark(work, arm, mine, mark)
    return found
