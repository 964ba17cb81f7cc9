"""Training on data that streams from the host: the next steps' batches are on the device before they are needed."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Batch, Examples
from saegan_jax.data.stream import Stream
from saegan_jax.images import any_to_unit_float
from saegan_jax.training.transforms import Step

BLOCK = 2**25  # bytes of batches that one program takes; at most three such blocks are on the device
FLYING = 2  # programs that the device has been given and not finished


def many_streamed_steps(step: Step) -> Callable[[Any, Examples], tuple[Any, Any]]:
    """Many steps as one scan over batches that are passed in.

    Args:
      step: ``step(state, batch) -> (state, info)``.

    Returns:
      ``chunk(state, batches) -> (state, infos)``: ``batches`` a :class:`Examples` of uint8 images, or float32 vectors,
      ``(length, batch, h, w, c)``
      and int32 labels ``(length, batch)``, ``infos`` stacked along a leading axis of ``length``.
    """

    return partial(_run_over_batches, step)


def _run_over_batches(step: Step, state: Any, batches: Examples) -> tuple[Any, Any]:
    def body(state: Any, batch: Examples) -> tuple[Any, Any]:
        return step(state, Batch(any_to_unit_float(batch.image), batch.label))

    return jax.lax.scan(body, state, batches)


def block_length(log_every: int, step_bytes: int) -> int:
    """Steps of one program: the largest divisor of ``log_every`` whose batches take at most 32 MiB, and at least one.

    A divisor, because one program then runs the whole training, which keeps resumed runs equal to the bit.
    """
    most = max(1, BLOCK // step_bytes)
    return max(d for d in range(1, log_every + 1) if log_every % d == 0 and d <= most)


class Feed:
    """Blocks of batches for a program, the next one on its way to the device while the last one is computed on.

    A context manager: leaving it ends the reading threads.

    Args:
      stream: where the examples come from.
      keys: the state's, one or ``(members,)``.
      batch_size: examples a step and member.
      length: steps of a block.
      steps: of the whole training.
      step: where it begins, a multiple of ``length`` blocks before ``steps``.
      sharding: of a block's arrays; None for the default device.

    Attributes:
      waited: seconds in which the device had no work because a block was not there, of all blocks given to it so far.
    """

    def __init__(
        self,
        stream: Stream,
        keys: jax.Array,
        *,
        batch_size: int,
        length: int,
        steps: int,
        step: int = 0,
        sharding: jax.sharding.Sharding | None = None,
    ) -> None:
        self.waited = 0.0
        self._length, self._step, self._steps, self._axis = length, step, steps, keys.ndim
        self._sharding = sharding
        self._shape = (*keys.shape, length, batch_size)
        self._image_shape, self._dtype = stream.source.image_shape, stream.source.dtype
        self._iterator = stream.batches(keys, batch_size=batch_size, steps=steps)
        self._iterator.set_state({"next_index": step})
        self._iterator.start_prefetch()
        self._clock = ThreadPoolExecutor(1, thread_name_prefix="feed-clock")
        self._flying: deque[Future[float]] = deque()
        self._ready: Examples | None = None
        self._wait = 0.0  # for the block that is ready

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clock.shutdown()
        self._iterator.close()

    @property
    def shapes(self) -> Any:
        """What a program takes: shapes and dtypes of a block, with a leading axis of members where there are several."""
        label = jax.ShapeDtypeStruct(self._shape, jnp.int32, sharding=self._sharding)
        shape = (*self._shape, *self._image_shape)
        return Examples(image=jax.ShapeDtypeStruct(shape, self._dtype, sharding=self._sharding), label=label)  # type: ignore[arg-type]

    @property
    def end(self) -> "Future[float]":
        """When the device will have done all it was given, in seconds of ``time.perf_counter``."""
        return self._flying[-1]

    def prepare(self) -> None:
        """Read the next block; at the very beginning, so that the start of the reading is not counted as waiting."""
        if self._ready is not None or self._step >= self._steps:
            return
        began = time.perf_counter()
        self._ready = self._read()
        starved = bool(self._flying) and self._flying[-1].done()  # the device had done its work before
        self._wait = max(0.0, time.perf_counter() - max(began, self._flying[-1].result())) if starved else 0.0

    def advance(self, program: Callable[[Any, Examples], tuple[Any, Any]], state: Any) -> tuple[Any, Any]:
        """Give the device one block, then read the next one: ``program(state, block) -> (state, infos)``, not awaited."""
        self.prepare()
        assert self._ready is not None, "more blocks were asked for than there are steps"
        if len(self._flying) == FLYING:  # or a fast reader would fill the device's memory
            self._flying.popleft().result()
        state, infos = program(state, self._ready)
        self.waited += self._wait
        self._ready = None
        self._step += self._length
        self._flying.append(self._clock.submit(_end, jax.tree.leaves(infos)[0]))
        self.prepare()
        return state, infos

    def _read(self) -> Examples:
        parts = [next(self._iterator) for _ in range(self._length)]
        stacked = (np.stack(arrays, axis=self._axis) for arrays in zip(*parts, strict=True))
        # Awaited: a transfer that is not over is data that is not there, and the device computes meanwhile.
        return jax.block_until_ready(Examples(*(jax.device_put(x, self._sharding) for x in stacked)))


def _end(result: jax.Array) -> float:
    """When the program that makes ``result`` was done."""
    result.block_until_ready()
    return time.perf_counter()


def joined(blocks: list[Any]) -> Any:
    """Infos of several blocks as those of one, on the host: the steps are the last axis."""
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves], axis=-1), *blocks)
