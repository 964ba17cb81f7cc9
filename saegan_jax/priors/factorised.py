"""Independent units."""

import flax.struct
import jax
import jax.numpy as jnp

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


@flax.struct.dataclass
class FactorisedPrior:
    """Independent units: unit j is on with probability ``density[j]``; its magnitude then follows ``quantiles[:, j]``.

    Attributes:
      density: ``(d_sae,)``, P(h_j active).
      quantiles: ``(n_quantiles, d_sae)``, equally spaced quantiles of the active magnitudes, from minimum to maximum.
      scale: ``(d_sae,)``, see :func:`saegan_jax.priors.base.code_scale`.
    """

    density: jax.Array
    quantiles: jax.Array
    scale: jax.Array


def fit_factorised(
    codes: jax.Array, key: jax.Array | None = None, *, threshold: float, n_quantiles: int = N_QUANTILES
) -> FactorisedPrior:
    """Fit independent units to codes: ``p_j = mean_n [h_nj > threshold]``, and quantiles of ``h_nj`` where it is above.

    The magnitudes are kept as a table of quantiles and not as a Beta or Gamma law: sampling then is one interpolation, where
    rejection samplers inside a training step cost more than a small generator's whole step.

    Args:
      codes: ``(n, d_sae)`` codes of training data; non-negative but for a negative ``threshold``.
      key: not read; every prior's ``fit`` has it.
      threshold: a code above it counts as active.
      n_quantiles: resolution of the magnitude table.

    Returns:
      A :class:`FactorisedPrior`. Units that are never active get density 0 and magnitude 0.

    Raises:
      ValueError: codes that are no matrix or none, or a table of fewer than two quantiles.
    """
    check_codes(codes)
    check_n_quantiles(n_quantiles)
    active = codes > threshold
    # Sorted, each unit's active magnitudes are the last `count` of its column.
    ordered, count = jnp.sort(codes, axis=0), active.sum(axis=0)
    return FactorisedPrior(
        density=active.mean(axis=0, dtype=codes.dtype),
        quantiles=quantile_table(ordered, codes.shape[0], count, n_quantiles=n_quantiles),
        scale=code_scale(codes),
    )


def sample_factorised(fitted: FactorisedPrior, key: jax.Array, n: int) -> jax.Array:
    """Draw codes from independent units.

    Args:
      fitted: from :func:`fit_factorised`.
      key: random key.
      n: number of codes, static.

    Returns:
      ``(n, d_sae)``; exactly zero where a unit is off.

    Raises:
      ValueError: what another prior fitted.
    """
    check_fitted(fitted, FactorisedPrior)
    n_quantiles, d_sae = fitted.quantiles.shape
    # One uniform number serves both: given u < p, u / p is uniform again.
    u = jax.random.uniform(key, (n, d_sae), fitted.density.dtype)
    density = fitted.density.reshape(1, -1)
    active = u < density
    rank = jnp.where(active, u / jnp.where(active, density, 1.0), 0.0)
    return jnp.where(active, magnitudes_at(fitted.quantiles, rank, n_quantiles=n_quantiles), 0.0)


FACTORISED = Prior(fit=fit_factorised, sample=sample_factorised)
