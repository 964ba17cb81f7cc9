"""The members of an ensemble, one by one."""

from typing import Any

import jax


def unstacked(tree: Any, n: int) -> list[Any]:
    """The ``n`` trees whose leaves are stacked along the first axis of ``tree``."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(n)]


def members_of(state: Any, n_seeds: int) -> list[Any]:
    """The parts of a state that a run keeps for ``n_seeds`` members; a single member's has no leading axis."""
    return [state] if n_seeds == 1 else unstacked(state, n_seeds)
