"""Rows of images in which one thing changes."""

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.evaluation import strips
from saegan_jax.evaluation.strips import LEVELS, draw_rows, edited_codes, interpolations, unit_strips

D_SAE = 3


def sample(state, key, n, *, code):
    """Images that show their code and, in the last pixel, their noise."""
    noise = jax.random.normal(key, (n, 1), jnp.float32)
    return jnp.concatenate([code, noise], axis=1).reshape(n, 1, -1, 1)


DRAWS = Algorithm(
    init=lambda key: None,
    step=lambda state, batch: (state, None),
    sample=sample,
    draw_codes=lambda state, key, n: jax.random.uniform(key, (n, 2 * D_SAE), jnp.float32),
)


def test_edited_codes_change_one_unit_at_every_position():
    base = np.arange(6, dtype=np.float32)
    codes = edited_codes(base, np.array([2]), np.array([10.0], np.float32), d_sae=D_SAE)
    assert codes.shape == (len(LEVELS), 6)
    for level, code in zip(LEVELS, codes, strict=True):
        np.testing.assert_array_equal(code, [0, 1, 10 * level, 3, 4, 10 * level])
    np.testing.assert_array_equal(base, np.arange(6))


def test_in_a_strip_only_the_unit_changes():
    usual = np.array([1.0, 3.0], np.float32)
    drawn = unit_strips(DRAWS, (), np.array([0, 2]), usual, d_sae=D_SAE, rows=2, seed=0)
    assert drawn.shape == (2, 2, len(LEVELS), 1, 7, 1)
    pixels = drawn[..., 0, :, 0]
    np.testing.assert_allclose(pixels[1, 0, :, 2], 3 * np.array(LEVELS), rtol=1e-6)
    np.testing.assert_allclose(pixels[1, 1, :, 5], 3 * np.array(LEVELS), rtol=1e-6)
    rest = pixels[0][..., [1, 2, 4, 5, 6]]  # the noise is the last
    np.testing.assert_array_equal(rest, np.broadcast_to(rest[:, :1], rest.shape))
    assert (rest[0, 0] != rest[1, 0]).all()  # the rows are of other codes and other noise
    np.testing.assert_array_equal(pixels[0, :, 0, 6], pixels[1, :, 0, 6])


def test_codes_of_many_units_are_never_in_memory_at_once(monkeypatch):
    units, usual = np.array([0, 2, 1]), np.array([1.0, 3.0, 2.0], np.float32)
    whole = unit_strips(DRAWS, (), units, usual, d_sae=D_SAE, rows=2, seed=0)
    sizes = []

    def watched(algorithm, state, key, codes):
        sizes.append(codes.shape[0] * codes.shape[1])
        return draw_rows(algorithm, state, key, codes)

    monkeypatch.setattr(strips, "BATCH", 20)
    monkeypatch.setattr(strips, "draw_rows", watched)
    np.testing.assert_array_equal(unit_strips(DRAWS, (), units, usual, d_sae=D_SAE, rows=2, seed=0), whole)
    assert sizes == [20, 10]


def test_interpolated_codes_end_at_two_codes_of_the_prior_with_one_noise_a_row():
    ways = interpolations(DRAWS, (), rows=2, columns=3, seed=1)[..., 0, :, 0]
    assert ways.shape == (2, 3, 7)
    np.testing.assert_allclose(ways[:, 1, :6], (ways[:, 0, :6] + ways[:, 2, :6]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(ways[:, 0, 6], ways[:, 2, 6])
    assert ways[0, 0, 6] != ways[1, 0, 6]
