"""From one step to many: ``lax.scan`` over steps, ``vmap`` over seeds, ``jit`` with donation outermost."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Batch, Examples
from saegan_jax.images import to_unit_float

State = TypeVar("State")
Info = TypeVar("Info")
Step = Callable[[State, Batch], tuple[State, Info]]
Chunk = Callable[[State, Examples], tuple[State, Info]]

DATA_ORDER = 0x6461  # sets the key of the data's order apart from those of the steps


ROUNDS = 8  # of shuffling; with fewer than four, neighbours in one epoch stay related in the next


def shuffled(key: jax.Array, place: jax.Array, n: int, *, epochs: int) -> jax.Array:
    """Which of ``n`` examples stands at each place of an endless sequence of epochs, each a permutation of its own.

    A keyed permutation that is evaluated where it is asked for, without sorting or storing an epoch: places ``L + a R`` on a
    grid of ``a b >= n`` with ``a = ceil(sqrt(n))``, ``b = ceil(n / a)``; rounds ``L <- L + F(R) mod a`` and ``R <- R + F(L)
    mod b`` by turns, F a keyed hash; what lands beyond n goes round again.

    Args:
      key: the run's key.
      place: int32, any shape, ascending from its first element, which is the smallest.
      n: number of examples, static, from 1 to 2^31 - 1.
      epochs: that ``place`` touches at most, static.

    Returns:
      int32 in ``[0, n)``, shape of ``place``: the same for a place however it is asked for.

    Source: Black and Rogaway, Ciphers with arbitrary finite domains, 2002 (generalised Feistel, cycle walking); the hash is
    the finaliser of Appleby's MurmurHash3.
    """
    first = place.reshape(-1)[0] // n
    order_key = jax.random.fold_in(key, DATA_ORDER)
    keys = jax.vmap(lambda e: jax.random.bits(jax.random.fold_in(order_key, first + e), (ROUNDS,)))(jnp.arange(epochs))
    own = keys[place // n - first]
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    sizes = (np.uint32(a), np.uint32(b))

    def hashed(x: jax.Array, key: jax.Array) -> jax.Array:
        x = x ^ key
        for factor, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13)):
            x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
        return (x ^ (x >> np.uint32(16))) + key

    def permuted(x: jax.Array) -> jax.Array:
        halves = [x % sizes[0], x // sizes[0]]
        for i in range(ROUNDS):
            turn = i % 2
            # The upper half of the hash as a fraction of the size: no division, and both stay below 2^16.
            moved = halves[turn] + (
                ((hashed(halves[1 - turn], own[..., i]) >> np.uint32(16)) * sizes[turn]) >> np.uint32(16)
            )
            halves[turn] = jnp.where(moved < sizes[turn], moved, moved - sizes[turn])
        return halves[0] + sizes[0] * halves[1]

    def walk(x: jax.Array) -> jax.Array:
        return jnp.where(x < n, x, permuted(x))

    x = permuted((place % n).astype(jnp.uint32))
    return jax.lax.while_loop(lambda x: jnp.any(x >= n), walk, x).astype(jnp.int32)


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
      ``chunk(state, data) -> (state, infos)``: ``data`` a :class:`saegan_jax.algorithms.base.Examples`,
      ``infos`` stacked along a leading axis of ``length``.

    Raises:
      ValueError: a batch larger than the data.
    """

    def chunk(state: Any, data: Examples) -> tuple[Any, Any]:
        n = data.label.shape[0]
        if batch_size > n:
            raise ValueError(f"batch_size = {batch_size} is larger than the data, {n} examples; choose at most {n}.")
        # Of all steps together: a few wide operations, where the scan would have many narrow ones.
        place = state.step * batch_size + jnp.arange(length * batch_size, dtype=jnp.int32)
        order = shuffled(state.key, place, n, epochs=(length * batch_size - 1) // n + 2)

        # One row an image: images of one or three channels have a last axis too short for a gather to copy along.
        flat = data.image.reshape(n, -1)

        def body(state: Any, index: jax.Array) -> tuple[Any, Any]:
            image = to_unit_float(flat[index]).reshape(batch_size, *data.image.shape[1:])
            return step(state, Batch(image, data.label[index]))

        return jax.lax.scan(body, state, order.reshape(length, batch_size))

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


def ensemble(chunk: Chunk, *, members_per_vmap: int | None = None, data_per_member: bool = False) -> Chunk:
    """The same chunk for every member of a stacked state, on shared data: infos get a leading axis of members.

    Args:
      chunk: see :func:`many_steps`.
      members_per_vmap: members computed together, the others after them in the same program, which bounds the memory and,
        on a CPU, keeps their weights in the cache; by default all.
      data_per_member: the data have a leading axis of members too.
    """
    if members_per_vmap is None:
        return jax.vmap(chunk, in_axes=(0, 0 if data_per_member else None))
    if data_per_member:
        return lambda states, data: jax.lax.map(lambda both: chunk(*both), (states, data), batch_size=members_per_vmap)
    return lambda states, data: jax.lax.map(lambda state: chunk(state, data), states, batch_size=members_per_vmap)


def compile_chunk(chunk: Chunk) -> Chunk:
    """``jit``, reusing the old state's buffers for the new one: the state passed in is gone afterwards."""
    return jax.jit(chunk, donate_argnums=0)
