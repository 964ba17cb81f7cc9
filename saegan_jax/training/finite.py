"""Finding the first number of a training that is no longer finite."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.training.phase import Phase


class NonFiniteError(RuntimeError):
    """A loss or a parameter is no longer a finite number.

    Attributes:
      what: which, and where; the message says beside it what can be done.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} Training stopped; checkpoints saved before are kept. Lower the learning rate or raise the gradient "
            "penalties and start anew, or give --roll-back."
        )


class Finite(NamedTuple):
    """Which parts of a state are finite.

    Attributes:
      names: of the state's floating leaves, as in ``.params['params']['W_enc']``.
      leaves: ``(leaves, members)`` bool, on the device until it is read.
    """

    names: tuple[str, ...]
    leaves: Any

    @property
    def members(self) -> np.ndarray:
        """Whether everything in the state of a member is finite: ``(members,)`` bool."""
        members: np.ndarray = np.all(np.asarray(self.leaves), axis=0)
        return members

    def first_bad(self, member: int) -> str:
        """The first leaf of a member that is not finite, and how many more there are; empty where all are."""
        bad = np.flatnonzero(~np.asarray(self.leaves)[:, member])
        if not len(bad):
            return ""
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        return f"{self.names[bad[0]]}{more}"


@partial(jax.jit, static_argnames="several")
def _finite(state: Any, *, several: bool) -> jax.Array:
    leaves = [x if several else x[None] for x in _floating(state)]
    return jnp.stack([jnp.isfinite(x).reshape(x.shape[0], -1).all(axis=1) for x in leaves])


def _floating(state: Any) -> list[jax.Array]:
    return [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]


def floating_names(state: Any) -> tuple[str, ...]:
    """Names of the floating leaves of a state, or of its shapes, in their order."""
    named = jax.tree_util.tree_leaves_with_path(state)
    return tuple(jax.tree_util.keystr(path) for path, x in named if jnp.issubdtype(x.dtype, jnp.floating))


def finite_leaves(state: Any, names: tuple[str, ...], *, n_seeds: int) -> Finite:
    """Which leaves of a state are finite, not awaited; one member has no leading axis. ``names`` are its floating ones."""
    return Finite(names, _finite(state, several=n_seeds > 1))


def check_state(phase: Phase, step: int, finite: Finite) -> None:
    """Raise :class:`NonFiniteError` where no member's state is finite; it names the first leaf that is not."""
    if finite.members.any():
        return
    raise NonFiniteError(
        f"{phase.name}: a parameter or optimiser statistic is not finite at step {step}, though every loss before it was, "
        f"and all were {phase.log_every} steps earlier: {finite.first_bad(0)}."
    )


def check_infos(phase: Phase, step: int, infos: Mapping[str, np.ndarray], finite: Finite | None = None) -> None:
    """Raise :class:`NonFiniteError` where no member is left, naming the first step at which one is not finite.

    Args:
      phase: of the training.
      step: the last one of the chunk.
      infos: by name, every step's value: ``(log_every,)``, or ``(n_seeds, log_every)``.
      finite: of the state after that step; a leaf that is not finite is named too.
    """
    bad = {name: ~np.isfinite(values).reshape(phase.n_seeds, phase.log_every) for name, values in infos.items()}
    if not np.all(np.any([b.any(axis=1) for b in bad.values()], axis=0)):
        return
    index, name = min((int(np.argmax(b.any(axis=0))), name) for name, b in bad.items() if b.any())
    member = int(np.argmax(bad[name][:, index]))
    value = infos[name].reshape(phase.n_seeds, phase.log_every)[member, index]
    which = f" of member {member}" if phase.n_seeds > 1 else ""
    rest = " No other member is finite either." if phase.n_seeds > 1 else ""
    leaf = "" if finite is None else finite.first_bad(member)
    leaf = f" Of its state, {leaf} {'is' if ' more' not in leaf else 'are'} not finite at step {step}." if leaf else ""
    raise NonFiniteError(
        f"{phase.name}: {name}{which} became {value} at step {step - phase.log_every + index + 1}.{rest}{leaf} Training "
        f"stopped; checkpoints saved before are kept. Lower the learning rate or raise the gradient penalties, and start anew."
    )
