"""Initial states of one member and of an ensemble, with and without something trained beforehand."""

import chex
import jax
import jax.numpy as jnp
import pytest

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.training.systems import init_members


def init(key, pretrained=None):
    noise = jax.random.uniform(key, (2,))
    return {"noise": noise, "pretrained": noise if pretrained is None else 2 * pretrained}


ALGORITHM = Algorithm(init=init, step=lambda state, batch: (state, ()))


def test_members_equal_single_members_and_get_their_pretrained():
    each = jnp.arange(6.0).reshape(3, 2)
    for options, given in (
        ({}, [()] * 3),
        ({"pretrained": each}, [(row,) for row in each]),
        ({"pretrained": each[1], "shared": True}, [(each[1],)] * 3),
    ):
        members = init_members(ALGORITHM, seed=4, n_seeds=3, **options)
        alone = [init(jax.random.key(4 + i), *one) for i, one in enumerate(given)]
        chex.assert_trees_all_equal(members, jax.tree.map(lambda *x: jnp.stack(x), *alone))
    one = init_members(ALGORITHM, seed=4, n_seeds=1, pretrained=each[2])
    chex.assert_trees_all_equal(one, init(jax.random.key(4), each[2]))


def test_pretrained_of_another_number_of_members_is_refused():
    with pytest.raises(ValueError, match="inconsistent sizes"):
        init_members(ALGORITHM, seed=0, n_seeds=3, pretrained=jnp.zeros((2, 2)))
