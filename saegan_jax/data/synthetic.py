"""Data made on the fly whose truth is known: sparse combinations of the atoms of a dictionary."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax.errors import require


class SparseMixture(NamedTuple):
    """``x = sum_j h_j w_j + noise``.

    Attributes:
      atoms: ``(n_atoms, d)``, unit rows w_j.
      active: mean number of atoms in one example; each is on independently with probability ``active / n_atoms``.
      noise: standard deviation of Gaussian noise on every coordinate.
    """

    atoms: jax.Array
    active: float
    noise: float


def sparse_mixture(key: jax.Array, *, n_atoms: int, d: int, active: float, noise: float = 0.0) -> SparseMixture:
    """Atoms in random directions: ``n_atoms > d`` is superposition, more features than dimensions.

    Args:
      key: random key.
      n_atoms: features.
      d: dimensions.
      active: mean number of features in one example, at most ``n_atoms``.
      noise: see :class:`SparseMixture`.

    Raises:
      ConfigError: more active atoms than there are.
    """
    require(0 < active <= n_atoms, "active", active, f"it must lie above 0 and at most at n_atoms={n_atoms}.")
    require(noise >= 0, "noise", noise, "it is a standard deviation and must be zero or above.")
    atoms = jax.random.normal(key, (n_atoms, d))
    return SparseMixture(atoms / jnp.linalg.norm(atoms, axis=-1, keepdims=True), active, noise)


def draw_mixture(mixture: SparseMixture, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """``n`` examples and their true codes.

    Magnitudes of active atoms are uniform on [0.5, 1.5].

    Returns:
      ``(x, h)``: ``(n, d)`` and ``(n, n_atoms)``.
    """
    on_key, size_key, noise_key = jax.random.split(key, 3)
    n_atoms, d = mixture.atoms.shape
    on = jax.random.bernoulli(on_key, mixture.active / n_atoms, (n, n_atoms))
    h = jnp.where(on, jax.random.uniform(size_key, (n, n_atoms), minval=0.5, maxval=1.5), 0.0)
    return h @ mixture.atoms + mixture.noise * jax.random.normal(noise_key, (n, d)), h
