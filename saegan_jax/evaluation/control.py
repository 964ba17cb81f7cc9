"""How well a generator obeys the sparse code it is given: codes read back, and single units turned on and off."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import r2_score, roc_auc_score

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.images import to_unit_float
from saegan_jax.steering import typical_activity

BATCH = 250


def code_r2(codes: np.ndarray, found: np.ndarray) -> float:
    """``1 - sum_n ||found_n - codes_n||^2 / sum_n ||codes_n - mean||^2``: 1 where every code is read back, 0 for their mean.

    Args:
      codes: ``(n, d_code)``, that images were drawn of.
      found: ``(n, d_code)``, of these images.

    Returns:
      A number of at most 1.

    Raises:
      ValueError: shapes that differ, or values that are not finite.
    """
    return float(r2_score(codes.astype(np.float64), found.astype(np.float64), multioutput="variance_weighted"))


def auc(on: np.ndarray, off: np.ndarray) -> float:
    """``P(on > off) + P(on = off) / 2`` over pairs of ``on (n,)`` and ``off (m,)``: the area under their ROC curve."""
    labels = np.concatenate([np.ones(len(on)), np.zeros(len(off))])
    return float(roc_auc_score(labels, np.concatenate([on, off])))


def decoder_alone(algorithm: Algorithm, config: SAEConfig, *, image_shape: tuple[int, int, int]) -> Algorithm:
    """The same, but that images of codes are drawn by the autoencoder's decoder: ``clip(Dec(h), 0, 1)``, without noise.

    What is read back from these is the reference of :func:`measure_control`: units overlap, and an encoder that lets a fixed
    number of them be active does not find every unit again that its own decoder draws.

    Args:
      algorithm: whose state holds the autoencoder.
      config: of the autoencoder.
      image_shape: ``(height, width, channels)``.
    """
    functions = autoencoder(config, image_shape=image_shape)

    def sample(state: Any, key: jax.Array, n: int, *, code: jax.Array) -> jax.Array:
        codes = code.reshape(n, *functions.positions, config.d_sae)
        return jnp.clip(functions.decode(state.pretrained.sae, codes), 0.0, 1.0)

    return algorithm._replace(sample=sample)


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
      effects: of each unit, by its number, in whole codes.
      alone: the same where no other unit is on.
      images: drawn with a unit turned on, float32 in [0, 1]: as many as there are codes, if ``n_codes`` allows it.
    """

    r2: float
    effects: Mapping[int, UnitEffect]
    alone: Mapping[int, UnitEffect]
    images: np.ndarray


@partial(jax.jit, static_argnames="algorithm")
def _drawn_and_read(algorithm: Algorithm, state: Any, key: jax.Array, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    assert algorithm.encode is not None
    images = algorithm.sample(state, key, codes.shape[0], code=codes)
    return images, algorithm.encode(state, images)


@partial(jax.jit, static_argnames="algorithm")
def _read(algorithm: Algorithm, state: Any, images: jax.Array) -> jax.Array:
    assert algorithm.encode is not None
    return algorithm.encode(state, to_unit_float(images))


def batches(x: np.ndarray) -> list[np.ndarray]:
    """``x`` in parts of one size, for one compiled program; the last is filled up with zeros."""
    size = min(BATCH, len(x))
    padded = np.pad(x, ((0, -len(x) % size), *((0, 0),) * (x.ndim - 1)))
    return np.split(padded, len(padded) // size)


def read_codes(algorithm: Algorithm, state: Any, images: np.ndarray) -> np.ndarray:
    """Codes ``(n, d_code)`` of uint8 images, as the generator reads them."""
    return np.concatenate([np.asarray(_read(algorithm, state, part)) for part in batches(images)])[: len(images)]


def draw_and_read(algorithm: Algorithm, state: Any, key: jax.Array, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images of ``codes (n, d_code)``, and the codes that the encoder reads in them; batch i draws with ``fold_in(key, i)``."""
    parts = [
        _drawn_and_read(algorithm, state, jax.random.fold_in(key, i), part) for i, part in enumerate(batches(codes))
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
    """Read codes back, and turn the most used units on and off: in whole codes, and where no other unit is on.

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
    images, found = draw_and_read(algorithm, state, jax.random.fold_in(key, 0), codes)
    usual = np.asarray(typical_activity(jnp.asarray(codes)))
    chosen = codes[np.linspace(0, len(codes) - 1, min(n_codes, len(codes))).astype(int)]
    units = np.argsort(-(codes > 0).mean(axis=0), kind="stable")[:n_units]
    turn = partial(
        turn_units, algorithm, state, key, usual[units], units, Apart(distance_between(found), distance_between(images))
    )
    keep = -(-len(codes) // len(units))
    effects, drawn = turn(chosen, keep)
    alone, _ = turn(np.zeros_like(chosen), 0)
    return Measured(code_r2(codes, found), effects, alone, drawn[: len(codes)])


class Apart(NamedTuple):
    """L1 distances of two random samples: of the codes read in them, and of their pixels."""

    codes: float
    images: float


def turn_units(
    algorithm: Algorithm,
    state: Any,
    key: jax.Array,
    values: np.ndarray,
    units: np.ndarray,
    apart: Apart,
    codes: np.ndarray,
    keep: int,
) -> tuple[dict[int, UnitEffect], np.ndarray]:
    """Effects of turning each of ``units`` on, to its value, instead of off in ``codes``; and ``keep`` images of each."""
    effects, kept = {}, []
    for unit, value in zip(units.tolist(), values, strict=True):
        noise = jax.random.fold_in(key, 1 + unit)
        (off_images, off), (on_images, on) = (
            draw_and_read(algorithm, state, noise, with_value(codes, unit, level)) for level in (0.0, value)
        )
        others = np.arange(codes.shape[1]) != unit
        effects[unit] = UnitEffect(
            auc=auc(on[:, unit], off[:, unit]),
            others=share(change(off[:, others], on[:, others]), apart.codes),
            pixels=share(change(off_images, on_images), apart.images),
        )
        kept.append(on_images[:keep])
    return effects, np.concatenate(kept)


def with_value(codes: np.ndarray, unit: int, value: float) -> np.ndarray:
    """A copy with one unit at ``value``."""
    codes = codes.copy()
    codes[:, unit] = value
    return codes
