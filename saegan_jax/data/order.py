"""Which example a step sees: a keyed permutation for every epoch, evaluated where it is asked for."""

import math

import jax
import jax.numpy as jnp
import numpy as np

DATA_ORDER = 0x6461  # sets the key of the data's order apart from those of the steps
ROUNDS = 8  # of shuffling; with fewer than four, neighbours in one epoch stay related in the next


def hashed(x: jax.Array, key: jax.Array) -> jax.Array:
    """A keyed hash of uint32 numbers: the finaliser of Appleby's MurmurHash3."""
    x = x ^ key
    for factor, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return (x ^ (x >> np.uint32(16))) + key


def permuted(x: jax.Array, keys: jax.Array, sizes: tuple[np.uint32, np.uint32]) -> jax.Array:
    """A permutation of the places of a grid: uint32 ``x`` below the product of ``sizes``, ``keys (..., ROUNDS)`` of each."""
    halves = [x % sizes[0], x // sizes[0]]
    for i in range(ROUNDS):
        turn = i % 2
        # The upper half of the hash as a fraction of the size: no division, and both stay below 2^16.
        share = hashed(halves[1 - turn], keys[..., i]) >> np.uint32(16)
        moved = halves[turn] + ((share * sizes[turn]) >> np.uint32(16))
        halves[turn] = jnp.where(moved < sizes[turn], moved, moved - sizes[turn])
    return halves[0] + sizes[0] * halves[1]


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

    Source: Black and Rogaway, Ciphers with arbitrary finite domains, 2002 (generalised Feistel, cycle walking).
    """
    first = place.reshape(-1)[0] // n
    order_key = jax.random.fold_in(key, DATA_ORDER)

    def epoch_keys(epoch: jax.Array) -> jax.Array:
        # uint32 by name: the default follows JAX_ENABLE_X64, and the arithmetic here wraps at 2^32.
        return jax.random.bits(jax.random.fold_in(order_key, first + epoch), (ROUNDS,), jnp.uint32)

    keys = jax.vmap(epoch_keys)(jnp.arange(epochs, dtype=jnp.int32))[place // n - first]
    a = math.isqrt(n - 1) + 1
    sizes = (np.uint32(a), np.uint32(-(-n // a)))

    def walk(x: jax.Array) -> jax.Array:
        return jnp.where(x < n, x, permuted(x, keys, sizes))

    x = permuted((place % n).astype(jnp.uint32), keys, sizes)
    return jax.lax.while_loop(lambda x: jnp.any(x >= n), walk, x).astype(jnp.int32)
