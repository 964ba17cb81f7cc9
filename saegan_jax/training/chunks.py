"""Chunks of steps: one compiled program that runs a whole training, on data that lie on the device or stream to it."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from saegan_jax.algorithms.base import Examples
from saegan_jax.data.stream import Stream
from saegan_jax.errors import require
from saegan_jax.training.memory import check_program, data_budget, fits
from saegan_jax.training.phase import Phase
from saegan_jax.training.sharding import SEED, Placement, block_sharding, place_data, spread_batches, state_shardings
from saegan_jax.training.stream import Feed, block_length, joined, many_streamed_steps
from saegan_jax.training.transforms import compile_chunk, ensemble, many_fresh_steps, many_steps


class Interval(NamedTuple):
    """What the steps of one logging interval gave, on the host.

    Attributes:
      infos: by name, every step's value: ``(log_every,)``, or ``(members, log_every)``.
      data_wait: of the time from the end of the interval before to the end of this one, saving, scores and pictures left out,
        the share in which the device had nothing to do because its data were not there; None for data on the device.
    """

    infos: dict[str, np.ndarray]
    data_wait: float | None


class Chunks(Protocol):
    """The steps of a training, a logging interval at a time."""

    def advance(self, state: Any) -> tuple[Any, Any]:
        """Give the device the next chunk, which is not awaited: ``(state, what collect takes)``."""

    def collect(self, begun: Any) -> Interval:
        """Await a chunk's numbers."""

    def exclude(self, seconds: float) -> None:
        """Time that was spent on saving, scores and pictures."""


class OnDevice:
    """Chunks on data that lie on the device."""

    def __init__(self, phase: Phase, data: Any, state: Any, placed: Placement | None) -> None:
        self._data = data if placed is None else place_data(placed, data, budget=data_budget())
        self._program = compile_phase(phase, state, self._data, placed=placed)

    def advance(self, state: Any) -> tuple[Any, Any]:
        """See :class:`Chunks`."""
        return self._program(state, self._data)

    def collect(self, begun: Any) -> Interval:
        """See :class:`Chunks`."""
        return Interval(_by_name(begun), None)

    def exclude(self, seconds: float) -> None:
        """Nothing here depends on the time."""


class Streamed:
    """Chunks on data that are read while the device computes: several blocks of steps each."""

    def __init__(self, phase: Phase, feed: Feed, state: Any, placed: Placement | None) -> None:
        self._feed = feed
        self._program = compile_phase(phase, state, feed.shapes, streamed=True, placed=placed)
        feed.prepare()
        self._blocks = phase.log_every // feed.shapes.label.shape[-2]
        self._since, self._excluded, self._waited = time.perf_counter(), 0.0, 0.0

    def advance(self, state: Any) -> tuple[Any, Any]:
        """See :class:`Chunks`."""
        infos = []
        for _ in range(self._blocks):
            state, info = self._feed.advance(self._program, state)
            infos.append(info)
        return state, (infos, self._feed.waited, self._feed.end)

    def collect(self, begun: Any) -> Interval:
        """See :class:`Chunks`."""
        infos, waited, end = begun
        arrays = _by_name(joined(infos))
        took = end.result() - self._since - self._excluded
        wait = min(1.0, (waited - self._waited) / max(took, 1e-9))
        self._since, self._excluded, self._waited = end.result(), 0.0, waited
        return Interval(arrays, wait)

    def exclude(self, seconds: float) -> None:
        """See :class:`Chunks`."""
        self._excluded += seconds


def _by_name(infos: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in infos._asdict().items()}


@contextmanager
def open_chunks(
    phase: Phase, data: Examples | Stream | Any, state: Any, step: int, *, placed: Placement | None = None
) -> Iterator[Chunks]:
    """Compile the program of ``phase``, and begin to read where the data stream.

    Args:
      phase: see :class:`Phase`.
      data: what its steps take: examples or anything else on the device, or a stream.
      state: the first one, for its shapes and keys.
      step: of ``state``.
      placed: where state and batches lie; None for the default device.

    Raises:
      ConfigError: a stream and a phase that draws its batches.
    """
    if not isinstance(data, Stream):
        yield OnDevice(phase, data, state, placed)
        return
    with _feed(phase, data, state, step, placed) as feed:
        yield Streamed(phase, feed, state, placed)


def _feed(phase: Phase, stream: Stream, state: Any, step: int, placed: Placement | None) -> Feed:
    """The stream from ``step`` on, in blocks that divide the logging interval; the step is all that its iterator keeps."""
    require(phase.draw is None, "draw", phase.draw, "batches made on the fly need their data on the device.")
    example = math.prod(stream.source.image_shape) * stream.source.dtype.itemsize
    length = block_length(phase.log_every, phase.n_seeds * phase.batch_size * example)
    sharding = None if placed is None else block_sharding(placed, n_seeds=phase.n_seeds)
    return Feed(
        stream, state.key, batch_size=phase.batch_size, length=length, steps=phase.steps, step=step, sharding=sharding
    )


def compile_phase(
    phase: Phase, state: Any, data: Any, *, streamed: bool = False, placed: Placement | None = None
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """The program of one chunk: of all members together, or of as many at a time as the memory holds.

    Args:
      phase: see :class:`Phase`.
      state, data: arrays or shapes.
      streamed: ``data`` are the batches of a block of steps, and not examples.
      placed: where state and batches lie; None for the default device.

    Returns:
      ``program(state, data) -> (state, infos)``, which reuses the buffers of the state.

    Raises:
      ConfigError: it needs more memory than the device has, even for one member at a time.
    """
    step = phase.step if placed is None else spread_batches(placed, phase.step)
    chunk = _chunk(replace(phase, step=step), streamed=streamed)
    shardings = None if placed is None else state_shardings(placed)
    axis = SEED if placed is not None and SEED in placed.mesh.shape else None
    together = min(phase.members_per_vmap or phase.n_seeds, phase.n_seeds)
    while True:
        members = chunk
        if phase.n_seeds > 1:
            limit = None if together == phase.n_seeds else together
            members = ensemble(chunk, members_per_vmap=limit, data_per_member=streamed, axis=axis)
        jitted: Any = compile_chunk(members, state_shardings=shardings)
        program: Any = jitted.lower(state, data).compile()
        if fits(program):
            return program
        if together == 1 or axis is not None:
            check_program(phase.name, program)
            return program
        together = -(-together // 2)


def _chunk(phase: Phase, *, streamed: bool) -> Any:
    """The steps of one member's chunk, or of a block of it."""
    if streamed:
        return many_streamed_steps(phase.step)
    if phase.draw is None:
        return many_steps(phase.step, length=phase.log_every, batch_size=phase.batch_size)
    return many_fresh_steps(phase.step, phase.draw, length=phase.log_every)
