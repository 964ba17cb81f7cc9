"""Running a phase of training: chunks of steps, numbers one chunk late, checkpoints, alarms, clean stops."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Batch, Examples
from saegan_jax.data.stream import Stream
from saegan_jax.errors import ConfigError, require
from saegan_jax.training.alarms import Alarms
from saegan_jax.training.checkpoint import Checkpoints
from saegan_jax.training.stream import Feed, block_length, joined, many_streamed_steps
from saegan_jax.training.transforms import Step, compile_chunk, ensemble, many_fresh_steps, many_steps
from saegan_jax.training.writers import Display, MetricsWriter, Rate, read_alarms, read_metrics, warn

MEMORY_SHARE = 0.7  # of the device's memory that a program may take; the rest is for pictures, scores and saving
DATA_SHARE = 0.25  # of the device's memory, and of the host's, that training images may take before they are streamed


class NonFiniteError(RuntimeError):
    """A loss or a parameter is no longer a finite number."""


class StoppedError(RuntimeError):
    """The run was asked to stop, and did so after saving."""


class Scores(NamedTuple):
    """Measures of a state's samples, one value a member, and what real data scores where that is known."""

    values: dict[str, list[float]]
    floors: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One training of a run.

    Attributes:
      name: names its rows in the metrics and its folder of checkpoints.
      init: makes the initial state; called only where no checkpoint exists.
      step: ``step(state, batch) -> (state, info)``, of one member.
      n_seeds: members of the state; a state of one member has no leading axis.
      steps, batch_size: length of the training and examples a step.
      log_every, save_every, picture_every: in steps; the latter three are multiples of the first.
      shown: fields of the info that the live display shows.
      picture: called with ``(step, state)`` every ``picture_every`` steps.
      score: called likewise; its values become a row of the metrics under ``<name>-scores``, and may raise alarms.
      draw: ``draw(key, data) -> batch``, where batches are made on the fly; by default they are examples of the data.
      at_once: members computed together; by default, and at most, as many as the memory holds.
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
    picture: Callable[[int, Any], None] | None = None
    score: Callable[[int, Any], Scores] | None = None
    draw: Callable[[jax.Array, Any], Batch] | None = None
    at_once: int | None = None


def check_schedule(name: str, *, steps: int, log_every: int, save_every: int, picture_every: int) -> None:
    """Raise :class:`ConfigError` unless every interval is a whole number of logging intervals.

    One compiled program of ``log_every`` steps runs the whole training, which is what makes a resumed run equal to an
    uninterrupted one to the bit.
    """
    require(log_every >= 1, "log_every", log_every, "it must be at least one step.")
    for field, value in ((f"{name}.steps", steps), ("save_every", save_every), ("picture_every", picture_every)):
        lower = max(0, value // log_every * log_every)
        options = f"{lower} or {lower + log_every}" if lower else f"{log_every}"
        require(
            value > 0 and value % log_every == 0,
            field,
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


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """SIGINT and SIGTERM ask for a stop at the end of the chunk; a second one has its usual effect.

    Raises :class:`StoppedError` on leaving, if a request has come and nothing else was raised.
    """
    requested = False
    before: dict[int, Any] = {}

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        requested = True
        signal.signal(number, before[number])

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        try:
            before[number] = signal.signal(number, handler)
        except ValueError:  # not in the main thread: leave signals to whoever owns them
            break
    try:
        yield lambda: requested
    finally:
        for number, old in before.items():
            signal.signal(number, old)
    if requested:  # after the last step, or while the last save was being finished
        raise StoppedError("Stopped; everything is saved.")


@jax.jit
def _finite(state: Any) -> jax.Array:
    """Whether everything in the state of a member is finite, for every entry of a leading axis of members."""
    leaves = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(x).reshape(x.shape[0], -1).all(axis=1) for x in leaves]).all(axis=0)


def _members(phase: Phase, state: Any) -> Any:
    """``state`` with a leading axis of members, also where there is one."""
    return state if phase.n_seeds > 1 else jax.tree.map(lambda x: x[None], state)


def _check_infos(phase: Phase, step: int, infos: dict[str, np.ndarray]) -> None:
    """Stop where no member is left: name the first step of the chunk ending at ``step`` at which one is not finite."""
    bad = {name: ~np.isfinite(values).reshape(phase.n_seeds, phase.log_every) for name, values in infos.items()}
    if not np.all(np.any([b.any(axis=1) for b in bad.values()], axis=0)):
        return
    index, name = min((int(np.argmax(b.any(axis=0))), name) for name, b in bad.items() if b.any())
    member = int(np.argmax(bad[name][:, index]))
    value = infos[name].reshape(phase.n_seeds, phase.log_every)[member, index]
    which = f" of member {member}" if phase.n_seeds > 1 else ""
    rest = " No other member is finite either." if phase.n_seeds > 1 else ""
    raise NonFiniteError(
        f"{phase.name}: {name}{which} became {value} at step {step - phase.log_every + index + 1}.{rest} Training stopped; "
        f"the last good checkpoint is kept. Lower the learning rate or raise the gradient penalties, and start anew."
    )


def _host_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _memory() -> int:
    """Bytes of the device, or of the host where that is the device."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit or _host_memory()


def data_budget() -> int:
    """Bytes of training images up to which they go to the device: a quarter of its memory, and of the host's."""
    return int(DATA_SHARE * min(_memory(), _host_memory()))


def _compiled(phase: Phase, state: Any, data: Any, *, streamed: bool = False) -> Callable[[Any, Any], tuple[Any, Any]]:
    """The program of one chunk: of all members together, or of as many at a time as the memory holds."""
    if streamed:
        chunk = many_streamed_steps(phase.step)
    elif phase.draw is None:
        chunk = many_steps(phase.step, length=phase.log_every, batch_size=phase.batch_size)
    else:
        chunk = many_fresh_steps(phase.step, phase.draw, length=phase.log_every)
    at_once = min(phase.at_once or phase.n_seeds, phase.n_seeds)
    while True:
        together = at_once == phase.n_seeds
        chunks = (
            chunk if phase.n_seeds == 1 else ensemble(chunk, at_once=None if together else at_once, own_data=streamed)
        )
        jitted: Any = compile_chunk(chunks)
        program: Any = jitted.lower(state, data).compile()
        size = program.memory_analysis()
        needed = size.temp_size_in_bytes + size.argument_size_in_bytes if size else 0
        if at_once == 1 or needed <= MEMORY_SHARE * _memory():
            return program
        at_once = -(-at_once // 2)


def _feed(phase: Phase, stream: Stream, state: Any, step: int) -> Feed:
    """The stream from ``step`` on, which is all that its iterator's state holds, in blocks that divide the logging interval."""
    require(phase.draw is None, "draw", phase.draw, "batches made on the fly need their data on the device.")
    length = block_length(phase.log_every, phase.n_seeds * phase.batch_size * math.prod(stream.source.image_shape))
    return Feed(
        stream,
        state.key,
        batch_size=phase.batch_size,
        length=length,
        steps=phase.steps,
        step=step,
    )


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
        batches, read while the device computes. Its rows have ``data_wait`` too: of the time from the end of the interval
        before to the end of this one, saving, scores and pictures left out, the share in which the device had nothing to do
        because its data were not there; above 5 % is an alarm.
      folder: the run folder; checkpoints go to ``checkpoints/<phase>``.
      config: the run's configuration, stored in every checkpoint.
      writer: takes a row of means over each logging interval.
      display: live progress.

    Returns:
      The final state.

    Raises:
      NonFiniteError: a step's numbers, or the state at a checkpoint, are not finite. Nothing is saved after that. Of several
        members one that fails is an alarm, and the others train on; it is raised when none is left.
      StoppedError: the process was asked to stop; the state has been saved.
      ConfigError: the folder holds checkpoints of another architecture; or a stream and a phase that draws its batches.
    """
    with (
        ExitStack() as stack,
        _stop_requests() as stop_requested,
        Checkpoints(folder / "checkpoints" / phase.name) as checkpoints,
    ):
        like = jax.eval_shape(phase.init)
        restored = checkpoints.restore(like)
        for step, reason in checkpoints.damaged:
            warn(f"Checkpoint {phase.name}/{step} is damaged and was skipped ({reason}).")
        checkpoints.set_aside_damaged()
        step, state = restored if restored else (0, phase.init())
        if step > phase.steps:
            raise ConfigError(
                f"{phase.name}.steps", phase.steps, f"the run folder is already at step {step}; ask for more."
            )
        scores_name = f"{phase.name}-scores"
        for name in (phase.name, scores_name):
            writer.forget_after(name, step)
        if step == phase.steps:
            return state

        alarms = Alarms(told=warn, judged_from=phase.steps // 4)
        alarms.restore(
            [e for e in read_alarms(folder) if e["phase"] == phase.name],
            [r for r in read_metrics(folder) if r["phase"] == phase.name],
        )
        recorded = len(alarms.events)
        display.start(phase.name, step, phase.steps)
        feed: Feed | None = None
        if isinstance(data, Stream):
            feed = stack.enter_context(_feed(phase, data, state, step))
            program = _compiled(phase, state, feed.shapes, streamed=True)
            feed.prepare()
            blocks = phase.log_every // feed.shapes.label.shape[-2]
        else:
            program = _compiled(phase, state, data)
        rate = Rate(step)
        since, elsewhere, waited_before = time.perf_counter(), 0.0, 0.0
        pending: tuple[int, Any] | None = None

        def chunk(state: Any) -> tuple[Any, Any]:
            if feed is None:
                return program(state, data)
            infos = []
            for _ in range(blocks):
                state, info = feed.advance(program, state)
                infos.append(info)
            return state, (infos, feed.waited, feed.end)

        def record() -> None:
            nonlocal recorded
            for event in alarms.events[recorded:]:
                writer.alarm(phase.name, event)
            recorded = len(alarms.events)

        def report() -> None:
            nonlocal pending, since, elsewhere, waited_before
            if pending is None:
                return
            at, infos = pending
            pending = None
            if feed is not None:
                infos, waited, end = infos
                infos = joined(infos)
            arrays = {name: np.asarray(value) for name, value in infos._asdict().items()}
            with np.errstate(invalid="ignore"):  # of infinities of both signs
                scalars = {name: value.mean(axis=-1).tolist() for name, value in arrays.items()}
            alarms.log(at, {name: np.atleast_1d(value).tolist() for name, value in scalars.items()})
            record()  # before the check: of a run that it ends the alarm is kept too
            _check_infos(phase, at, arrays)
            steps_per_second = rate(at)
            row = {**scalars, "steps_per_second": steps_per_second}
            if feed is not None:
                took = end.result() - since - elsewhere
                row["data_wait"] = min(1.0, (waited - waited_before) / max(took, 1e-9))
                since, elsewhere, waited_before = end.result(), 0.0, waited
                alarms.feed(at, row["data_wait"])
                record()
            writer.write(phase.name, at, row)
            display.update(at, steps_per_second, scalars, phase.shown, alarms=alarms.active)

        while step < phase.steps:
            state, infos = chunk(state)
            step += phase.log_every
            report()  # the chunk before, while this one runs
            pending = (step, infos)
            stopping = stop_requested()
            save = stopping or step % phase.save_every == 0 or step == phase.steps
            look = step % phase.picture_every == 0 or step == phase.steps
            if save or look:
                report()
                began = time.perf_counter()
                finite = np.asarray(_finite(_members(phase, state)))
                alarms.broken(step, finite)
                record()
                if not finite.any():
                    raise NonFiniteError(
                        f"{phase.name}: a parameter or optimiser statistic is not finite at step {step}, though every loss "
                        f"before it was. Training stopped; the last good checkpoint is kept. Lower the learning rate."
                    )
            if look and phase.score is not None:  # before saving: a resumed run does not repeat it
                scores = phase.score(step, state)
                alarms.score(step, scores.values, scores.floors)
                record()
                one = phase.n_seeds == 1
                writer.write(scores_name, step, {k: v[0] if one else v for k, v in scores.values.items()})
            if save:
                checkpoints.save(step, state, config)
            if look and phase.picture is not None:
                phase.picture(step, state)
            if save or look:
                elsewhere += time.perf_counter() - began
            if stopping:
                raise StoppedError(
                    f"Stopped at step {step} of {phase.steps} of phase {phase.name!r}; everything is saved."
                )
        return state
