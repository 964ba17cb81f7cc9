"""Distributions over sparse codes, fitted to the codes of training data.

``factorised`` draws every unit for itself, ``copula`` keeps which pairs of units are active together, ``clusters`` mixes the
first over groups of similar codes, ``learned`` is a network that draws unit after unit, and ``bootstrap`` draws the training
codes themselves: a diagnostic. A new one is a file with a :class:`Prior` and a line in ``PRIORS``.
"""

from typing import Any, TypeAlias

import jax

from saegan_jax.errors import require_choice, require_non_negative
from saegan_jax.priors.base import MIN_SCALE, Prior, check_codes, code_scale, settings_of
from saegan_jax.priors.bootstrap import BOOTSTRAP, BootstrapPrior, fit_bootstrap, sample_bootstrap
from saegan_jax.priors.clusters import CLUSTERS, ClusterPrior, fit_clusters, sample_clusters
from saegan_jax.priors.copula import COPULA, CopulaPrior, fit_copula, sample_copula
from saegan_jax.priors.factorised import FACTORISED, FactorisedPrior, fit_factorised, sample_factorised
from saegan_jax.priors.learned import LEARNED, LearnedPrior, fit_learned, sample_learned

PRIORS: dict[str, Prior] = {
    "factorised": FACTORISED,
    "copula": COPULA,
    "clusters": CLUSTERS,
    "bootstrap": BOOTSTRAP,
    "learned": LEARNED,
}
Sampler: TypeAlias = str  # a name in PRIORS
SAMPLERS: tuple[Sampler, ...] = tuple(PRIORS)  # those that come with the package


def fit_prior(sampler: Sampler, codes: jax.Array, key: jax.Array, *, threshold: float, **settings: Any) -> Any:
    """Fit a prior to codes; pure, with shapes that do not depend on their number.

    Args:
      sampler: a name in ``PRIORS``.
      codes: ``(n, d_sae)`` codes of training data, non-negative, ``n >= 1``.
      key: random key, which some priors read.
      threshold: a code above it counts as active, and all others are drawn as 0.
      **settings: of any prior; those that this one does not take are left out, so that one set of them serves several.

    Returns:
      What the prior's ``fit`` returns, for instance a :class:`FactorisedPrior`: for :func:`sample_prior` with this sampler.

    Raises:
      ValueError: no such sampler, codes that are no matrix or none, a setting that no prior has or that is out of range.
    """
    prior = find_prior(sampler)
    require_non_negative(threshold=threshold)
    check_codes(codes)
    known = dict.fromkeys(name for other in PRIORS.values() for name in settings_of(other))
    if unknown := [name for name in settings if name not in known]:
        raise ValueError(f"fit_prior: no prior has a setting {', '.join(unknown)}; choose from {', '.join(known)}.")
    taken = settings_of(prior)
    return prior.fit(codes, key, threshold=threshold, **{k: v for k, v in settings.items() if k in taken})


def sample_prior(sampler: Sampler, fitted: Any, key: jax.Array, n: int) -> jax.Array:
    """Draw codes from a fitted prior.

    Args:
      sampler: the name with which it was fitted.
      fitted: from :func:`fit_prior`.
      key: random key.
      n: number of codes, static.

    Returns:
      ``(n, d_sae)``; exactly zero where a unit is off.

    Raises:
      ValueError: no such sampler, or what another one fitted.
    """
    return find_prior(sampler).sample(fitted, key, n)


def find_prior(sampler: Sampler) -> Prior:
    """The record of that name.

    Raises:
      ConfigError: there is none.
    """
    require_choice("sampler", sampler, tuple(PRIORS))
    return PRIORS[sampler]


__all__ = [
    "MIN_SCALE",
    "PRIORS",
    "SAMPLERS",
    "BootstrapPrior",
    "ClusterPrior",
    "CopulaPrior",
    "FactorisedPrior",
    "LearnedPrior",
    "Prior",
    "Sampler",
    "code_scale",
    "find_prior",
    "fit_bootstrap",
    "fit_clusters",
    "fit_copula",
    "fit_factorised",
    "fit_learned",
    "fit_prior",
    "sample_bootstrap",
    "sample_clusters",
    "sample_copula",
    "sample_factorised",
    "sample_learned",
    "sample_prior",
    "settings_of",
]
