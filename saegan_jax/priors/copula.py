"""Units that are active together as often as in the data, pair by pair: a zero-inflated Gaussian copula."""

import math

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import ndtr, ndtri

from saegan_jax.priors.base import N_QUANTILES, Prior, check_fitted, magnitudes_at
from saegan_jax.priors.factorised import fit_factorised

_CELLS = 128  # of the quarter turn in which the angle of a correlation is searched
_PROJECTIONS = 10


@flax.struct.dataclass
class CopulaPrior:
    """Units with their marginal laws and their pairwise co-activation: see :func:`fit_copula`.

    Attributes:
      density, quantiles, scale: as in :class:`saegan_jax.priors.FactorisedPrior`.
      root: ``(d_sae, d_sae)``, rows of norm 1; ``root @ root.T`` is the correlation matrix R of the Gaussian behind the codes.
    """

    density: jax.Array
    quantiles: jax.Array
    scale: jax.Array
    root: jax.Array


def fit_copula(
    codes: jax.Array, key: jax.Array | None = None, *, threshold: float, n_quantiles: int = N_QUANTILES
) -> CopulaPrior:
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
      key: not read; every prior's ``fit`` has it.
      threshold: a code above it counts as active.
      n_quantiles: resolution of the magnitude table.

    Returns:
      A :class:`CopulaPrior`. Units that are never or always active are independent of all others.

    Raises:
      ValueError: codes that are no matrix or none, or a table of fewer than two quantiles.

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


def sample_copula(fitted: CopulaPrior, key: jax.Array, n: int) -> jax.Array:
    """Draw codes from a copula.

    Args:
      fitted: from :func:`fit_copula`.
      key: random key.
      n: number of codes, static.

    Returns:
      ``(n, d_sae)``; exactly zero where a unit is off.

    Raises:
      ValueError: what another prior fitted.
    """
    check_fitted(fitted, CopulaPrior)
    n_quantiles, d_sae = fitted.quantiles.shape
    g = jax.random.normal(key, (n, d_sae), fitted.density.dtype) @ fitted.root.T
    # The upper tail's probability: Phi(g) itself would round to 1 where rare units decide. Below 1, so that p = 1 is always on.
    upper = jnp.minimum(ndtr(-g), 1 - jnp.finfo(g.dtype).epsneg)
    density = fitted.density.reshape(1, -1)
    active = upper < density
    rank = jnp.where(active, 1 - upper / jnp.where(active, density, 1.0), 0.0)
    return jnp.where(active, magnitudes_at(fitted.quantiles, rank, n_quantiles=n_quantiles), 0.0)


COPULA = Prior(fit=fit_copula, sample=sample_copula)


def _tetrachoric(density: jax.Array, excess: jax.Array, *, n: int) -> jax.Array:
    """Correlations with which Gaussian units above their thresholds are on together ``p_j p_k + excess`` of the time.

    With ``h = Phi^-1(1 - p)``, ``P(g_j > h_j, g_k > h_k) - p_j p_k = 1/(2 pi) int_0^asin(R_jk) exp(-(h_j^2 + h_k^2 - 2 h_j h_k
    sin t) / (2 cos^2 t)) dt``, which grows with R_jk: one pass over t, by midpoints, finds for all pairs at once where the
    integral reaches ``excess``. Where no angle reaches it, the result is the last angle's, a correlation of nearly -1 or 1.

    Args:
      density: ``(d_sae,)``.
      excess: ``(d_sae, d_sae)``, symmetric.
      n: number of examples; a density of 0 or 1 is replaced by ``1 / 2n`` or ``1 - 1 / 2n``.

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


def _correlation_root(matrix: jax.Array) -> jax.Array:
    """``(d, d)`` with rows of norm 1, whose product with its transpose is a correlation matrix near ``matrix``.

    Alternating projections with Dykstra's correction onto the positive semi-definite matrices and those with unit diagonal,
    then rows scaled to norm 1. A root from eigenvalues and not a Cholesky factor, which fails on the singular matrices that
    such a projection ends at.
    """

    def project(_: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        current, correction = carry
        target = current - correction
        values, vectors = _non_negative_eigenvalues(target)
        positive = jnp.matmul(vectors * values.reshape(1, -1), vectors.T, precision=lax.Precision.HIGHEST)
        return _unit_diagonal(positive), positive - target

    nearest, _ = lax.fori_loop(0, _PROJECTIONS, project, (matrix, jnp.zeros_like(matrix)))
    values, vectors = _non_negative_eigenvalues(nearest)
    root = vectors * jnp.sqrt(values).reshape(1, -1)
    return root / jnp.maximum(jnp.linalg.norm(root, axis=1, keepdims=True), 1e-6)


def _non_negative_eigenvalues(symmetric: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues ``(d,)``, negative ones set to 0, and eigenvectors ``(d, d)``."""
    values, vectors = jnp.linalg.eigh(symmetric)
    return jnp.maximum(values, 0.0), vectors


def _unit_diagonal(matrix: jax.Array) -> jax.Array:
    return jnp.where(jnp.eye(matrix.shape[0], dtype=bool), 1.0, matrix)
