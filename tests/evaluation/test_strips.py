"""Rows of images in which one thing changes, and training images beside samples."""

import jax
import jax.numpy as jnp
import numpy as np
from helpers import normal

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.evaluation.nearest import nearest_training_images
from saegan_jax.evaluation.strips import LEVELS, edited_codes, interpolations, slerp, unit_strips

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
    strips = unit_strips(DRAWS, (), np.array([0, 2]), usual, d_sae=D_SAE, rows=2, seed=0)
    assert strips.shape == (2, 2, len(LEVELS), 1, 7, 1)
    pixels = strips[..., 0, :, 0]
    np.testing.assert_allclose(pixels[1, 0, :, 2], 3 * np.array(LEVELS), rtol=1e-6)
    np.testing.assert_allclose(pixels[1, 1, :, 5], 3 * np.array(LEVELS), rtol=1e-6)
    rest = pixels[0][..., [1, 2, 4, 5, 6]]  # the noise is the last
    np.testing.assert_array_equal(rest, np.broadcast_to(rest[:, :1], rest.shape))
    assert (rest[0, 0] != rest[1, 0]).all()  # the rows are of other codes and other noise
    np.testing.assert_array_equal(pixels[0, :, 0, 6], pixels[1, :, 0, 6])


def test_interpolated_codes_end_at_two_codes_of_the_prior_with_one_noise_a_row():
    ways = interpolations(DRAWS, (), rows=2, columns=3, seed=1)[..., 0, :, 0]
    assert ways.shape == (2, 3, 7)
    np.testing.assert_allclose(ways[:, 1, :6], (ways[:, 0, :6] + ways[:, 2, :6]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(ways[:, 0, 6], ways[:, 2, 6])
    assert ways[0, 0, 6] != ways[1, 0, 6]


def test_an_arc_ends_where_it_should_and_keeps_the_norm():
    a, b = normal(50), normal(50, seed=1)
    way = slerp(a, b, 5)
    np.testing.assert_allclose(way[0], a, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(way[-1], b, rtol=1e-5, atol=1e-5)
    even = np.linspace(np.linalg.norm(a), np.linalg.norm(b), 5)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), even, rtol=1e-5)
    assert np.linalg.norm((a + b) / 2) < 0.9 * even[2]  # as the straight line does not
    np.testing.assert_allclose(slerp(a, a, 3), np.stack([a] * 3), rtol=1e-5)
    np.testing.assert_allclose(slerp(a, -a, 3)[1], np.zeros(50), atol=1e-5)


def test_the_nearest_training_image_of_a_copy_is_itself():
    training = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
    image = training[7].copy()
    image[0, 0] = 0
    found, distance = nearest_training_images(np.stack([training[3], image]), training)
    np.testing.assert_array_equal(found, training[[3, 7]])
    assert distance[0] == 0
    assert abs(distance[1] - training[7, 0, 0, 0] / 255 / 4) < 1e-6
