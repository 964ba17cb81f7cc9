"""The settings of a sparse autoencoder, checked against the variant that they name, and those that a sweep varies."""

from dataclasses import dataclass
from itertools import pairwise

import flax.struct
import jax
import jax.numpy as jnp

from saegan_jax.algorithms.sae.groups import SAESettings
from saegan_jax.algorithms.sae.variants import VARIANTS
from saegan_jax.errors import require, require_choice


@dataclass(frozen=True, kw_only=True)
class SAEConfig(SAESettings):
    """Settings of a sparse autoencoder and of its training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("variant", self.variant, tuple(VARIANTS))
        variant = VARIANTS[self.variant]
        if variant.counts_k:
            require(self.k <= self.d_sae, "k", self.k, f"there are only d_sae={self.d_sae} units to choose from.")
        able = [name for name, other in VARIANTS.items() if other.k_per_example]
        fix = f"only {' and '.join(able)} has at most k active units in every row; use variant={able[0]!r}, or turn it off."
        require(variant.k_per_example or not self.sparse_decoder, "sparse_decoder", self.sparse_decoder, fix)
        able = [name for name, other in VARIANTS.items() if other.has_target]
        fix = f"{self.variant} has no target mean activation; leave it at batch, or use {' or '.join(able)}."
        require(variant.has_target or self.rho_hat == "batch", "rho_hat", self.rho_hat, fix)
        able = [name for name, other in VARIANTS.items() if other.levels is not None]
        fix = f"only {' and '.join(able)} nests dictionaries; leave it empty for {self.variant}."
        require(variant.levels is not None or not self.levels, "levels", self.levels, fix)
        nested = self.nested
        increasing = all(0 < a < b for a, b in pairwise(nested)) and nested[-1] == self.d_sae
        fix = f"sizes must increase from at least 1 and end with d_sae={self.d_sae}."
        require(increasing, "levels", self.levels, fix)
        if variant.validate is not None:
            variant.validate(self)

    @property
    def active_above(self) -> float:
        """``active_threshold``, or the variant's default."""
        return VARIANTS[self.variant].active_above if self.active_threshold is None else self.active_threshold

    @property
    def nested(self) -> tuple[int, ...]:
        """Sizes of the dictionaries that must each reconstruct alone, the last of them ``d_sae``."""
        levels = VARIANTS[self.variant].levels
        return (self.d_sae,) if levels is None else levels(self)


@flax.struct.dataclass
class SAEHyper:
    """Settings that may differ between the members of one vmapped sweep: scalars, see :class:`SAEConfig`."""

    rho: jax.Array
    beta: jax.Array
    k: jax.Array
    learning_rate: jax.Array


def hyper(config: SAEConfig) -> SAEHyper:
    """Those of ``config``."""
    rho, beta, rate = (jnp.asarray(value, jnp.float32) for value in (config.rho, config.beta, config.learning_rate))
    return SAEHyper(rho=rho, beta=beta, k=jnp.asarray(config.k, jnp.int32), learning_rate=rate)
