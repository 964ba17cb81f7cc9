"""What every algorithm here does with an optax optimiser."""

from typing import Any, TypeVar

import jax
import optax

Params = TypeVar("Params")


def apply_gradients(
    optimiser: optax.GradientTransformation,
    gradients: Params,
    opt_state: Any,
    params: Params,
    *,
    rate: jax.Array | None = None,
) -> tuple[Params, Any]:
    """One optimiser step: ``(gradients, opt_state, params) -> (new params, new opt_state)``; ``rate`` scales the update."""
    # Optax raises Python floats to the power of an int32 step count, which strict dtype promotion forbids.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimiser.update(gradients, opt_state, params)
    if rate is not None:
        updates = jax.tree.map(lambda update: rate * update, updates)
    return optax.apply_updates(params, updates), opt_state
