"""Strict numerics for every test: no implicit dtype or rank promotion, and warnings are errors (see pyproject.toml)."""

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_platforms", "cpu")


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)
