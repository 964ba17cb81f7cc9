"""Running a phase of training: chunks of steps, numbers one chunk late, checkpoints, alarms, clean stops."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from saegan_jax.algorithms.base import Examples
from saegan_jax.data.stream import Stream
from saegan_jax.errors import ConfigError
from saegan_jax.signals import expendable
from saegan_jax.training.alarms import Alarms
from saegan_jax.training.callbacks import (
    Callback,
    save_checkpoints,
    score_samples,
    scores_name,
    show_progress,
    write_rows,
)
from saegan_jax.training.checkpoint import Checkpoints
from saegan_jax.training.chunks import Chunks, open_chunks
from saegan_jax.training.finite import Finite, NonFiniteError, check_infos, check_state, finite_leaves, floating_names
from saegan_jax.training.phase import Phase
from saegan_jax.training.roll_back import KIND as ROLL_BACK
from saegan_jax.training.roll_back import SHARE, rolled_back, slower
from saegan_jax.training.sharding import Placement, placed_shapes, placement, state_shardings
from saegan_jax.training.stop import Requested, StoppedError, stop_requests
from saegan_jax.training.writers import Display, MetricsWriter, Rate, Scalars, read_alarms, read_metrics, warn


def train(
    phase: Phase,
    data: Examples | Stream,
    *,
    folder: Path,
    config: dict[str, Any],
    writer: MetricsWriter,
    display: Display,
) -> Any:
    """Train ``phase`` to its last step, from its newest checkpoint where one exists.

    Args:
      phase: see :class:`Phase`.
      data: all training images (uint8) and labels, on the device; or a :class:`Stream` of them, whose steps get the same
        batches, read while the device computes. Its rows have ``data_wait`` too, see
        :class:`saegan_jax.training.chunks.Interval`; above 5 % is an alarm.
      folder: the run folder; checkpoints go to ``checkpoints/<phase>``.
      config: the run's configuration, stored in every checkpoint.
      writer: takes a row of means over each logging interval.
      display: live progress.

    Returns:
      The final state.

    Raises:
      NonFiniteError: a step's numbers, or the state at a checkpoint, are not finite, and ``phase.roll_back`` roll-backs were
        made before. Nothing is saved after that. Of several members one that fails is an alarm, and the others train on; only
        when none is left the training rolls back, or this is raised.
      StoppedError: the process was asked to stop; the state has been saved.
      ConfigError: the folder holds checkpoints of another architecture or format, or none of those it holds can be read, or
        the first one cannot be read back; its metrics hold a line that is no row; or a stream and a phase that draws its
        batches.
    """
    with ExitStack() as stack:
        stop_requested = stack.enter_context(stop_requests())
        checkpoints = stack.enter_context(Checkpoints(folder / "checkpoints" / phase.name))
        run = _Folder(folder, config, checkpoints, writer, display)
        failed: NonFiniteError | None = None
        while True:
            try:
                return _train_from_checkpoint(phase, data, run, stop_requested, failed)
            except NonFiniteError as error:
                if rolled_back(run.events(phase)) >= phase.roll_back:
                    raise
                failed = error


class _Folder(NamedTuple):
    """Where a training reads and writes."""

    path: Path
    config: dict[str, Any]
    checkpoints: Checkpoints
    writer: MetricsWriter
    display: Display

    def events(self, phase: Phase) -> list[dict[str, Any]]:
        """Alarms of ``phase`` so far."""
        return [event for event in read_alarms(self.path) if event["phase"] == phase.name]


def _train_from_checkpoint(
    phase: Phase, data: Examples | Stream, run: _Folder, stop_requested: Requested, failed: NonFiniteError | None
) -> Any:
    """The training from its newest checkpoint on, to which it goes back where it ``failed``; returns its last state."""
    with ExitStack() as stack:
        placed = _placement(phase)
        step, state = _begin(phase, run.checkpoints, run.writer, placed)
        if failed is not None:
            _record_roll_back(phase, run, step, failed)
        state = slower(state, rolled_back(run.events(phase), to=step))
        if step == phase.steps:
            return state
        alarms = _resumed_alarms(phase, run)
        run.display.start(phase.name, step, phase.steps)
        stack.callback(run.display.end)
        with expendable(f"while compiling phase {phase.name!r}; nothing is lost"):
            chunks = stack.enter_context(open_chunks(phase, data, state, step, placed=placed))
        callbacks = [write_rows(run.writer, phase.name), show_progress(run.display, alarms, phase.shown)]
        if phase.score is not None:
            shown = phase.shown_scores
            scoring = score_samples(
                phase.score, alarms, run.writer, run.display, phase.name, shown=shown, n_seeds=phase.n_seeds
            )
            callbacks.append(scoring)
        callbacks += [*phase.callbacks, save_checkpoints(run.checkpoints, run.config)]
        parts = _Parts(phase, chunks, alarms, tuple(callbacks), Rate(step), floating_names(state))
        return _run(parts, step, state, stop_requested)


def _record_roll_back(phase: Phase, run: _Folder, step: int, failed: NonFiniteError) -> None:
    """Put it among the alarms, where :mod:`saegan_jax.training.roll_back` looks for it, and say it."""
    made = rolled_back(run.events(phase)) + 1
    rate = SHARE**made
    event = {"step": step, "member": None, "kind": ROLL_BACK, "state": "begins", "value": rate, "what": failed.what}
    run.writer.alarm(phase.name, event)
    warn(f"{failed.what} Roll-back {made} of {phase.roll_back}: on from step {step}, at {rate:g} of the learning rate.")


def _placement(phase: Phase) -> Placement | None:
    """Where state and batches of ``phase`` lie; None for the default device."""
    if phase.mesh is None:
        return None
    return placement(phase.mesh, jax.eval_shape(phase.init), n_seeds=phase.n_seeds)


def _begin(phase: Phase, checkpoints: Checkpoints, writer: MetricsWriter, placed: Placement | None) -> tuple[int, Any]:
    """The step and state to go on from; rows past that step, which will be written again, are taken out of the metrics."""
    shapes, init = jax.eval_shape(phase.init), phase.init
    if placed is not None:
        shapes, init = placed_shapes(placed, shapes), jax.jit(phase.init, out_shardings=state_shardings(placed))
    restored = checkpoints.restore(shapes)
    for step, reason in checkpoints.damaged:
        warn(f"Checkpoint {phase.name}/{step} is damaged and was skipped ({reason}).")
    checkpoints.set_aside_damaged()
    with expendable(f"while starting phase {phase.name!r}; nothing is lost"):
        step, state = restored if restored else (0, init())
    if step > phase.steps:
        raise ConfigError(
            f"{phase.name}.steps", phase.steps, f"the run folder is already at step {step}; ask for more."
        )
    for name in (phase.name, scores_name(phase.name)):
        writer.forget_after(name, step)
    return step, state


def _resumed_alarms(phase: Phase, run: _Folder) -> Alarms:
    """The alarms as they stood at the last row of ``phase``; new ones go to stderr and to the run folder."""
    alarms = Alarms(
        notify=warn,
        judged_from=phase.steps // 4,
        record=lambda event: run.writer.alarm(phase.name, event),
        trivial=phase.trivial,
    )
    alarms.restore(run.events(phase), [row for row in read_metrics(run.path) if row["phase"] == phase.name])
    return alarms


@dataclass(frozen=True)
class _Parts:
    """What the steps of a training need that does not change."""

    phase: Phase
    chunks: Chunks
    alarms: Alarms
    callbacks: tuple[Callback, ...]
    rate: Rate
    names: tuple[str, ...]  # of the state's floating leaves


class _Pending(NamedTuple):
    """An interval that the device was given: its last step, its numbers, and which parts of the state after it are finite."""

    step: int
    begun: Any
    finite: Finite


def _run(parts: _Parts, step: int, state: Any, stop_requested: Requested) -> Any:
    """Every chunk from ``step`` on; returns the last state."""
    phase = parts.phase
    pending: _Pending | None = None
    while step < phase.steps:
        state, begun = parts.chunks.advance(state)
        step += phase.log_every
        _report(parts, pending)  # of the chunk before, while this one runs
        pending = _Pending(step, begun, finite_leaves(state, parts.names, n_seeds=phase.n_seeds))
        stopping, last = stop_requested(), step == phase.steps
        save = stopping is not None or last or step % phase.save_every == 0
        evaluate = last or step % phase.picture_every == 0
        if save or evaluate:
            _report(parts, pending)
            pending = None
            _pause(parts, step, state, evaluate=evaluate, save=save)
        if stopping is not None:
            at = f"step {step} of {phase.steps} of phase {phase.name!r}"
            raise StoppedError(f"Stopped at {at}; everything is saved.", stopping)
    return state


def _report(parts: _Parts, pending: _Pending | None) -> None:
    """Hand the means over an interval to alarms and callbacks; raises NonFiniteError where no member is finite."""
    if pending is None:
        return
    step, begun, finite = pending
    interval = parts.chunks.collect(begun)
    with np.errstate(invalid="ignore"):  # of infinities of both signs
        row: Scalars = {name: value.mean(axis=-1).tolist() for name, value in interval.infos.items()}
    # Before the checks: of a run that they end the alarm is kept too.
    parts.alarms.log(step, {name: np.atleast_1d(value).tolist() for name, value in row.items()})
    parts.alarms.broken(step, [finite.first_bad(member) for member in range(parts.phase.n_seeds)])
    check_infos(parts.phase, step, interval.infos, finite)
    check_state(parts.phase, step, finite)
    row["steps_per_second"] = parts.rate(step)
    if interval.data_wait is not None:
        row["data_wait"] = interval.data_wait
        parts.alarms.feed(step, interval.data_wait)
    for callback in parts.callbacks:
        callback.on_metrics(step, row)


def _pause(parts: _Parts, step: int, state: Any, *, evaluate: bool, save: bool) -> None:
    """Evaluate and save a state that is known to be finite; in this order, so that what is saved has been evaluated."""
    began = time.perf_counter()
    for callback in parts.callbacks if evaluate else ():
        callback.on_evaluation(step, state)
    for callback in parts.callbacks if save else ():
        callback.on_save(step, state)
    parts.chunks.exclude(time.perf_counter() - began)
