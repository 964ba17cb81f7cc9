"""Kinds of variational autoencoder; a new one is a file with a :class:`Kind` and a line in ``KINDS``."""

from saegan_jax.algorithms.vae.kinds.base import Kind
from saegan_jax.algorithms.vae.kinds.gaussian import GAUSSIAN
from saegan_jax.algorithms.vae.kinds.kl_sae import KL_SAE, KLSAEConfig
from saegan_jax.algorithms.vae.kinds.sparse import SPARSE, SparseConfig

KINDS: dict[str, Kind] = {"gaussian": GAUSSIAN, "sparse": SPARSE, "kl_sae": KL_SAE}

__all__ = ["KINDS", "KLSAEConfig", "Kind", "SparseConfig"]
