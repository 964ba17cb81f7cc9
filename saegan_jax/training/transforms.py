"""From one step to many: ``lax.scan`` over steps, ``vmap`` over seeds, ``jit`` with donation outermost."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.base import Batch, Examples
from saegan_jax.data.order import DATA_ORDER, shuffled
from saegan_jax.images import any_to_unit_float

State = TypeVar("State")
Info = TypeVar("Info")
Step = Callable[[State, Batch], tuple[State, Info]]
Chunk = Callable[[State, Examples], tuple[State, Info]]


def many_steps(step: Step, *, length: int, batch_size: int) -> Chunk:
    """Many steps as one scan over data that stays on the device, images as uint8.

    Step t takes the examples at positions ``t * batch_size .. (t + 1) * batch_size - 1`` of an endless sequence of
    epochs, each a fresh permutation, so that every example is seen once an epoch and the order depends on nothing but the
    state's key and step: chunks of any length give the same run.

    Args:
      step: ``step(state, batch) -> (state, info)``; the state has ``key`` and ``step``.
      length: number of steps.
      batch_size: examples a step, at most the number of examples.

    Returns:
      ``chunk(state, data) -> (state, infos)``: ``data`` a :class:`saegan_jax.algorithms.base.Examples`,
      ``infos`` stacked along a leading axis of ``length``.

    Raises:
      ValueError: a batch larger than the data.
    """

    return partial(_run_over_data, step, length, batch_size)


def _run_over_data(step: Step, length: int, batch_size: int, state: Any, data: Examples) -> tuple[Any, Any]:
    n = data.label.shape[0]
    if batch_size > n:
        raise ValueError(f"batch_size = {batch_size} is larger than the data, {n} examples; choose at most {n}.")
    # Of all steps together: a few wide operations, where the scan would have many narrow ones.
    place = state.step * batch_size + jnp.arange(length * batch_size, dtype=jnp.int32)
    order = shuffled(state.key, place, n, epochs=(length * batch_size - 1) // n + 2)
    # One row an image: images of one or three channels have a last axis too short for a gather to copy along.
    flat = data.image.reshape(data.image.shape[0], -1)

    def body(state: Any, index: jax.Array) -> tuple[Any, Any]:
        image = any_to_unit_float(flat[index]).reshape(batch_size, *data.image.shape[1:])
        return step(state, Batch(image, data.label[index]))

    return jax.lax.scan(body, state, order.reshape(length, batch_size))


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

    return partial(_run_over_draws, step, draw, length)


def _run_over_draws(step: Step, draw: Callable[..., Batch], length: int, state: Any, *data: Any) -> tuple[Any, Any]:
    def body(state: Any, _: None) -> tuple[Any, Any]:
        key = jax.random.fold_in(jax.random.fold_in(state.key, DATA_ORDER), state.step)
        return step(state, draw(key, *data))

    return jax.lax.scan(body, state, None, length=length)


def ensemble(
    chunk: Chunk, *, members_per_vmap: int | None = None, data_per_member: bool = False, axis: str | None = None
) -> Chunk:
    """The same chunk for every member of a stacked state, on shared data: infos get a leading axis of members.

    Args:
      chunk: see :func:`many_steps`.
      members_per_vmap: members computed together, the others after them in the same program, which bounds the memory and,
        on a CPU, keeps their weights in the cache; by default all.
      data_per_member: the data have a leading axis of members too.
      axis: of a mesh, along which the members are spread; then all are computed together.
    """
    if members_per_vmap is None or axis is not None:
        return jax.vmap(chunk, in_axes=(0, 0 if data_per_member else None), spmd_axis_name=axis)
    if data_per_member:
        return lambda states, data: jax.lax.map(lambda both: chunk(*both), (states, data), batch_size=members_per_vmap)
    return lambda states, data: jax.lax.map(lambda state: chunk(state, data), states, batch_size=members_per_vmap)


def compile_chunk(chunk: Chunk, *, state_shardings: Any = None) -> Chunk:
    """``jit``, reusing the old state's buffers for the new one: the state passed in is gone afterwards.

    Args:
      chunk: see :func:`many_steps`.
      state_shardings: of every leaf of the state, which the new one keeps; None where it lies on one device.
    """
    return jax.jit(chunk, donate_argnums=0, out_shardings=(state_shardings, None))
