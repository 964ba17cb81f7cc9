"""Edits of sparse codes, for a generator that draws images of the code it is given."""

import jax
import jax.numpy as jnp


def check_rows(codes: jax.Array) -> None:
    """Raise ``ValueError`` unless ``codes`` are rows of codes."""
    if codes.ndim != 2:
        raise ValueError(f"codes must have shape (n, d_code), got {codes.shape}; give a single code a leading axis.")


def with_unit(codes: jax.Array, unit: int, value: float | jax.Array) -> jax.Array:
    """The same codes with one unit at ``value``: 0 turns it off.

    Args:
      codes: ``(n, d_code)``.
      unit: its number, from 0.
      value: a scalar, in units of the codes.

    Returns:
      ``(n, d_code)``.

    Raises:
      ValueError: codes that are no matrix, or no such unit.
    """
    check_rows(codes)
    if not 0 <= unit < codes.shape[1]:
        raise ValueError(f"unit {unit} does not exist: the codes have the units 0 to {codes.shape[1] - 1}.")
    return codes.at[:, unit].set(value)


def mix(a: jax.Array, b: jax.Array) -> jax.Array:
    """What is strongest in two codes: ``max(a, b)``, of which as many units are kept as the fuller of both has active.

    Args:
      a, b: ``(n, d_code)``, non-negative.

    Returns:
      ``(n, d_code)``; codes no denser than those they are made from. Of equal magnitudes at the limit all are kept.

    Raises:
      ValueError: shapes that differ, or codes that are no matrix.
    """
    check_rows(a)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have one shape, got {a.shape} and {b.shape}.")
    both = jnp.maximum(a, b)
    active = jnp.maximum((a > 0).sum(axis=1), (b > 0).sum(axis=1))
    descending = -jnp.sort(-both, axis=1)
    last = jnp.take_along_axis(descending, jnp.maximum(active - 1, 0)[:, None], axis=1)
    return jnp.where(both >= last, both, 0.0)


def interpolate(a: jax.Array, b: jax.Array, n: int) -> jax.Array:
    """Codes on the line from one to the other: ``(1 - t) a + t b`` at n equally spaced t from 0 to 1.

    Args:
      a, b: ``(d_code,)``.
      n: codes, at least 2.

    Returns:
      ``(n, d_code)``, the first ``a`` and the last ``b``.

    Raises:
      ValueError: shapes that differ or are no vectors, or fewer than 2.
    """
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"a and b must be codes (d_code,) of one length, got {a.shape} and {b.shape}.")
    if n < 2:
        raise ValueError(f"n = {n} cannot be used: a line has two ends; draw at least 2.")
    t = jnp.linspace(0.0, 1.0, n, dtype=a.dtype)[:, None]
    return (1 - t) * a[None] + t * b[None]


def slerp(a: jax.Array, b: jax.Array, n: int) -> jax.Array:
    """``n`` points on the arc from ``a (d,)`` to ``b (d,)``, whose norm changes evenly: ``(n, d)``.

    ``(sin((1 - t) w) a/|a| + sin(t w) b/|b|) / sin(w)`` times ``(1 - t) |a| + t |b|``, w the angle between them: a straight
    line between two normal vectors passes where normal vectors of many dimensions never are. Opposite or equal directions
    have no arc, and are joined by the line.

    Raises:
      ValueError: shapes that differ or are no vectors, or fewer than 2.

    Source: White, Sampling Generative Networks, 2016.
    """
    line = interpolate(a, b, n)
    norm_a, norm_b = jnp.linalg.norm(a), jnp.linalg.norm(b)
    unit_a, unit_b = (x / jnp.maximum(norm, 1e-12) for x, norm in ((a, norm_a), (b, norm_b)))
    angle = jnp.arccos(jnp.clip(jnp.vdot(unit_a, unit_b), -1.0, 1.0))
    t = jnp.linspace(0.0, 1.0, n, dtype=a.dtype)[:, None]
    sine = jnp.maximum(jnp.sin(angle), 1e-12)
    arc = (jnp.sin((1 - t) * angle) * unit_a[None] + jnp.sin(t * angle) * unit_b[None]) / sine
    arc = arc * ((1 - t) * norm_a + t * norm_b)
    return jnp.where(jnp.sin(angle) < 1e-4, line, arc)


def typical_activity(codes: jax.Array, *, level: float = 0.5) -> jax.Array:
    """The quantile ``level`` of each unit's magnitudes where it is active: ``(n, d_code) -> (d_code,)``, 0 where it never is.

    Raises:
      ValueError: codes that are no matrix.
    """
    check_rows(codes)
    found = jnp.nanquantile(jnp.where(codes > 0, codes, jnp.nan), level, axis=0)
    return jnp.where(jnp.isnan(found), 0.0, found)
