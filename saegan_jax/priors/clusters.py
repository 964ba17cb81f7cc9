"""A mixture of independent units over groups of similar codes."""

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from saegan_jax.errors import require
from saegan_jax.priors.base import (
    N_QUANTILES,
    Prior,
    check_codes,
    check_fitted,
    check_n_quantiles,
    code_scale,
    magnitudes_at,
    quantile_table,
)

_LLOYD_STEPS = 30


@flax.struct.dataclass
class ClusterPrior:
    """A mixture of independent units: cluster c with probability ``weight[c]``, then units of that cluster.

    Attributes:
      weight: ``(n_clusters,)``, of sum 1; an empty cluster has 0.
      density: ``(n_clusters, d_sae)``, P(h_j active | c).
      quantiles: ``(n_clusters, n_quantiles, d_sae)``, of the active magnitudes within the cluster.
      scale: ``(d_sae,)``, over all clusters, see :func:`saegan_jax.priors.base.code_scale`.
    """

    weight: jax.Array
    density: jax.Array
    quantiles: jax.Array
    scale: jax.Array


def fit_clusters(
    codes: jax.Array, key: jax.Array, *, threshold: float, n_quantiles: int = N_QUANTILES, n_clusters: int = 32
) -> ClusterPrior:
    """Fit a mixture of independent units: k-means on the codes, then densities and quantiles within each cluster.

    K-means sees codes with inactive units at 0, unscaled: with decoder rows of equal norm that is nearly the distance of what
    they decode to. It starts from k-means++ and takes 30 of Lloyd's steps.

    Args:
      codes: ``(n, d_sae)`` codes of training data, non-negative.
      key: random key of the start.
      threshold: a code above it counts as active.
      n_quantiles: resolution of the magnitude tables.
      n_clusters: of the mixture; those beyond the number of distinct codes stay empty.

    Returns:
      A :class:`ClusterPrior`.

    Raises:
      ValueError: codes that are no matrix or none, no cluster, or a table of fewer than two quantiles.

    Source: Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding, 2007, section 2.2.
    """
    check_codes(codes)
    check_n_quantiles(n_quantiles)
    require(n_clusters >= 1, "n_clusters", n_clusters, "a mixture needs at least one cluster.")
    active = codes > threshold
    member = _k_means(jnp.where(active, codes, 0.0), key, n_clusters=n_clusters)
    inside = jax.nn.one_hot(member, n_clusters, dtype=codes.dtype)
    size = inside.sum(axis=0)
    on = jnp.matmul(inside.T, active.astype(codes.dtype), precision=lax.Precision.HIGHEST)  # counts, exact below 2^24
    # Sorted by cluster first, each cluster is a block of rows that ends where the next one starts.
    rows = jnp.broadcast_to(member.reshape(-1, 1), codes.shape)
    _, ordered = lax.sort((rows, codes), dimension=0, num_keys=2)
    ends = jnp.cumsum(size).astype(jnp.int32)
    table = jax.vmap(lambda end, count: quantile_table(ordered, end, count, n_quantiles=n_quantiles))
    return ClusterPrior(
        weight=size / codes.shape[0],
        density=on / jnp.maximum(size, 1.0).reshape(-1, 1),
        quantiles=table(ends, on.astype(jnp.int32)),
        scale=code_scale(codes),
    )


def sample_clusters(fitted: ClusterPrior, key: jax.Array, n: int) -> jax.Array:
    """Draw codes from a mixture.

    Args:
      fitted: from :func:`fit_clusters`.
      key: random key.
      n: number of codes, static.

    Returns:
      ``(n, d_sae)``; exactly zero where a unit is off.

    Raises:
      ValueError: what another prior fitted.
    """
    check_fitted(fitted, ClusterPrior)
    n_clusters, n_quantiles, d_sae = fitted.quantiles.shape
    cluster_key, key = jax.random.split(key)
    cluster = jax.random.categorical(cluster_key, jnp.log(fitted.weight), shape=(n,))
    u = jax.random.uniform(key, (n, d_sae), fitted.density.dtype)
    density = fitted.density[cluster]
    active = u < density
    rank = jnp.where(active, u / jnp.where(active, density, 1.0), 0.0)
    # The tables of all clusters lie below each other: gathered they would be a whole table for every code drawn.
    tables = fitted.quantiles.reshape(n_clusters * n_quantiles, d_sae)
    first = (cluster * n_quantiles).astype(jnp.int32).reshape(-1, 1)
    return jnp.where(active, magnitudes_at(tables, rank, first=first, n_quantiles=n_quantiles), 0.0)


CLUSTERS = Prior(fit=fit_clusters, sample=sample_clusters)


def _k_means(x: jax.Array, key: jax.Array, *, n_clusters: int) -> jax.Array:
    """The cluster of each row of ``x (n, d)``: int32 ``(n,)`` in [0, n_clusters)."""
    squares = jnp.sum(x**2, axis=1)

    def lloyd(_: jax.Array, centres: jax.Array) -> jax.Array:
        inside = jax.nn.one_hot(jnp.argmin(_distances(x, squares, centres), axis=1), n_clusters, dtype=x.dtype)
        size = inside.sum(axis=0).reshape(-1, 1)
        means = jnp.matmul(inside.T, x, precision=lax.Precision.HIGHEST) / jnp.maximum(size, 1.0)
        return jnp.where(size > 0, means, centres)

    centres = lax.fori_loop(0, _LLOYD_STEPS, lloyd, _k_means_plus_plus(x, squares, key, n_clusters=n_clusters))
    return jnp.argmin(_distances(x, squares, centres), axis=1).astype(jnp.int32)


def _k_means_plus_plus(x: jax.Array, squares: jax.Array, key: jax.Array, *, n_clusters: int) -> jax.Array:
    """Starting centres ``(n_clusters, d)``: rows of ``x``, drawn in proportion to the squared distance from those before."""

    def add(carry: tuple[jax.Array, jax.Array], step_key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        nearest, centre = carry
        nearest = jnp.minimum(nearest, _distances(x, squares, centre.reshape(1, -1))[:, 0])
        following = x[jax.random.categorical(step_key, jnp.log(nearest))]
        return (nearest, following), centre

    keys = jax.random.split(key, n_clusters + 1)
    first = x[jax.random.randint(keys[0], (), 0, len(x))]
    _, centres = lax.scan(add, (jnp.full(len(x), jnp.inf, x.dtype), first), keys[1:])
    return centres


def _distances(x: jax.Array, squares: jax.Array, centres: jax.Array) -> jax.Array:
    """Squared distances ``(n, k)`` from ``x (n, d)``, of squared norms ``squares (n,)``, to ``centres (k, d)``."""
    cross = jnp.matmul(x, centres.T, precision=lax.Precision.HIGHEST)
    distances = squares.reshape(-1, 1) - 2 * cross + jnp.sum(centres**2, axis=1).reshape(1, -1)
    return jnp.maximum(distances, 0.0)
