"""Codes of training data themselves: what a perfect model of the codes could reach at best, and no generative model."""

import flax.struct
import jax
import jax.numpy as jnp

from saegan_jax.errors import require
from saegan_jax.priors.base import Prior, check_codes, check_fitted, code_scale


@flax.struct.dataclass
class BootstrapPrior:
    """Codes of training data, each as likely as any other.

    Attributes:
      codes: ``(limit, d_sae)``, the first ``count`` rows are codes, the rest zeros: one shape for any number of them.
      count: int32 scalar.
      scale: ``(d_sae,)``, over all training codes and not these rows alone, see :func:`saegan_jax.priors.base.code_scale`.
    """

    codes: jax.Array
    count: jax.Array
    scale: jax.Array


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
      ValueError: codes that are no matrix or none, or a limit below one.

    Source: Efron, Bootstrap Methods: Another Look at the Jackknife, 1979, section 2.
    """
    check_codes(codes)
    require(limit >= 1, "limit", limit, "keep at least one code to draw.")
    n = codes.shape[0]
    kept = codes[jax.random.permutation(key, n)[:limit]] if n > limit else codes
    return BootstrapPrior(
        codes=jnp.pad(jnp.where(kept > threshold, kept, 0.0), ((0, limit - len(kept)), (0, 0))),
        count=jnp.asarray(len(kept), jnp.int32),
        scale=code_scale(codes),
    )


def sample_bootstrap(fitted: BootstrapPrior, key: jax.Array, n: int) -> jax.Array:
    """Draw training codes with replacement.

    Args:
      fitted: from :func:`fit_bootstrap`.
      key: random key.
      n: number of codes, static.

    Returns:
      ``(n, d_sae)``; exactly zero where a unit is off.

    Raises:
      ValueError: what another prior fitted.
    """
    check_fitted(fitted, BootstrapPrior)
    return fitted.codes[jax.random.randint(key, (n,), 0, fitted.count)]


BOOTSTRAP = Prior(fit=fit_bootstrap, sample=sample_bootstrap)
