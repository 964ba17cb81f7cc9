"""What one training of a run is made of, and whether its numbers fit each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.sharding import Mesh

from saegan_jax.algorithms.base import Batch
from saegan_jax.errors import require
from saegan_jax.training.callbacks import Callback, Score
from saegan_jax.training.transforms import Step


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One training of a run.

    Attributes:
      name: names its rows in the metrics and its folder of checkpoints.
      init: makes the initial state; called only where no checkpoint exists.
      step: ``step(state, batch) -> (state, info)``, of one member.
      n_seeds: members of the state; a state of one member has no leading axis.
      steps, batch_size: length of the training and examples a step.
      log_every, save_every, picture_every: in steps; the latter three are multiples of the first. Every ``picture_every``
        steps the state is evaluated: scored, and handed to ``on_evaluation`` of the callbacks.
      shown: fields of the info that the live display shows.
      score: called with ``(step, state)`` at an evaluation, before the callbacks; its values become a row of the metrics under
        ``<name>-scores``, and may raise alarms.
      callbacks: see :class:`saegan_jax.training.callbacks.Callback`.
      draw: ``draw(key, data) -> batch``, where batches are made on the fly; by default they are examples of the data.
      members_per_vmap: members computed together; by default, and at most, as many as the memory holds.
      mesh: the devices, see :func:`saegan_jax.training.sharding.open_mesh`; None for the default one.
      trivial: see :class:`saegan_jax.training.alarms.Alarms`.
      roll_back: times that a training whose numbers are no longer finite goes back to its newest checkpoint, see
        :mod:`saegan_jax.training.roll_back`; the state then holds its learning rate.
    """

    name: str
    init: Callable[[], Any]
    step: Step
    n_seeds: int
    steps: int
    batch_size: int
    log_every: int
    save_every: int
    picture_every: int
    shown: tuple[str, ...]
    score: Score | None = None
    callbacks: tuple[Callback, ...] = ()
    draw: Callable[[jax.Array, Any], Batch] | None = None
    members_per_vmap: int | None = None
    mesh: Mesh | None = None
    trivial: Mapping[str, float] = field(default_factory=dict)
    roll_back: int = 0


def check_schedule(name: str, *, steps: int, log_every: int, save_every: int, picture_every: int) -> None:
    """Raise :class:`ConfigError` unless every interval is a whole number of logging intervals.

    One compiled program of ``log_every`` steps runs the whole training, which is what makes a resumed run equal to an
    uninterrupted one to the bit.
    """
    require(log_every >= 1, "log_every", log_every, "it must be at least one step.")
    for setting, value in ((f"{name}.steps", steps), ("save_every", save_every), ("picture_every", picture_every)):
        lower = max(0, value // log_every * log_every)
        options = f"{lower} or {lower + log_every}" if lower else f"{log_every}"
        require(
            value > 0 and value % log_every == 0,
            setting,
            value,
            f"it must be a multiple of log_every = {log_every}; use {options}.",
        )


def check_batch(name: str, batch_size: int, n_examples: int, *, steps: int) -> None:
    """Raise :class:`ConfigError` for a batch larger than the data, or more examples in all than an int32 counts."""
    most = (2**31 - 1) // batch_size
    require(steps <= most, f"{name}.steps", steps, f"with batches of {batch_size} at most {most} can be counted.")
    require(
        batch_size <= n_examples,
        f"{name}.batch_size",
        batch_size,
        f"the training data has {n_examples} images; use at most that.",
    )
