"""How well a generator obeys its code, on generators whose answer is known."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.sae import SAEConfig, autoencoder, sae
from saegan_jax.evaluation.control import auc, code_r2, decoder_alone, measure_control

D = 6


def codes_of(n=40, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.uniform(1, 2, (n, D)) * (rng.random((n, D)) < [0.9, 0.7, 0.5, 0.3, 0.2, 0.1])).astype(np.float32)


def generator(read):
    """A system whose image is its code, and whose encoder reads ``read(image)``."""

    def sample(state, key, n, *, code):
        return code.reshape(n, 1, D, 1)

    return Algorithm(
        init=lambda key: (), step=lambda state, batch: (state, ()), sample=sample,
        encode=lambda state, images: read(images.reshape(-1, D)), draw_codes=lambda state, key, n: jnp.zeros((n, D)),
    )  # fmt: skip


def measured(read, **settings):
    settings = {"n_units": 3, "n_codes": 10, "key": jax.random.key(0)} | settings
    return measure_control(generator(read), (), codes_of(), **settings)


def test_a_generator_that_obeys():
    found = measured(lambda code: code)
    assert found.r2 == 1
    assert list(found.effects) == [0, 1, 2]  # the most used units
    for effect in found.effects.values():
        assert effect.auc == 1
        assert effect.others == 0
        assert effect.pixels > 0
    assert found.images.shape == (30, 1, D, 1)


def test_a_generator_that_ignores_its_code():
    found = measured(lambda code: jnp.broadcast_to(jnp.arange(D, dtype=jnp.float32), code.shape))
    assert found.r2 < 0
    assert [effect.auc for effect in found.effects.values()] == [0.5, 0.5, 0.5]


def test_a_generator_that_obeys_a_unit_only_where_no_other_is_on():
    found = measured(lambda code: jnp.where((code > 0).sum(axis=1, keepdims=True) == 1, code, 0.0))
    assert [effect.auc for effect in found.alone.values()] == [1.0, 1.0, 1.0]
    assert all(effect.auc < 0.7 for effect in found.effects.values())


def test_a_decoder_alone_draws_its_codes_within_the_range_of_images():
    config = SAEConfig(variant="topk", d_sae=D, k=2)
    functions = autoencoder(config, image_shape=(2, 3, 1))
    params = sae(config, image_shape=(2, 3, 1)).init(jax.random.key(0)).params
    alone = decoder_alone(generator(lambda code: code), config, image_shape=(2, 3, 1))
    state = SimpleNamespace(pretrained=SimpleNamespace(sae=params))
    codes = jnp.asarray(codes_of(5))
    drawn = alone.sample(state, jax.random.key(1), 5, code=codes)
    decoded = functions.decode(params, codes)
    np.testing.assert_allclose(drawn, decoded.clip(0, 1), rtol=1e-6)
    assert decoded.min() < 0 < decoded.max()
    np.testing.assert_array_equal(alone.encode(state, codes), codes)  # all but the drawing stays


def test_other_units_that_move_are_seen():
    """Every unit is read back with its right neighbour beside it."""
    found = measured(lambda code: code + jnp.roll(code, 1, axis=1))
    assert all(effect.others > 0.1 for effect in found.effects.values())
    assert found.effects[0].auc > 0.75


def test_r2_is_its_formula():
    codes = codes_of()
    other = codes + 0.1
    spread = ((codes - codes.mean(axis=0)) ** 2).sum()
    np.testing.assert_allclose(code_r2(codes, other), 1 - 0.01 * codes.size / spread, rtol=1e-5)
    assert abs(code_r2(codes, np.broadcast_to(codes.mean(axis=0), codes.shape))) < 1e-6
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
        code_r2(codes, codes[:3])


def test_auc_counts_pairs():
    assert auc(np.array([1.0, 3.0]), np.array([0.0, 2.0])) == 0.75
    assert auc(np.array([1.0]), np.array([1.0])) == 0.5
