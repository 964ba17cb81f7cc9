"""Training examples that stay on the host: read from memory or disk as they are needed, by Grain's threads.

A step gets the examples that it would get of data on the device: where they lie changes the speed of a training, not what
it is trained on. Grain is imported where it is needed: it takes 0.6 s.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import threading
from collections.abc import Iterator
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from saegan_jax.data.dataset import Split
from saegan_jax.data.order import shuffled
from saegan_jax.data.sources import Source
from saegan_jax.errors import require

BUFFERED = 2**26  # bytes of batches that are read ahead
PLACES = 2**14  # of the sequence of examples, computed at a time


def cpu_threads() -> int:
    """Threads that read: as many as this process has cores, at most 16, which share one interpreter."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, cores)


@functools.partial(jax.jit, static_argnames=("n", "length"))
def _orders(keys: jax.Array, first: jax.Array, n: int, length: int) -> jax.Array:
    place = first + jnp.arange(length, dtype=jnp.int32)
    return jax.vmap(lambda key: shuffled(key, place, n, epochs=(length - 1) // n + 2))(keys)


class _Order:
    """``order(step) -> (members, batch_size)``: the examples of a step, those that ``many_steps`` takes on the device."""

    def __init__(self, keys: jax.Array, n: int, batch_size: int) -> None:
        self._implementation = str(jax.random.key_impl(keys))
        # A copy: the state whose keys these are is donated.
        self._keys = np.asarray(jax.random.key_data(keys.reshape(-1)))
        self._n, self._batch_size = n, batch_size
        self._together = max(1, PLACES // batch_size)  # steps: one by one, calls would cost more than their work
        self._lock = threading.Lock()
        self._window = functools.lru_cache(maxsize=4)(self._permute)

    def _permute(self, window: int) -> NDArray[np.int32]:
        try:
            device = jax.local_devices(backend="cpu")[0]  # there it waits for no step
        except RuntimeError:  # a process told to see its accelerator alone
            device = jax.local_devices()[0]
        length = self._together * self._batch_size
        with jax.default_device(device):
            keys = jax.random.wrap_key_data(jnp.asarray(self._keys), impl=self._implementation)
            return np.asarray(_orders(keys, jnp.asarray(window * length, jnp.int32), self._n, length))

    def __call__(self, step: int) -> NDArray[np.int32]:
        window, within = divmod(step, self._together)
        with self._lock:  # one thread computes, the others wait for its result
            order = self._window(window)
        return order[:, within * self._batch_size : (within + 1) * self._batch_size]


class Batches(Protocol):
    """Grain's iterator: batches in order, read ahead by threads; ``{"next_index": step}`` is its state."""

    def __iter__(self) -> Iterator[Split]: ...

    def __next__(self) -> Split: ...

    def get_state(self) -> dict[str, int]: ...

    def set_state(self, state: dict[str, int]) -> None: ...

    def start_prefetch(self) -> None: ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Stream:
    """Training data that is read while the training runs.

    Attributes:
        source: the examples.
        threads: that read.
        buffered: bytes of batches read ahead, at least two batches.

    Raises:
        ConfigError: no examples, no thread or no buffer.
    """

    source: Source
    threads: int = dataclasses.field(default_factory=cpu_threads)
    buffered: int = BUFFERED

    def __post_init__(self) -> None:
        require(
            len(self.source) > 0, "source", 0, "it has no examples; choose another data set or a larger share of it."
        )
        require(self.threads >= 1, "threads", self.threads, "at least one must read.")
        require(self.buffered >= 1, "buffered", self.buffered, "it is a number of bytes, above zero.")

    def batches(self, keys: jax.Array, *, batch_size: int, steps: int) -> Batches:
        """Batches of the steps 0 to ``steps - 1``, a pure function of the step, so that reading may begin at any.

        Step t of a member with key k takes the examples at positions ``t * batch_size`` to ``(t + 1) * batch_size - 1`` of
        an endless sequence of epochs, each a permutation (:func:`saegan_jax.training.transforms.shuffled`), as
        ``many_steps`` does on the device: every example is seen once an epoch. Members have an order each, so that several
        of them read as many times the examples of one.

        Args:
            keys: the state's, one key or ``(members,)``; they fix the order.
            batch_size: examples a step and member, at most the number of examples.
            steps: where the sequence ends.

        Returns:
            An iterator over ``image (members, batch_size, h, w, c)`` of the source's dtype and ``label (members,
            batch_size)`` int32, without the axis of members where ``keys`` is a single key.
            ``set_state({"next_index": t})`` goes to step t.

        Raises:
            ConfigError: a batch larger than the data.
        """
        import grain

        n = len(self.source)
        require(0 < batch_size <= n, "batch_size", batch_size, f"there are {n} examples; use 1 to {n}.")
        order, lead = _Order(keys, n, batch_size), (*keys.shape, batch_size)

        def read(step: int) -> Split:
            found = self.source.read(order(step).reshape(-1))
            return Split(found.image.reshape(*lead, *found.image.shape[1:]), found.label.reshape(lead))

        size = math.prod((*lead, *self.source.image_shape)) * self.source.dtype.itemsize
        ahead = max(2, self.threads, min(self.buffered // size, 500))
        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=ahead)
        return iter(grain.MapDataset.range(steps).map(read).to_iter_dataset(options))
