"""Input checks that the losses share. Shapes and dtypes are static under jit and vmap, so a check costs no run time."""

from collections.abc import Callable

import numpy as np
from jax import Array, lax
from jax import numpy as jnp
from jax.typing import ArrayLike

_DOMAINS: dict[str, Callable[[float], bool]] = {
    "(0, 1)": lambda v: 0 < v < 1,
    "[0, 1]": lambda v: 0 <= v <= 1,
    "(0, inf)": lambda v: 0 < v < np.inf,
    "[0, inf)": lambda v: 0 <= v < np.inf,
    "(-inf, inf)": lambda v: -np.inf < v < np.inf,
}


def checked(name: str, x: ArrayLike, *, min_ndim: int = 0) -> Array:
    """`x` as an array in its own dtype; ValueError if not floating, empty or short of axes."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{name} has dtype {x.dtype}, but a loss needs floating numbers: convert it first, for instance "
            f"{name}.astype(jnp.float32), and scale uint8 images to [0, 1]."
        )
    if x.ndim < min_ndim or x.size == 0:
        raise ValueError(f"{name} has shape {x.shape}, but needs at least {min_ndim} axes and one element.")
    return x


def floating(name: str, x: ArrayLike, *, min_ndim: int = 0) -> Array:
    """`checked`, in float32 at least: a sum over a batch in 16 bits would lose the loss's small terms."""
    return widened(checked(name, x, min_ndim=min_ndim))


def widened(x: Array) -> Array:
    """`x` in float32 at least."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def floatings(*, min_ndim: int = 0, **arrays: ArrayLike) -> list[Array]:
    """`floating` of each named array; ValueError unless all have one shape."""
    out = [floating(name, x, min_ndim=min_ndim) for name, x in arrays.items()]
    same_shape(**dict(zip(arrays, out, strict=True)))
    return out


def same_shape(**arrays: Array) -> None:
    """ValueError unless all have one shape."""
    if len({x.shape for x in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {x.shape}" for name, x in arrays.items())
        raise ValueError(
            f"Shapes differ: {shapes}. They must be equal; nothing is broadcast, so reshape or reduce first."
        )


def hyper(name: str, value: ArrayLike, domain: str, like: Array, fix: str) -> Array:
    """The hyper-parameter `value` as an array that combines with `like`: a scalar, or one value per trailing element.

    A Python or numpy number is checked against `domain`. An array or a tracer (a sweep vmaps over these) has no value
    under jit, so that only its dtype and shape are checked.
    """
    if isinstance(value, (int, float, np.number)):
        if not _DOMAINS[domain](float(value)):
            raise ValueError(f"{name} must lie in {domain}, got {value}: {fix}")
        return jnp.asarray(value, like.dtype)
    value = checked(name, value)
    if value.ndim > like.ndim or value.shape != like.shape[like.ndim - value.ndim :]:
        raise ValueError(
            f"{name} has shape {value.shape}, but must be a scalar or match the last axes of {like.shape}."
        )
    value = value.astype(like.dtype)
    return value if value.ndim == 0 else jnp.broadcast_to(value, like.shape)


def per_example(x: Array) -> Array:
    """Sum over every axis but the first."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def unit_max(x: Array, axis: int) -> Array:
    """`x` divided by its largest magnitude along `axis` (zeros stay zeros).

    The divisor is held constant, which is exact for scale-invariant scores, and keeps their squares from under- or
    overflowing.
    """
    top = jnp.max(jnp.abs(x), axis=axis, keepdims=True)
    return x / lax.stop_gradient(jnp.where(top == 0, jnp.ones_like(top), top))


def safe_sqrt(x: Array) -> Array:
    """Square root whose gradient at 0 is 0 instead of infinite; of NaN it is NaN."""
    zero = x <= 0  # not `x > 0` the other way round, which would send NaN to 0
    return jnp.where(zero, jnp.zeros_like(x), jnp.sqrt(jnp.where(zero, jnp.ones_like(x), x)))
