"""Distributions over sparse codes, fitted to the codes of training data.

``factorised`` draws every unit for itself, ``copula`` keeps which pairs of units are active together, ``clusters`` mixes the
first over groups of similar codes, and ``bootstrap`` draws the training codes themselves: what a perfect model of the codes
could reach at best, and no generative model.
"""

import math
from typing import Literal, TypeAlias, get_args

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import ndtr, ndtri

from saegan_jax.errors import require, require_choice, require_non_negative

Sampler = Literal["factorised", "copula", "clusters", "bootstrap"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)


@flax.struct.dataclass
class FactorisedPrior:
    """Independent units: unit j is on with probability ``density[j]``; its magnitude then follows ``quantiles[:, j]``.

    Attributes:
      density: ``(d_sae,)``, P(h_j active).
      quantiles: ``(n_quantiles, d_sae)``, equally spaced quantiles of the active magnitudes, from minimum to maximum.
      scale: ``(d_sae,)``, root mean square of h_j, at least ``MIN_SCALE``; what a network divides codes by.
    """

    density: jax.Array
    quantiles: jax.Array
    scale: jax.Array


@flax.struct.dataclass
class CopulaPrior:
    """Units that are active together as often as in the data, pair by pair: see :func:`fit_copula`.

    Attributes:
      density, quantiles, scale: as in :class:`FactorisedPrior`.
      root: ``(d_sae, d_sae)``, rows of norm 1; ``root @ root.T`` is the correlation matrix R of the Gaussian behind the codes.
    """

    density: jax.Array
    quantiles: jax.Array
    scale: jax.Array
    root: jax.Array


@flax.struct.dataclass
class ClusterPrior:
    """A mixture of independent units: cluster c with probability ``weight[c]``, then as in :class:`FactorisedPrior`.

    Attributes:
      weight: ``(n_clusters,)``, of sum 1; an empty cluster has 0.
      density: ``(n_clusters, d_sae)``, P(h_j active | c).
      quantiles: ``(n_clusters, n_quantiles, d_sae)``, of the active magnitudes within the cluster.
      scale: ``(d_sae,)``, as in :class:`FactorisedPrior`, over all clusters.
    """

    weight: jax.Array
    density: jax.Array
    quantiles: jax.Array
    scale: jax.Array


@flax.struct.dataclass
class BootstrapPrior:
    """Codes of training data, each as likely as any other.

    Attributes:
      codes: ``(limit, d_sae)``, the first ``count`` rows are codes, the rest zeros: one shape for any number of them.
      count: int32 scalar.
      scale: ``(d_sae,)``, as in :class:`FactorisedPrior`, over all training codes and not these rows alone.
    """

    codes: jax.Array
    count: jax.Array
    scale: jax.Array


Prior: TypeAlias = FactorisedPrior | CopulaPrior | ClusterPrior | BootstrapPrior

MIN_SCALE = 1e-2  # a unit that never fires must not turn into a huge input
_CELLS = 128  # of the quarter turn in which the angle of a correlation is looked for
_PROJECTIONS = 10
_LLOYD_STEPS = 30


def fit_prior(
    sampler: Sampler,
    codes: jax.Array,
    key: jax.Array,
    *,
    threshold: float,
    n_quantiles: int = 33,
    n_clusters: int = 32,
    limit: int = 8192,
) -> Prior:
    """Fit a sampler of codes to codes; pure, with shapes that do not depend on their number.

    Args:
      sampler: "factorised", "copula", "clusters" or "bootstrap".
      codes: ``(n, d_sae)`` codes of training data, non-negative, ``n >= 1``.
      key: random key; the start of "clusters", and which codes "bootstrap" keeps. The others ignore it.
      threshold: a code above it counts as active, and all others are drawn as 0.
      n_quantiles: resolution of the tables of magnitudes.
      n_clusters: of "clusters".
      limit: codes that "bootstrap" keeps at most, and the rows of its table.

    Returns:
      A :class:`FactorisedPrior`, :class:`CopulaPrior`, :class:`ClusterPrior` or :class:`BootstrapPrior`.

    Raises:
      ValueError: another sampler, codes that are no matrix or none, or a setting out of range.
    """
    require_choice("sampler", sampler, SAMPLERS)
    require_non_negative(threshold=threshold)
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(
            f"fit_prior: codes must have shape (n, d_sae) with n >= 1, got {codes.shape}; flatten them first."
        )
    require(n_quantiles >= 2, "n_quantiles", n_quantiles, "a table needs at least a smallest and a largest magnitude.")
    require(n_clusters >= 1, "n_clusters", n_clusters, "a mixture needs at least one cluster.")
    require(limit >= 1, "limit", limit, "keep at least one code to draw.")
    if sampler == "copula":
        return fit_copula(codes, threshold=threshold, n_quantiles=n_quantiles)
    if sampler == "clusters":
        return fit_clusters(codes, key, threshold=threshold, n_quantiles=n_quantiles, n_clusters=n_clusters)
    if sampler == "bootstrap":
        return fit_bootstrap(codes, key, threshold=threshold, limit=limit)
    return fit_factorised(codes, threshold=threshold, n_quantiles=n_quantiles)


def sample_prior(prior: Prior, key: jax.Array, n: int) -> jax.Array:
    """Draw codes from a fitted prior of any kind.

    Args:
      prior: from :func:`fit_prior`.
      key: random key.
      n: number of codes, static.

    Returns:
      ``(n, d_sae)``; exactly zero where a unit is off.

    Raises:
      ValueError: something else than a prior.
    """
    if isinstance(prior, FactorisedPrior):
        return sample_factorised(prior, key, n)
    if isinstance(prior, CopulaPrior):
        return sample_copula(prior, key, n)
    if isinstance(prior, ClusterPrior):
        return sample_clusters(prior, key, n)
    if isinstance(prior, BootstrapPrior):
        return prior.codes[jax.random.randint(key, (n,), 0, prior.count)]
    raise ValueError(f"sample_prior: {type(prior).__name__} is no prior; make one with fit_prior.")


def fit_factorised(codes: jax.Array, *, threshold: float, n_quantiles: int = 33) -> FactorisedPrior:
    """Fit independent units to codes.

    The magnitudes are kept as a table of quantiles and not as a Beta or Gamma law: sampling then is one interpolation, where
    rejection samplers inside a training step cost more than a small generator's whole step.

    Args:
      codes: ``(n, d_sae)`` codes of training data, non-negative.
      threshold: a code above it counts as active.
      n_quantiles: resolution of the magnitude table.

    Returns:
      A :class:`FactorisedPrior`. Units that are never active get density 0 and magnitude 0.

    Raises:
      ValueError: codes that are no matrix.
    """
    if codes.ndim != 2:
        raise ValueError(f"fit_factorised: codes must have shape (n, d_sae), got {codes.shape}; flatten them first.")
    active = codes > threshold
    return FactorisedPrior(
        density=active.mean(axis=0, dtype=codes.dtype),
        # Sorted, each unit's active magnitudes are the last `count` of its column.
        quantiles=_table(jnp.sort(codes, axis=0), codes.shape[0], active.sum(axis=0), n_quantiles),
        scale=_scale(codes),
    )


def _scale(codes: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.sqrt(jnp.mean(codes**2, axis=0)), MIN_SCALE)


def _table(ordered: jax.Array, end: int | jax.Array, count: jax.Array, n_quantiles: int) -> jax.Array:
    """Quantiles ``(n_quantiles, d_sae)`` of the last ``count (d_sae,)`` rows before row ``end`` of sorted columns."""
    n = ordered.shape[0]
    level = jnp.linspace(0.0, 1.0, n_quantiles).reshape(-1, 1)
    rank = level * jnp.maximum(count - 1, 0).astype(ordered.dtype).reshape(1, -1)
    weight = rank - jnp.floor(rank)
    below = jnp.minimum((end - count).reshape(1, -1) + jnp.floor(rank).astype(jnp.int32), n - 1)
    # Above the last one the weight is 0, and whatever lies there must only be finite.
    above = jnp.minimum(below + 1, n - 1)
    low, high = (jnp.take_along_axis(ordered, index, axis=0) for index in (below, above))
    return jnp.where((count > 0).reshape(1, -1), low + weight * (high - low), 0.0)


def sample_factorised(prior: FactorisedPrior, key: jax.Array, n: int) -> jax.Array:
    """Draw codes from independent units.

    Args:
      prior: see :class:`FactorisedPrior`.
      key: random key.
      n: number of codes, static.

    Returns:
      ``(n, d_sae)``; exactly zero where a unit is off.
    """
    d_sae = prior.density.shape[0]
    # One uniform number serves both: given u < p, u / p is uniform again.
    u = jax.random.uniform(key, (n, d_sae), prior.density.dtype)
    density = prior.density.reshape(1, -1)
    active = u < density
    rank = jnp.where(active, u / jnp.where(active, density, 1.0), 0.0)
    return jnp.where(active, _magnitude(prior.quantiles, rank), 0.0)


def _magnitude(quantiles: jax.Array, rank: jax.Array) -> jax.Array:
    """Magnitudes ``(n, d_sae)`` at ``rank (n, d_sae)`` in [0, 1] of the tables ``quantiles (n_quantiles, d_sae)``."""
    n_quantiles = quantiles.shape[0]
    position = rank * (n_quantiles - 1)
    below = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, n_quantiles - 2)
    low = jnp.take_along_axis(quantiles, below, axis=0)
    high = jnp.take_along_axis(quantiles, below + 1, axis=0)
    return low + (position - below.astype(position.dtype)) * (high - low)


def fit_copula(codes: jax.Array, *, threshold: float, n_quantiles: int = 33) -> CopulaPrior:
    """Fit a zero-inflated Gaussian copula: units with the data's marginal laws and its pairwise co-activation.

    ``g ~ N(0, R)``; unit j is on iff ``Phi(g_j) > 1 - p_j``, and its magnitude then is its quantile at
    ``(Phi(g_j) - (1 - p_j)) / p_j``. Each ``R_jk`` solves ``P(j and k on) = C_jk``, the share of examples in which both are,
    shrunk towards ``p_j p_k``: the deviation ``C_jk - p_j p_k`` is weighed with ``m / (m + 1)``, where ``m = n min(p_j, 1 -
    p_j) min(p_k, 1 - p_k)`` is the count to be expected in the smallest cell of the table of the pair. Without it every pair of
    rare units that by chance never meets would ask for a correlation of -1. R is then replaced by a nearest correlation
    matrix in Frobenius norm. Marginals are kept by any R; co-activation is exact as far as R was one already.

    Time grows with ``d_sae^3`` (eigenvalues), for 1024 units some ten seconds on a processor core.

    Args:
      codes: ``(n, d_sae)`` codes of training data, non-negative.
      threshold: a code above it counts as active.
      n_quantiles: resolution of the magnitude table.

    Returns:
      A :class:`CopulaPrior`. Units that are never or always active are independent of all others.

    Raises:
      ValueError: codes that are no matrix.

    Source: Emrich and Piedmonte, A Method for Generating High-Dimensional Multivariate Binary Variates, 1991 (the Gaussian
    behind binary units); Higham, Computing the nearest correlation matrix, 2002, algorithm 3.3.
    """
    margins = fit_factorised(codes, threshold=threshold, n_quantiles=n_quantiles)
    n, p = codes.shape[0], margins.density
    active = (codes > threshold).astype(codes.dtype)
    together = jnp.matmul(active.T, active, precision=lax.Precision.HIGHEST) / n
    rarer = jnp.minimum(p, 1 - p)
    smallest = n * rarer.reshape(-1, 1) * rarer.reshape(1, -1)
    excess = (together - p.reshape(-1, 1) * p.reshape(1, -1)) * smallest / (smallest + 1)
    return CopulaPrior(
        density=p,
        quantiles=margins.quantiles,
        scale=margins.scale,
        root=_correlation_root(_tetrachoric(p, excess, n=n)),
    )


def _tetrachoric(density: jax.Array, excess: jax.Array, *, n: int) -> jax.Array:
    """Correlations with which Gaussian units above their thresholds are on together ``p_j p_k + excess`` of the time.

    With ``h = Phi^-1(1 - p)``, ``P(g_j > h_j, g_k > h_k) - p_j p_k = 1/(2 pi) int_0^asin(R_jk) exp(-(h_j^2 + h_k^2 - 2 h_j h_k
    sin t) / (2 cos^2 t)) dt``, which grows with R_jk: one pass over t, by midpoints, finds for all pairs at once where the
    integral reaches ``excess``. Out of reach is the last angle, a correlation of nearly -1 or 1.

    Args:
      density: ``(d_sae,)``.
      excess: ``(d_sae, d_sae)``, symmetric.
      n: examples behind them; a density of 0 or 1 is taken for ``1 / 2n`` from there.

    Returns:
      ``(d_sae, d_sae)`` in (-1, 1), 1 on the diagonal.

    Source: Drezner and Wesolowsky, On the computation of the bivariate normal integral, 1990, equation 3.
    """
    h = -ndtri(jnp.clip(density, 0.5 / n, 1 - 0.5 / n))
    squares = (h**2).reshape(-1, 1) + (h**2).reshape(1, -1)
    product = 2 * h.reshape(-1, 1) * h.reshape(1, -1) * jnp.sign(excess)
    target = 2 * math.pi * jnp.abs(excess)
    width = math.pi / 2 / _CELLS

    def cell(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        area, angle = carry
        middle = (i.astype(h.dtype) + 0.5) * width
        gained = width * jnp.exp((product * jnp.sin(middle) - squares) / (2 * jnp.cos(middle) ** 2))
        share = jnp.clip((target - area) / jnp.maximum(gained, 1e-30), 0.0, 1.0)
        return area + gained, angle + share * width

    _, angle = lax.fori_loop(0, _CELLS, cell, (jnp.zeros_like(target), jnp.zeros_like(target)))
    angle = jnp.minimum(angle, math.pi / 2 - width / 2)
    return _unit_diagonal(jnp.sin(jnp.sign(excess) * angle))


def _unit_diagonal(matrix: jax.Array) -> jax.Array:
    return jnp.where(jnp.eye(matrix.shape[0], dtype=bool), 1.0, matrix)


def _correlation_root(matrix: jax.Array) -> jax.Array:
    """``(d, d)`` with rows of norm 1, whose product with its transpose is a correlation matrix near ``matrix``.

    Alternating projections with Dykstra's correction onto the positive semi-definite matrices and those with unit diagonal,
    then rows scaled to norm 1. A root from eigenvalues and not a Cholesky factor, which fails on the singular matrices that
    such a projection ends at.
    """

    def eigen(symmetric: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, vectors = jnp.linalg.eigh(symmetric)
        return jnp.maximum(values, 0.0), vectors

    def project(_: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        current, correction = carry
        target = current - correction
        values, vectors = eigen(target)
        positive = jnp.matmul(vectors * values.reshape(1, -1), vectors.T, precision=lax.Precision.HIGHEST)
        return _unit_diagonal(positive), positive - target

    nearest, _ = lax.fori_loop(0, _PROJECTIONS, project, (matrix, jnp.zeros_like(matrix)))
    values, vectors = eigen(nearest)
    root = vectors * jnp.sqrt(values).reshape(1, -1)
    return root / jnp.maximum(jnp.linalg.norm(root, axis=1, keepdims=True), 1e-6)


def sample_copula(prior: CopulaPrior, key: jax.Array, n: int) -> jax.Array:
    """Draw codes from a copula.

    Args:
      prior: see :class:`CopulaPrior`.
      key: random key.
      n: number of codes, static.

    Returns:
      ``(n, d_sae)``; exactly zero where a unit is off.
    """
    g = jax.random.normal(key, (n, prior.density.shape[0]), prior.density.dtype) @ prior.root.T
    # The upper tail's probability: Phi(g) itself would round to 1 where rare units decide. Below 1, so that p = 1 is always on.
    upper = jnp.minimum(ndtr(-g), 1 - jnp.finfo(g.dtype).epsneg)
    density = prior.density.reshape(1, -1)
    active = upper < density
    rank = jnp.where(active, 1 - upper / jnp.where(active, density, 1.0), 0.0)
    return jnp.where(active, _magnitude(prior.quantiles, rank), 0.0)


def fit_clusters(
    codes: jax.Array, key: jax.Array, *, threshold: float, n_quantiles: int = 33, n_clusters: int = 32
) -> ClusterPrior:
    """Fit a mixture of independent units: k-means on the codes, then :func:`fit_factorised` within each cluster.

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
      ValueError: codes that are no matrix.

    Source: Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding, 2007, section 2.2.
    """
    if codes.ndim != 2:
        raise ValueError(f"fit_clusters: codes must have shape (n, d_sae), got {codes.shape}; flatten them first.")
    active = codes > threshold
    member = _k_means(jnp.where(active, codes, 0.0), key, n_clusters)
    inside = jax.nn.one_hot(member, n_clusters, dtype=codes.dtype)
    size = inside.sum(axis=0)
    on = jnp.matmul(inside.T, active.astype(codes.dtype), precision=lax.Precision.HIGHEST)  # counts, exact below 2^24
    # Sorted by cluster first, each cluster is a block of rows that ends where the next one starts.
    rows = jnp.broadcast_to(member.reshape(-1, 1), codes.shape)
    _, ordered = lax.sort((rows, codes), dimension=0, num_keys=2)
    ends = jnp.cumsum(size).astype(jnp.int32)
    return ClusterPrior(
        weight=size / codes.shape[0],
        density=on / jnp.maximum(size, 1.0).reshape(-1, 1),
        quantiles=jax.vmap(lambda end, count: _table(ordered, end, count, n_quantiles))(ends, on.astype(jnp.int32)),
        scale=_scale(codes),
    )


def _k_means(x: jax.Array, key: jax.Array, n_clusters: int) -> jax.Array:
    """The cluster of each row of ``x (n, d)``: int32 ``(n,)`` in [0, n_clusters)."""
    squares = jnp.sum(x**2, axis=1)

    def squared_distances(centres: jax.Array) -> jax.Array:
        cross = jnp.matmul(x, centres.T, precision=lax.Precision.HIGHEST)
        distances = squares.reshape(-1, 1) - 2 * cross + jnp.sum(centres**2, axis=1).reshape(1, -1)
        return jnp.maximum(distances, 0.0)

    def add(carry: tuple[jax.Array, jax.Array], step_key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        nearest, centre = carry
        nearest = jnp.minimum(nearest, squared_distances(centre.reshape(1, -1))[:, 0])
        following = x[jax.random.categorical(step_key, jnp.log(nearest))]
        return (nearest, following), centre

    keys = jax.random.split(key, n_clusters + 1)
    first = x[jax.random.randint(keys[0], (), 0, len(x))]
    _, centres = lax.scan(add, (jnp.full(len(x), jnp.inf, x.dtype), first), keys[1:])

    def lloyd(_: jax.Array, centres: jax.Array) -> jax.Array:
        inside = jax.nn.one_hot(jnp.argmin(squared_distances(centres), axis=1), n_clusters, dtype=x.dtype)
        size = inside.sum(axis=0).reshape(-1, 1)
        means = jnp.matmul(inside.T, x, precision=lax.Precision.HIGHEST) / jnp.maximum(size, 1.0)
        return jnp.where(size > 0, means, centres)

    return jnp.argmin(squared_distances(lax.fori_loop(0, _LLOYD_STEPS, lloyd, centres)), axis=1).astype(jnp.int32)


def sample_clusters(prior: ClusterPrior, key: jax.Array, n: int) -> jax.Array:
    """Draw codes from a mixture.

    Args:
      prior: see :class:`ClusterPrior`.
      key: random key.
      n: number of codes, static.

    Returns:
      ``(n, d_sae)``; exactly zero where a unit is off.
    """
    n_clusters, n_quantiles, d_sae = prior.quantiles.shape
    cluster_key, key = jax.random.split(key)
    cluster = jax.random.categorical(cluster_key, jnp.log(prior.weight), shape=(n,))
    u = jax.random.uniform(key, (n, d_sae), prior.density.dtype)
    density = prior.density[cluster]
    active = u < density
    rank = jnp.where(active, u / jnp.where(active, density, 1.0), 0.0)
    # All clusters' tables below each other, looked up in place: gathered they would be a whole table for every code drawn.
    position = rank * (n_quantiles - 1)
    below = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, n_quantiles - 2)
    tables = prior.quantiles.reshape(n_clusters * n_quantiles, d_sae)
    first = (cluster * n_quantiles).astype(jnp.int32).reshape(-1, 1)
    low, high = (jnp.take_along_axis(tables, first + below + i, axis=0) for i in (0, 1))
    return jnp.where(active, low + (position - below.astype(position.dtype)) * (high - low), 0.0)


def fit_bootstrap(codes: jax.Array, key: jax.Array, *, threshold: float, limit: int = 8192) -> BootstrapPrior:
    """Keep training codes to draw from: with all of them kept, what a perfect model of the codes would draw.

    Args:
      codes: ``(n, d_sae)`` codes of training data, non-negative.
      key: random key; of more than ``limit`` codes so many are kept, chosen without replacement.
      threshold: a code not above it is kept as 0.
      limit: rows of the table, whatever ``n`` is.

    Returns:
      A :class:`BootstrapPrior`.

    Raises:
      ValueError: codes that are no matrix.

    Source: Efron, Bootstrap Methods: Another Look at the Jackknife, 1979, section 2.
    """
    if codes.ndim != 2:
        raise ValueError(f"fit_bootstrap: codes must have shape (n, d_sae), got {codes.shape}; flatten them first.")
    n = codes.shape[0]
    kept = codes[jax.random.permutation(key, n)[:limit]] if n > limit else codes
    return BootstrapPrior(
        codes=jnp.pad(jnp.where(kept > threshold, kept, 0.0), ((0, limit - len(kept)), (0, 0))),
        count=jnp.asarray(len(kept), jnp.int32),
        scale=_scale(codes),
    )
