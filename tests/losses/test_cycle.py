"""Losses of codes over the units that are compared: the others change neither value nor gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax import losses

COMPARED = np.array([True, False, True, True, False])
X, Y = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("loss", [losses.code_squared_error, losses.activity_cross_entropy])
def test_only_compared_units_count(loss: Any) -> None:
    def compared(y: jax.Array) -> jax.Array:
        return loss(X, y, compared=COMPARED).sum()

    value, gradient = jax.value_and_grad(compared)(jnp.asarray(Y))
    wanted, part = jax.value_and_grad(lambda y: loss(X[:, COMPARED], y).sum())(jnp.asarray(Y[:, COMPARED]))
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    np.testing.assert_allclose(gradient[:, COMPARED], part, rtol=1e-5)
    assert not np.asarray(gradient)[:, ~COMPARED].any()
    np.testing.assert_array_equal(loss(X, Y, compared=np.ones(5, bool)), loss(X, Y))
    assert not np.asarray(loss(X, Y, compared=np.zeros(5, bool))).any()


@pytest.mark.parametrize("wrong", [COMPARED[:4], COMPARED.astype(np.float32), COMPARED.reshape(1, 5)])
def test_compared_is_one_bool_a_unit(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"but must be bool of shape \(5,\): one for each unit"):
        losses.code_squared_error(X, Y, compared=wrong)
