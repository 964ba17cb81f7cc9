"""Latent inversion: a latent that drew an image is found again."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import normal

from saegan_jax.steering import invert

WEIGHTS = normal(3, 16, seed=1)


def draw(z):
    """Four by four pixels of three latents; no two latents draw one image."""
    return jnp.tanh(z @ WEIGHTS).reshape(-1, 4, 4, 1)


def test_the_latent_of_a_sample_is_found_from_every_start():
    z = normal(1, 3)
    found = invert(draw, draw(z)[0], 0.3 * normal(4, 3, seed=2), steps=400, learning_rate=0.1)
    assert found.errors.shape == (400, 4)
    np.testing.assert_allclose(found.latent, np.broadcast_to(z, (4, 3)), atol=1e-3)
    assert (np.asarray(found.error) < 1e-3).all()
    assert (np.asarray(found.errors[0]) > 0.1).all()


def test_starts_do_not_see_each_other():
    start, target = normal(3, 3, seed=3), draw(normal(1, 3))[0]
    together = invert(draw, target, start, steps=5, learning_rate=0.1)
    alone = invert(draw, target, start[1:2], steps=5, learning_rate=0.1)
    np.testing.assert_allclose(together.latent[1], alone.latent[0], rtol=1e-5, atol=1e-6)


def test_a_target_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"target must have the shape of an image, \(4, 4, 1\), got \(2, 2, 1\)"):
        invert(draw, jnp.zeros((2, 2, 1)), normal(1, 3), steps=1, learning_rate=0.1)
