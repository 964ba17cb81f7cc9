"""What happens beside the steps of a training: rows, scores, pictures, checkpoints and the display, as callbacks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from saegan_jax.training.alarms import Alarms
from saegan_jax.training.checkpoint import Checkpoints
from saegan_jax.training.writers import Display, MetricsWriter, Scalars


def nothing(step: int, value: Any) -> None:
    """The default of every callback."""


@dataclass(frozen=True, kw_only=True)
class Callback:
    """Functions that the loop calls; of several callbacks in their order.

    Attributes:
      on_metrics: called with ``(step, row)`` after every logging interval, one interval late: means over its steps by name, a
        number or one for each member, with ``steps_per_second`` and, where data stream, ``data_wait``.
      on_evaluation: called with ``(step, state)`` every ``picture_every`` steps and at the last one, before that step is
        saved, so that a resumed run repeats no evaluation of a saved step.
      on_save: called with ``(step, state)`` every ``save_every`` steps, at the last one and at a stop.
    """

    on_metrics: Callable[[int, Scalars], None] = nothing
    on_evaluation: Callable[[int, Any], None] = nothing
    on_save: Callable[[int, Any], None] = nothing


class Scores(NamedTuple):
    """Measures of a state's samples, one value a member, and what real data scores where that is known."""

    values: dict[str, list[float]]
    floors: dict[str, float]


Score = Callable[[int, Any], Scores]


def scores_name(phase: str) -> str:
    """Under which a phase's scores lie in the metrics."""
    return f"{phase}-scores"


def write_rows(writer: MetricsWriter, phase: str) -> Callback:
    """A row of the metrics for every logging interval."""
    return Callback(on_metrics=partial(writer.write, phase))


def show_progress(display: Display, alarms: Alarms, shown: tuple[str, ...]) -> Callback:
    """The numbers named in ``shown``, and the alarms that have not ended."""

    def show(step: int, row: Scalars) -> None:
        rate = row["steps_per_second"]
        assert isinstance(rate, float)
        display.update(step, rate, row, shown, alarms=alarms.active)

    return Callback(on_metrics=show)


def score_samples(
    score: Score,
    alarms: Alarms,
    writer: MetricsWriter,
    display: Display,
    phase: str,
    *,
    shown: tuple[str, ...],
    n_seeds: int,
) -> Callback:
    """Scores of every evaluation as alarms, on display, and as a row of the metrics, of one member numbers and no lists."""

    def evaluate(step: int, state: Any) -> None:
        scores = score(step, state)
        alarms.score(step, scores.values, scores.floors)
        row: Scalars = {name: v[0] if n_seeds == 1 else v for name, v in scores.values.items()}
        writer.write(scores_name(phase), step, row)
        display.scores(step, scores.values, shown)

    return Callback(on_evaluation=evaluate)


def save_checkpoints(checkpoints: Checkpoints, config: dict[str, Any]) -> Callback:
    """The whole state with the run's configuration."""
    return Callback(on_save=partial(checkpoints.save, config=config))
