"""From one step to many: ``lax.scan`` over steps, ``vmap`` over seeds, ``jit`` with donation outermost."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.base import Batch

State = TypeVar("State")
Info = TypeVar("Info")
Step = Callable[[State, Batch], tuple[State, Info]]
Chunk = Callable[[State, Batch], tuple[State, Info]]

DATA_ORDER = 0x6461  # sets the key of the data's order apart from those of the steps


def to_unit_float(images: jax.Array) -> jax.Array:
    """uint8 pixels as float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255


def epoch_order(key: jax.Array, epoch: jax.Array, n: int) -> jax.Array:
    """The order in which ``n`` examples are seen in ``epoch``: a permutation fixed by the run's key, int32 ``(n,)``."""
    return jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, DATA_ORDER), epoch), n)


def many_steps(step: Step, *, length: int, batch_size: int) -> Chunk:
    """Many steps as one scan over data that stays on the device as uint8.

    Step t takes the examples at positions ``t * batch_size .. (t + 1) * batch_size - 1`` of an endless sequence of
    epochs, each a fresh permutation, so that every example is seen once an epoch and the order depends on nothing but the
    state's key and step: chunks of any length give the same run.

    Args:
      step: ``step(state, batch) -> (state, info)``; the state has ``key`` and ``step``.
      length: number of steps.
      batch_size: examples a step, at most the number of examples.

    Returns:
      ``chunk(state, data) -> (state, infos)``: ``data`` a :class:`Batch` of all uint8 images and int32 labels, ``infos``
      stacked along a leading axis of ``length``.

    Raises:
      ValueError: a batch larger than the data.
    """

    def chunk(state: Any, data: Batch) -> tuple[Any, Any]:
        n = data.label.shape[0]
        if batch_size > n:
            raise ValueError(f"batch_size = {batch_size} is larger than the data, {n} examples; choose at most {n}.")
        # All epochs that the chunk touches, permuted once: a sort inside the scan would cost more than a small step.
        first_epoch = state.step * batch_size // n
        epochs = (length * batch_size - 1) // n + 2
        order = jax.vmap(lambda e: epoch_order(state.key, first_epoch + e, n))(jnp.arange(epochs)).reshape(-1)

        def body(state: Any, _: None) -> tuple[Any, Any]:
            start = state.step * batch_size - first_epoch * n
            index = jax.lax.dynamic_slice_in_dim(order, start, batch_size)
            batch = Batch(image=to_unit_float(data.image[index]), label=data.label[index])
            return step(state, batch)

        return jax.lax.scan(body, state, None, length=length)

    return chunk


def many_fresh_steps(step: Step, draw: Callable[..., Batch], *, length: int) -> Callable[..., tuple[Any, Any]]:
    """Many steps as one scan over batches that are made on the fly.

    Args:
      step: ``step(state, batch) -> (state, info)``; the state has ``key`` and ``step``.
      draw: ``draw(key, *data) -> batch``; step t draws with a key of its own, fixed by the state's key.
      length: number of steps.

    Returns:
      ``chunk(state, *data) -> (state, infos)``, ``infos`` stacked along a leading axis of ``length``. What batches are made
      from is best passed as ``data``: an array that ``draw`` closes over becomes a constant of the program.
    """

    def chunk(state: Any, *data: Any) -> tuple[Any, Any]:
        def body(state: Any, _: None) -> tuple[Any, Any]:
            key = jax.random.fold_in(jax.random.fold_in(state.key, DATA_ORDER), state.step)
            return step(state, draw(key, *data))

        return jax.lax.scan(body, state, None, length=length)

    return chunk


def ensemble(chunk: Chunk, *, at_once: int | None = None) -> Chunk:
    """The same chunk for every member of a stacked state, on shared data: infos get a leading axis of members.

    Args:
      chunk: see :func:`many_steps`.
      at_once: members computed together, the others after them in the same program, which bounds the memory and, on a CPU,
        keeps their weights in the cache; by default all.
    """
    if at_once is None:
        return jax.vmap(chunk, in_axes=(0, None))
    return lambda states, data: jax.lax.map(lambda state: chunk(state, data), states, batch_size=at_once)


def compile_chunk(chunk: Chunk) -> Chunk:
    """``jit``, reusing the old state's buffers for the new one: the state passed in is gone afterwards."""
    return jax.jit(chunk, donate_argnums=0)
