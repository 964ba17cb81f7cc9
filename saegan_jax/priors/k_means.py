"""Groups of similar codes."""

import jax
import jax.numpy as jnp
from jax import lax

LLOYD_STEPS = 30


def k_means(x: jax.Array, key: jax.Array, *, n_clusters: int) -> jax.Array:
    """The cluster of each row of ``x (n, d)``: int32 ``(n,)`` in [0, n_clusters)."""
    centres = k_means_centres(x, key, n_clusters=n_clusters)
    return jnp.argmin(distances(x, jnp.sum(x**2, axis=1), centres), axis=1).astype(jnp.int32)


def k_means_centres(x: jax.Array, key: jax.Array, *, n_clusters: int) -> jax.Array:
    """Centres ``(n_clusters, d)`` of the rows of ``x (n, d)``, by Lloyd's algorithm from k-means++."""
    squares = jnp.sum(x**2, axis=1)

    def lloyd(_: jax.Array, centres: jax.Array) -> jax.Array:
        inside = jax.nn.one_hot(jnp.argmin(distances(x, squares, centres), axis=1), n_clusters, dtype=x.dtype)
        size = inside.sum(axis=0).reshape(-1, 1)
        means = jnp.matmul(inside.T, x, precision=lax.Precision.HIGHEST) / jnp.maximum(size, 1.0)
        return jnp.where(size > 0, means, centres)

    return lax.fori_loop(0, LLOYD_STEPS, lloyd, k_means_plus_plus(x, squares, key, n_clusters=n_clusters))


def k_means_operations(n: int, d: int, *, n_clusters: int) -> float:
    """Floating-point operations of :func:`k_means`, of its matrix products: ``2 n d c (2 Lloyd + 2)`` for c clusters.

    A step of Lloyd's takes distances and means; the start and the end take distances once.
    """
    return 2.0 * n * d * n_clusters * (2 * LLOYD_STEPS + 2)


def k_means_plus_plus(x: jax.Array, squares: jax.Array, key: jax.Array, *, n_clusters: int) -> jax.Array:
    """Starting centres ``(n_clusters, d)``: rows of ``x``, drawn in proportion to the squared distance from those before."""

    def add(carry: tuple[jax.Array, jax.Array], step_key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        nearest, centre = carry
        nearest = jnp.minimum(nearest, distances(x, squares, centre.reshape(1, -1))[:, 0])
        following = x[jax.random.categorical(step_key, jnp.log(nearest))]
        return (nearest, following), centre

    keys = jax.random.split(key, n_clusters + 1)
    first = x[jax.random.randint(keys[0], (), 0, len(x))]
    _, centres = lax.scan(add, (jnp.full(len(x), jnp.inf, x.dtype), first), keys[1:])
    return centres


def distances(x: jax.Array, squares: jax.Array, centres: jax.Array) -> jax.Array:
    """Squared distances ``(n, k)`` from ``x (n, d)``, of squared norms ``squares (n,)``, to ``centres (k, d)``."""
    cross = jnp.matmul(x, centres.T, precision=lax.Precision.HIGHEST)
    distances = squares.reshape(-1, 1) - 2 * cross + jnp.sum(centres**2, axis=1).reshape(1, -1)
    return jnp.maximum(distances, 0.0)
