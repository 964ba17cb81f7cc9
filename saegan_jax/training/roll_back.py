"""Going back: a training whose numbers are no longer finite starts again from its last checkpoint, at half the rate.

A roll-back is an event at the step that is gone back to. The rate in a checkpoint has all roll-backs to earlier steps in it,
since those came before it was saved, and none to its own step. So the events and the checkpoint together say the rate, and a
resumed training goes on at the same one.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

KIND = "roll-back"
RATE = ".hyper.learning_rate"
SHARE = 0.5  # of the learning rate that is left


def rolled_back(events: Sequence[dict[str, Any]], *, to: int | None = None) -> int:
    """Roll-backs among the ``events`` of a phase; with ``to`` those to that step alone."""
    return sum(event["kind"] == KIND and to in (None, event["step"]) for event in events)


def slower(state: Any, times: int) -> Any:
    """``state`` with its learning rate, ``state.hyper.learning_rate``, multiplied by ``0.5 ** times``: of every member."""
    if times == 0:
        return state

    def leaf(path: Any, x: Any) -> Any:
        return x * jnp.asarray(SHARE**times, x.dtype) if jax.tree_util.keystr(path).endswith(RATE) else x

    return jax.tree_util.tree_map_with_path(leaf, state)
