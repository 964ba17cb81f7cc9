"""The contract every system here keeps: pure functions over an immutable state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Batch(NamedTuple):
    """One batch of labelled images.

    Attributes:
      image: ``(batch, height, width, channels)``, float32 in [0, 1].
      label: ``(batch,)``, int32.
    """

    image: jax.Array
    label: jax.Array


class Algorithm(NamedTuple):
    """A training algorithm as three pure functions, to be composed with ``jit``, ``vmap`` and ``lax.scan``.

    Attributes:
      init: ``init(key) -> state``. Traceable, so ``jax.vmap(init)(keys)`` makes an ensemble.
      step: ``step(state, batch) -> (state, info)``. A scan body; its randomness is ``fold_in(state.key, state.step)``.
      sample: ``sample(state, key, n) -> images`` in [0, 1], shape ``(n, height, width, channels)``: what a user would
        draw, from the averaged weights where the system keeps them. ``n`` is static.
    """

    init: Callable[[jax.Array], Any]
    step: Callable[[Any, Batch], tuple[Any, Any]]
    sample: Callable[..., jax.Array]
