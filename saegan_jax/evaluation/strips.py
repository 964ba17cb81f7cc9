"""Rows of generated images in which one thing changes: a unit turned down and up, or the way from one latent to another."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.steering import interpolate, slerp
from saegan_jax.steering.cut import activations_before, images_after, layers

LEVELS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Times a unit's usual activity."""
BATCH = 256
FEW = 16  # codes
DRAWS = 1000  # of the prior, whose mean is what latents are pulled to


@partial(jax.jit, static_argnames="algorithm")
def _of_codes(algorithm: Algorithm, state: Any, noise: jax.Array, codes: jax.Array) -> jax.Array:
    """Images of ``codes (n, d_code)``, each with the noise of its key of ``noise (n,)``."""
    return jax.vmap(lambda key, code: algorithm.sample(state, key, 1, code=code[None])[0])(noise, codes)


@partial(jax.jit, static_argnames=("algorithm", "n"))
def _codes(algorithm: Algorithm, state: Any, key: jax.Array, n: int) -> jax.Array:
    assert algorithm.draw_codes is not None
    return algorithm.draw_codes(state, key, n)


def prior_codes(algorithm: Algorithm, state: Any, key: jax.Array, n: int) -> np.ndarray:
    """``(n, d_code)`` codes of the prior, by one program for every n up to 16."""
    return np.asarray(_codes(algorithm, state, key, max(n, FEW)))[:n]


def draw_rows(algorithm: Algorithm, state: Any, key: jax.Array, codes: np.ndarray) -> np.ndarray:
    """Images of rows of codes; those of a row have one noise.

    All are drawn in batches of 256 by one program, whatever their number.

    Args:
      algorithm: whose generator reads codes.
      state: of one member.
      key: row i has the noise of ``fold_in(key, i)``.
      codes: ``(rows, n, d_code)``.

    Returns:
      ``(rows, n, height, width, channels)`` float32 in [0, 1].
    """
    rows, n, d_code = codes.shape
    flat = np.pad(codes.reshape(-1, d_code), ((0, -rows * n % BATCH), (0, 0)))
    row_of = np.minimum(np.arange(len(flat)) // n, rows - 1)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(rows))
    parts = [slice(i, i + BATCH) for i in range(0, len(flat), BATCH)]
    images = [np.asarray(_of_codes(algorithm, state, keys[row_of[part]], flat[part])) for part in parts]
    return np.concatenate(images)[: rows * n].reshape(rows, n, *images[0].shape[1:])


def edited_codes(base: np.ndarray, units: np.ndarray, usual: np.ndarray, *, d_sae: int) -> np.ndarray:
    """``base`` with each unit in turn at :data:`LEVELS` times its usual activity, at every position of the code.

    Args:
      base: ``(d_code,)``, ``d_sae`` numbers for each position.
      units: ``(m,)`` numbers of units.
      usual: ``(m,)`` activities.
      d_sae: units of a position.

    Returns:
      ``(m * len(LEVELS), d_code)``, a unit's levels one after the other.
    """
    codes = np.broadcast_to(base.reshape(-1, d_sae), (len(units), len(LEVELS), base.size // d_sae, d_sae)).copy()
    values = usual[:, None] * np.asarray(LEVELS, np.float32)
    for i, unit in enumerate(units):
        codes[i, :, :, unit] = values[i][:, None]
    return codes.reshape(-1, base.size)


def unit_strips(
    algorithm: Algorithm, state: Any, units: np.ndarray, usual: np.ndarray, *, d_sae: int, rows: int, seed: int
) -> np.ndarray:
    """Generated images with each unit turned down and up, of ``rows`` codes of the prior; in a row only the unit changes.

    Args:
      algorithm: whose generator reads codes.
      state: of one member.
      units: ``(m,)`` numbers of units.
      usual: ``(m,)``, what :data:`LEVELS` multiply.
      d_sae: units of a position of the code.
      rows: codes.
      seed: of codes and noise.

    Returns:
      ``(m, rows, len(LEVELS), height, width, channels)`` float32 in [0, 1].
    """
    code_key, noise_key = jax.random.split(jax.random.key(seed))
    base = prior_codes(algorithm, state, code_key, rows)
    # Codes of all units, each of many positions, may not fit in memory.
    together = max(1, BATCH // (rows * len(LEVELS)))
    strips = []
    for part in (slice(i, i + together) for i in range(0, len(units), together)):
        codes = np.stack([edited_codes(code, units[part], usual[part], d_sae=d_sae) for code in base])
        images = draw_rows(algorithm, state, noise_key, codes)
        strips.append(images.reshape(rows, -1, len(LEVELS), *images.shape[2:]).swapaxes(0, 1))
    return np.concatenate(strips)


def truncations(algorithm: Algorithm, state: Any, *, psis: tuple[float, ...], columns: int, seed: int) -> np.ndarray:
    """The same samples with their latents pulled towards the mean latent: ``m + psi (z - m)``.

    z is what the first layer of the generator reads, codes and noise alike, and m its mean over 1,000 draws of the prior.
    Less of the prior's spread gives images that are more alike.

    Args:
      algorithm: that samples.
      state: of one member.
      psis: a row each; 1 is the prior itself.
      columns: samples.
      seed: of the latents.

    Returns:
      ``(len(psis), columns, height, width, channels)`` float32 in [0, 1].

    Source: Karras, Laine and Aila, A style-based generator architecture for generative adversarial networks, 2019, appendix B,
    there in an intermediate latent space.
    """
    return np.asarray(_truncated(algorithm, state, jax.random.key(seed), psis, columns))


@partial(jax.jit, static_argnames=("algorithm", "psis", "columns"))
def _truncated(algorithm: Algorithm, state: Any, key: jax.Array, psis: tuple[float, ...], columns: int) -> jax.Array:
    first = layers(algorithm.sample, state)[0]
    drawn = activations_before(algorithm.sample, first, state, key, DRAWS).reshape(DRAWS, -1)
    mean, z = drawn.mean(axis=0, keepdims=True), drawn[:columns]
    pulled = jnp.concatenate([mean + psi * (z - mean) for psi in psis])
    images = images_after(algorithm.sample, first, state, pulled.reshape(-1, *first.shape))
    return images.reshape(len(psis), columns, *images.shape[1:])


def interpolations(algorithm: Algorithm, state: Any, *, rows: int, columns: int, seed: int) -> np.ndarray:
    """Generated images on the way from one random latent to another.

    A generator that reads codes draws codes on the line between two of the prior, with one noise a row; any other what lies
    on the arc between two inputs of its first layer.

    Args:
      algorithm: that samples.
      state: of one member.
      rows, columns: pairs of latents, and images of each way, both ends counted.
      seed: of the latents.

    Returns:
      ``(rows, columns, height, width, channels)`` float32 in [0, 1].
    """
    key, noise = jax.random.split(jax.random.key(seed))
    if algorithm.draw_codes is not None:
        codes = prior_codes(algorithm, state, key, 2 * rows)
        return draw_rows(algorithm, state, noise, np.asarray(_lines(codes[::2], codes[1::2], columns)))
    return np.asarray(_ways(algorithm, state, key, rows, columns))


@partial(jax.jit, static_argnames="n")
def _lines(a: jax.Array, b: jax.Array, n: int) -> jax.Array:
    return jax.vmap(partial(interpolate, n=n))(a, b)


@partial(jax.jit, static_argnames=("algorithm", "rows", "columns"))
def _ways(algorithm: Algorithm, state: Any, key: jax.Array, rows: int, columns: int) -> jax.Array:
    first = layers(algorithm.sample, state)[0]
    latents = activations_before(algorithm.sample, first, state, key, 2 * rows).reshape(2 * rows, -1)
    ways = jax.vmap(lambda a, b: slerp(a, b, columns))(latents[::2], latents[1::2])
    images = images_after(algorithm.sample, first, state, ways.reshape(-1, *first.shape))
    return images.reshape(rows, columns, *images.shape[1:])
