"""Finding the first number of a training that is no longer finite."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.training.phase import Phase


class NonFiniteError(RuntimeError):
    """A loss or a parameter is no longer a finite number."""


@jax.jit
def _finite(state: Any) -> jax.Array:
    leaves = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(x).reshape(x.shape[0], -1).all(axis=1) for x in leaves]).all(axis=0)


def finite_members(state: Any, *, n_seeds: int) -> np.ndarray:
    """Whether everything in the state of a member is finite: ``(n_seeds,)`` bool; one member has no leading axis."""
    return np.asarray(_finite(state if n_seeds > 1 else jax.tree.map(lambda x: x[None], state)))


def check_state(phase: Phase, step: int, finite: np.ndarray) -> None:
    """Raise :class:`NonFiniteError` where no member's state is finite; ``finite`` as :func:`finite_members` returns it."""
    if finite.any():
        return
    raise NonFiniteError(
        f"{phase.name}: a parameter or optimiser statistic is not finite at step {step}, though every loss "
        f"before it was. Training stopped; checkpoints saved before are kept. Lower the learning rate."
    )


def check_infos(phase: Phase, step: int, infos: Mapping[str, np.ndarray]) -> None:
    """Raise :class:`NonFiniteError` where no member is left, naming the first step at which one is not finite.

    Args:
      phase: of the training.
      step: the last one of the chunk.
      infos: by name, every step's value: ``(log_every,)``, or ``(n_seeds, log_every)``.
    """
    bad = {name: ~np.isfinite(values).reshape(phase.n_seeds, phase.log_every) for name, values in infos.items()}
    if not np.all(np.any([b.any(axis=1) for b in bad.values()], axis=0)):
        return
    index, name = min((int(np.argmax(b.any(axis=0))), name) for name, b in bad.items() if b.any())
    member = int(np.argmax(bad[name][:, index]))
    value = infos[name].reshape(phase.n_seeds, phase.log_every)[member, index]
    which = f" of member {member}" if phase.n_seeds > 1 else ""
    rest = " No other member is finite either." if phase.n_seeds > 1 else ""
    raise NonFiniteError(
        f"{phase.name}: {name}{which} became {value} at step {step - phase.log_every + index + 1}.{rest} Training stopped; "
        f"checkpoints saved before are kept. Lower the learning rate or raise the gradient penalties, and start anew."
    )
