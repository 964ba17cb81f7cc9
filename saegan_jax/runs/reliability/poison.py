"""Steps into which a number that is not finite is put at one place, one step and one leaf, all of them arguments."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp

from saegan_jax.algorithms import optimisers

PLACES = ("data", "gradients", "parameters", "optimiser")


class Poison(NamedTuple):
    """What is put where: scalars, so that one compiled program serves every case.

    Attributes:
      step: int32, ``state.step`` before the step in which it happens.
      place: int32, index into :data:`PLACES`.
      leaf: int32, index of a floating leaf there, counted modulo their number.
      value: float32, such as NaN.
    """

    step: jax.Array
    place: jax.Array
    leaf: jax.Array
    value: jax.Array


def poison(step: int, place: str, leaf: int, value: float) -> Poison:
    """A :class:`Poison` from numbers."""
    when, where, which = (jnp.asarray(n, jnp.int32) for n in (step, PLACES.index(place), leaf))
    return Poison(when, where, which, jnp.asarray(value, jnp.float32))


NEVER = -1
"""A step at which nothing happens."""


def spoil(tree: Any, now: jax.Array, leaf: jax.Array, value: jax.Array) -> Any:
    """``tree`` with the first number of one floating leaf replaced where ``now``, bool scalar."""
    leaves, structure = jax.tree.flatten(tree)
    floating = [i for i, x in enumerate(leaves) if jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating)]
    for count, i in enumerate(floating):
        here = now & (leaf % len(floating) == count)
        flat = leaves[i].reshape(-1)
        first = jnp.where(here, value.astype(flat.dtype), flat[0])
        leaves[i] = flat.at[0].set(first).reshape(leaves[i].shape)
    return jax.tree.unflatten(structure, leaves)


@contextmanager
def spoiled_gradients(now: jax.Array, given: Poison) -> Iterator[None]:
    """While a step is traced in this block, the gradients that its optimisers get are spoiled where ``now``."""
    apply = optimisers.apply_gradients

    def spoiling(optimiser: Any, gradients: Any, *rest: Any, **more: Any) -> Any:
        return apply(optimiser, spoil(gradients, now, given.leaf, given.value), *rest, **more)

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("saegan_jax.algorithms.") and getattr(module, "apply_gradients", None) is apply:
                stack.enter_context(mock.patch.object(module, "apply_gradients", spoiling))
        yield


def poisoned(step: Callable[..., Any]) -> Callable[..., Any]:
    """``step(state, (batch, Poison)) -> (state, info)``: a system's step that can be poisoned."""
    return partial(_poisoned_step, step)


def _poisoned_step(step: Callable[..., Any], state: Any, both: tuple[Any, Poison]) -> tuple[Any, Any]:
    batch, given = both
    now = state.step == given.step
    data, gradients, parameters, optimiser = (now & (given.place == i) for i in range(len(PLACES)))
    with spoiled_gradients(gradients, given):
        state, info = step(state, spoil(batch, data, given.leaf, given.value))
    return (
        state.replace(
            params=spoil(state.params, parameters, given.leaf, given.value),
            opt_state=spoil(state.opt_state, optimiser, given.leaf, given.value),
        ),
        info,
    )
