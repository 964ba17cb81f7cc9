"""Sparse activation functions: the k largest by bisection, and steps with a straight-through gradient."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from saegan_jax.spmd import spec_of, varying_alike, with_auto_axes

Axis = int | tuple[int, ...]
Search = Literal["auto", "halving", "digits"]
SEARCHES: tuple[Search, ...] = get_args(Search)


def topk_mask(
    x: Array,
    k: ArrayLike,
    *,
    axis: Axis = -1,
    where: Array | None = None,
    axis_name: str | None = None,
    search: Search = "auto",
) -> Array:
    """Marks the k largest elements along ``axis``; of equal ones the first, as ``lax.top_k`` does; -0 equals 0.

    NaN, of any sign, counts as larger than all numbers.

    The threshold is searched for among the numbers' bit patterns, which are ordered as the numbers are. ``k`` may be traced, so
    that a vmapped sweep can range over it.

    Args:
      x: float32 (float64 where enabled), any shape.
      k: how many to mark in each row, >= 0; a number or an integer scalar. Rows with fewer candidates have all marked.
      axis: the axis, or axes taken as one, whose elements are compared.
      where: bool, shape of ``x``: the candidates; by default all.
      axis_name: a mapped axis whose members' elements are compared together, as if ``axis`` continued over them.
      search: how the threshold is found, with the same result: ``halving`` the range of the bit patterns until every row has
        exactly k elements at or above it, or fixing its ``digits`` of two bits from the highest on. ``auto`` is by digits on a
        TPU and halving elsewhere, chosen by the platform that the program is lowered for.

    Returns:
      bool, shape of ``x``. No gradient passes through the choice.

    Raises:
      ValueError: ``x`` of another dtype, ``where`` of another shape, or another search.
    """
    if search not in SEARCHES:
        raise ValueError(f"search must be one of {', '.join(SEARCHES)}, got {search!r}.")
    if where is not None and where.shape != x.shape:
        raise ValueError(f"where has shape {where.shape}, but must match x, {x.shape}: nothing is broadcast.")
    mask = partial(_topk_mask, _Compared(axis, axis_name), search)
    return with_auto_axes(mask, lax.stop_gradient(x), jnp.asarray(k, jnp.int32), where, spec=lambda x, *_: spec_of(x))


class _Compared(NamedTuple):
    """Which elements are compared with each other: those along ``axis``, over all members of the mapped axis ``axis_name``.

    ``bytewise`` is how they are counted, see :func:`_count`.
    """

    axis: Axis
    axis_name: str | None
    bytewise: bool = True

    def axes(self, ndim: int) -> set[int]:
        return {a % ndim for a in ((self.axis,) if isinstance(self.axis, int) else self.axis)}


def _topk_mask(compared: _Compared, search: Search, x: Array, k: Array, where: Array | None) -> Array:
    order = _ordered_integers(x)
    if where is not None:
        order = jnp.where(where, order, jnp.iinfo(order.dtype).min)
    halving = partial(_largest, compared, _kth_by_halving)
    digits = partial(_largest, compared._replace(bytewise=False), _kth_by_digits)
    if search == "auto":
        # On a TPU `lax.top_k` sorts whole rows, which its compiler gives no estimate of: docs/scale.md.
        return lax.platform_dependent(order, k, tpu=digits, default=halving)
    return halving(order, k) if search == "halving" else digits(order, k)


def _largest(
    compared: _Compared, search: Callable[[Array, Array, _Compared], tuple[Array, Array]], order: Array, k: Array
) -> Array:
    """The mask, from the level that ``search(order, k, compared)`` finds."""
    level, n_level = search(order, k, compared)
    # Where more than k are at or above the level, all of the excess is equal to it: of those the first ones are kept.
    above, tied = order > level, order == level
    crowded, room = n_level > k, k - _count(above, compared)
    index, end = _first_tied(tied, room, jnp.any(crowded), compared)
    return (order >= level) & (~crowded | above | (index < end))


def _ordered_integers(x: Array) -> Array:
    """Integers of the width of ``x`` in the order of its numbers; NaN is the largest, and none is the smallest integer.

    Raises:
      ValueError: another dtype than float32 or float64.
    """
    integers = {jnp.dtype(jnp.float32): jnp.int32, jnp.dtype(jnp.float64): jnp.int64}
    if x.dtype not in integers:
        raise ValueError(f"x has dtype {x.dtype}, but topk_mask orders float32 by their bits: convert it first.")
    integer = integers[x.dtype]
    limits = jnp.iinfo(integer)
    bits = lax.bitcast_convert_type(lax.stop_gradient(x), integer)
    # -0 equals 0. Not by `x + 0.0`, which XLA removes.
    bits = jnp.where(bits == limits.min, integer(0), bits)
    # Among negative numbers the larger bit pattern is the smaller number.
    order = bits ^ ((bits >> (limits.bits - 1)) & integer(limits.max))
    # NaN may have either sign: on x86 that of inf - inf is negative.
    return jnp.where(jnp.isnan(x), integer(limits.max - 1), order)


def _count(mask: Array, compared: _Compared) -> Array:
    """True elements among those compared, int32, with axes of length 1 in the place of ``compared.axis``.

    A CPU is fastest at adding bytes; a TPU reads them once if they are added as integers.
    """
    axes = compared.axes(mask.ndim)
    size = math.prod(mask.shape[a] for a in axes)
    last = compared.bytewise and axes == set(range(mask.ndim - len(axes), mask.ndim))
    # Add as bytes first, up to 127 at a time so that no byte overflows, in rows of at least 64 for vector instructions.
    deep = max((d for d in range(1, 128) if last and size % d == 0 and size // d >= 64), default=1)
    if deep > 1:
        parts = mask.reshape(*mask.shape[: mask.ndim - len(axes)], deep, -1).astype(jnp.int8)
        n = jnp.sum(parts.sum(axis=-2, dtype=jnp.int8), axis=-1, dtype=jnp.int32)
        n = n.reshape([1 if a in axes else m for a, m in enumerate(mask.shape)])
    else:
        n = jnp.sum(mask, axis=compared.axis, keepdims=True, dtype=jnp.int32)
    return n if compared.axis_name is None else lax.psum(n, compared.axis_name)


def _kth_by_halving(order: Array, k: Array, compared: _Compared) -> tuple[Array, Array]:
    """A level that exactly k elements reach, and how many do; where ties rule that out, the largest that more than k reach.

    Of fewer than k candidates all reach it. By bisection: at least k are at or above ``low`` (or all), fewer at or above
    ``high``.
    """
    limits = jnp.iinfo(order.dtype)
    top = jnp.max(order, axis=compared.axis, keepdims=True)
    if compared.axis_name is not None:
        top = lax.pmax(top, compared.axis_name)
    low = jnp.full_like(top, limits.min + 1)
    high = jnp.minimum(top, limits.max - 1) + 1

    def unfinished(bounds: tuple[Array, Array, Array]) -> Array:
        low, high, n_low = bounds
        return jnp.any((n_low > k) & (high - 1 > low))

    def halve(bounds: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, n_low = bounds
        middle = (low & high) + ((low ^ high) >> 1)  # their mean without overflow
        n = _count(order >= middle, compared)
        searching, enough = n_low > k, n >= k
        up, down = searching & enough, searching & ~enough
        return jnp.where(up, middle, low), jnp.where(down, middle, high), jnp.where(up, n, n_low)

    level, _, n_level = lax.while_loop(unfinished, halve, (low, high, _count(order >= low, compared)))
    return level, n_level


def _kth_by_digits(order: Array, k: Array, compared: _Compared) -> tuple[Array, Array]:
    """As :func:`_kth_by_halving`, but always the largest level that k or more reach: from the highest bits to the lowest.

    Two bits a pass: three levels are tried while the elements are read once.
    """
    limits = jnp.iinfo(order.dtype)
    one = jnp.ones((), order.dtype)
    n = _count(order > limits.min, compared)

    def narrow(i: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        low, n_low = found
        shift = (limits.bits - 2 - 2 * i).astype(order.dtype)
        levels = [low + lax.shift_left(digit * one, shift) for digit in (1, 2, 3)]  # the sign's bit wraps around
        for level, reach in [(level, _count(order >= level, compared)) for level in levels]:
            low, n_low = jnp.where(reach >= k, level, low), jnp.where(reach >= k, reach, n_low)
        return low, n_low

    level, n_level = lax.fori_loop(0, limits.bits // 2, narrow, (jnp.full_like(n, limits.min, order.dtype), n))
    return jnp.maximum(level, limits.min + 1), n_level


def _first_tied(tied: Array, room: Array, needed: Array, compared: _Compared) -> tuple[Array, Array]:
    """``(index, end)``: elements' index among those compared, and the largest one below which at most ``room`` are tied.

    By bisection of the index, and only if ``needed``.
    """
    axes = compared.axes(tied.ndim)
    size: Any = math.prod(tied.shape[a] for a in axes)
    shape = [n if i in axes else 1 for i, n in enumerate(tied.shape)]
    index = jnp.arange(size, dtype=jnp.int32).reshape(shape)
    if compared.axis_name is not None:
        index = index + size * lax.axis_index(compared.axis_name)
        size = size * lax.axis_size(compared.axis_name)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) // 2
        fits = _count(tied & (index < middle), compared) <= room
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    steps = jnp.where(needed, size.bit_length() + 1, 0)
    return index, lax.fori_loop(0, steps, halve, (jnp.zeros_like(room), jnp.full_like(room, size + 1)))[0]


def topk(pre_activations: Array, k: ArrayLike, *, axis: Axis = -1, axis_name: str | None = None) -> Array:
    """TopK after ReLU: the k largest along ``axis`` where positive, 0 elsewhere; with k = d_sae the plain ReLU.

    Args:
      pre_activations: float32, any shape.
      k, axis, axis_name: see :func:`topk_mask`.

    Returns:
      Codes, shape of ``pre_activations``; the gradient is that of the elements kept.

    Source: Makhzani and Frey, k-sparse autoencoders, 2013; the ReLU: Gao et al., Scaling and evaluating sparse
    autoencoders, 2024.
    """
    # Not `> 0`: a NaN is kept, so that it shows.
    kept = topk_mask(pre_activations, k, axis=axis, where=~(pre_activations <= 0), axis_name=axis_name)
    return jnp.where(kept, pre_activations, 0.0)


def heaviside(x: Array, threshold: Array, bandwidth: ArrayLike) -> Array:
    """H(x - threshold), 1 above and 0 elsewhere, whose gradient in the threshold is estimated.

    d/d threshold = -1/bandwidth where ``|x - threshold| < bandwidth / 2``, the derivative of the expectation under a
    rectangular kernel; none reaches x.

    Args:
      x: any shape.
      threshold: shape of ``x``, broadcast by the caller.
      bandwidth: width of the kernel, > 0, in the unit of ``x``.

    Returns:
      Shape and dtype of ``x``.

    Source: Rajamanoharan et al., Jumping ahead: improving reconstruction fidelity with JumpReLU sparse autoencoders, 2024.
    """
    x, threshold = varying_alike(x, threshold)
    return with_auto_axes(_heaviside, x, threshold, bandwidth, spec=lambda x, *_: spec_of(x))


@jax.custom_vjp
def _heaviside(x: Array, threshold: Array, bandwidth: ArrayLike) -> Array:
    return _where_above(x, threshold, jnp.ones_like(x))


def _where_above(x: Array, threshold: Array, value: Array) -> Array:
    """``value`` where ``x > threshold``, 0 where not, and NaN where neither can be said."""
    return jnp.where(x > threshold, value, jnp.where(x <= threshold, 0.0, jnp.nan).astype(value.dtype))


def _window(x: Array, threshold: Array, bandwidth: ArrayLike) -> Array:
    return (jnp.abs(x - threshold) < bandwidth / 2).astype(x.dtype) / bandwidth


def _heaviside_backward(residuals: tuple[Array, Array, ArrayLike], g: Array) -> tuple[Array, Array, Array]:
    x, threshold, bandwidth = residuals
    return jnp.zeros_like(x), -g * _window(x, threshold, bandwidth), jnp.zeros_like(jnp.asarray(bandwidth))


_heaviside.defvjp(lambda x, t, b: (_heaviside(x, t, b), (x, t, b)), _heaviside_backward)


def jumprelu(x: Array, threshold: Array, bandwidth: ArrayLike) -> Array:
    """x H(x - threshold): x above the threshold, 0 elsewhere.

    d/dx = H(x - threshold); d/d threshold is estimated as -threshold/bandwidth where ``|x - threshold| < bandwidth / 2``.

    Args:
      x, threshold, bandwidth: see :func:`heaviside`; ``threshold`` >= 0.

    Returns:
      Shape and dtype of ``x``.

    Source: as for :func:`heaviside`.
    """
    x, threshold = varying_alike(x, threshold)
    return with_auto_axes(_jumprelu, x, threshold, bandwidth, spec=lambda x, *_: spec_of(x))


@jax.custom_vjp
def _jumprelu(x: Array, threshold: Array, bandwidth: ArrayLike) -> Array:
    return _where_above(x, threshold, x)


def _jumprelu_backward(residuals: tuple[Array, Array, ArrayLike], g: Array) -> tuple[Array, Array, Array]:
    x, threshold, bandwidth = residuals
    in_threshold = -g * threshold * _window(x, threshold, bandwidth)
    return jnp.where(x > threshold, g, 0.0), in_threshold, jnp.zeros_like(jnp.asarray(bandwidth))


_jumprelu.defvjp(lambda x, t, b: (_jumprelu(x, t, b), (x, t, b)), _jumprelu_backward)
