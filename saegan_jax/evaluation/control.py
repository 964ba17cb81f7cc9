"""How well a generator obeys the sparse code it is given: codes read back, and single units turned on and off."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.steering import typical_activity

BATCH = 250


def code_r2(codes: np.ndarray, found: np.ndarray) -> float:
    """``1 - sum_n ||found_n - codes_n||^2 / sum_n ||codes_n - mean||^2``: 1 where every code is read back, 0 for their mean.

    Args:
      codes: ``(n, d_code)``, that images were drawn of.
      found: ``(n, d_code)``, of these images.

    Returns:
      A number of at most 1; NaN where the codes do not vary.

    Raises:
      ValueError: shapes that differ.
    """
    if codes.shape != found.shape:
        raise ValueError(f"codes and found must have one shape, got {codes.shape} and {found.shape}.")
    codes, found = codes.astype(np.float64), found.astype(np.float64)
    spread = ((codes - codes.mean(axis=0)) ** 2).sum()
    # Rounding of a mean is no variance.
    if spread <= (np.finfo(np.float32).eps * np.abs(codes).max()) ** 2 * codes.size:
        return float("nan")
    return float(1 - ((found - codes) ** 2).sum() / spread)


def auc(on: np.ndarray, off: np.ndarray) -> float:
    """``P(on > off) + P(on = off) / 2`` over all pairs: the area under the ROC curve of telling ``on (n,)`` from ``off (m,)``.

    Source: Mann and Whitney, On a test of whether one of two random variables is stochastically larger than the other, 1947.
    """
    return float(
        scipy.stats.mannwhitneyu(on.astype(np.float64), off.astype(np.float64)).statistic / (len(on) * len(off))
    )


class UnitEffect(NamedTuple):
    """What turning one unit on, instead of off, does to images of the same codes and noise.

    Attributes:
      auc: of its activity read back, on against off.
      others: L1 change of all other units' activity, over the L1 distance of the codes of two random samples.
      pixels: mean absolute change of pixels, over that between two random samples. Both NaN where samples do not differ.
    """

    auc: float
    others: float
    pixels: float


class Measured(NamedTuple):
    """One generator.

    Attributes:
      r2: :func:`code_r2` of images of the codes that were given.
      effects: of each unit, by its number.
      images: drawn with a unit turned on, float32 in [0, 1]: as many as there are codes, if ``n_codes`` allows it.
    """

    r2: float
    effects: Mapping[int, UnitEffect]
    images: np.ndarray


def drawn_and_read(algorithm: Algorithm, state: Any, key: jax.Array, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Images of codes ``(n, d_code)``, and the codes that the encoder reads in them."""
    assert algorithm.encode is not None
    images = algorithm.sample(state, key, codes.shape[0], code=codes)
    return images, algorithm.encode(state, images)


def in_batches(program: Any, state: Any, key: jax.Array, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``program`` on batches of one compiled size; batch i draws its noise with ``fold_in(key, i)``."""
    size = min(BATCH, len(codes))
    padded = np.pad(codes, ((0, -len(codes) % size), (0, 0)))
    parts = [
        program(state, jax.random.fold_in(key, i), jnp.asarray(part))
        for i, part in enumerate(np.split(padded, len(padded) // size))
    ]
    images, found = (np.concatenate([np.asarray(part[i]) for part in parts])[: len(codes)] for i in (0, 1))
    return images, found


def distance_between(x: np.ndarray) -> float:
    """Mean L1 distance of rows ``(n, ...)`` to the next row."""
    return float(np.abs(x - np.roll(x, 1, axis=0)).reshape(len(x), -1).sum(axis=1).mean())


def change(before: np.ndarray, after: np.ndarray) -> float:
    """Mean L1 distance of rows to their counterparts."""
    return float(np.abs(after - before).reshape(len(before), -1).sum(axis=1).mean())


def share(changed: float, apart: float) -> float:
    """Their ratio; NaN where samples do not differ at all."""
    return changed / apart if apart > 0 else float("nan")


def measure_control(
    algorithm: Algorithm, state: Any, codes: np.ndarray, *, n_units: int, n_codes: int, key: jax.Array
) -> Measured:
    """Read codes back, and turn the most used units on and off.

    Args:
      algorithm: whose generator reads codes.
      state: of one member.
      codes: ``(n, d_code)``, of images that nothing was trained on.
      n_units: of the units that are most often active.
      n_codes: codes in which each unit is turned on and off, spread over all.
      key: of the noise.

    Returns:
      See :class:`Measured`.
    """
    program = jax.jit(partial(drawn_and_read, algorithm))
    images, found = in_batches(program, state, jax.random.fold_in(key, 0), codes)
    usual = np.asarray(typical_activity(jnp.asarray(codes)))
    chosen = codes[np.linspace(0, len(codes) - 1, min(n_codes, len(codes))).astype(int)]
    units = np.argsort(-(codes > 0).mean(axis=0), kind="stable")[:n_units]
    apart_codes, apart_images = distance_between(found), distance_between(images)
    effects, kept = {}, []
    for unit in units.tolist():
        noise = jax.random.fold_in(key, 1 + unit)
        (off_images, off), (on_images, on) = (
            in_batches(program, state, noise, with_value(chosen, unit, value)) for value in (0.0, usual[unit])
        )
        others = np.arange(codes.shape[1]) != unit
        effects[unit] = UnitEffect(
            auc=auc(on[:, unit], off[:, unit]),
            others=share(change(off[:, others], on[:, others]), apart_codes),
            pixels=share(change(off_images, on_images), apart_images),
        )
        kept.append(on_images[: -(-len(codes) // len(units))])
    return Measured(code_r2(codes, found), effects, np.concatenate(kept)[: len(codes)])


def with_value(codes: np.ndarray, unit: int, value: float) -> np.ndarray:
    """A copy with one unit at ``value``."""
    codes = codes.copy()
    codes[:, unit] = value
    return codes
