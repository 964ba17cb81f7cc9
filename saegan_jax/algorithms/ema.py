"""Exponential moving averages of parameters and statistics."""

from typing import TypeVar

import jax

Params = TypeVar("Params")


def ema_update(average: Params, params: Params, *, decay: float | jax.Array) -> Params:
    """Exponential moving average, ``decay * average + (1 - decay) * params``, leaf by leaf.

    Args:
      average: a tree of arrays.
      params: a tree of the same structure and shapes.
      decay: in [0, 1]; 0 takes ``params``.

    Returns:
      The new average, of the same structure.
    """
    return jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)
