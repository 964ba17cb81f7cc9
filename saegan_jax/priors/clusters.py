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
from saegan_jax.priors.k_means import k_means, k_means_operations


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
    member = k_means(jnp.where(active, codes, 0.0), key, n_clusters=n_clusters)
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


def fit_operations(n: int, d_sae: int, *, n_clusters: int = 32) -> float:
    """Floating-point operations of :func:`fit_clusters`: those of k-means."""
    return k_means_operations(n, d_sae, n_clusters=n_clusters)


CLUSTERS = Prior(fit=fit_clusters, sample=sample_clusters, operations=fit_operations)
