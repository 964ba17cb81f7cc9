"""The sigmoid code: as the Gaussian kind, decoded through ``h = sigmoid(gain z + b)`` with the KL sparsity penalty on h."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from saegan_jax import losses
from saegan_jax.algorithms.vae.kinds.gaussian import GAUSSIAN
from saegan_jax.algorithms.vae.posterior import Draw, Posterior
from saegan_jax.algorithms.vae.state import VAEHyper
from saegan_jax.errors import require, require_non_negative, require_positive

LOGISTIC_VARIANCE = 1.702**2  # of the normal law whose distribution function is closest to the sigmoid
ON = 0.5  # a sigmoid code above it counts as active


@dataclass(frozen=True, kw_only=True)
class KLSAEConfig:
    """Settings of the sigmoid code."""

    rho: float = 0.2
    """Mean activation of the sigmoid code (kl_sae)."""
    beta_sparsity: float = 3.0
    """Weight of the sparsity penalty (kl_sae)."""
    gain: float = 2.0
    """Steepness of the sigmoid code: near 0 it is linear, far above 1 binary (kl_sae)."""

    def __post_init__(self) -> None:
        require(0 < self.rho < 1, "rho", self.rho, "it is a share of active units and must lie in (0, 1).")
        require_non_negative(beta_sparsity=self.beta_sparsity)
        require_positive(gain=self.gain)


def code_logits(config: KLSAEConfig, z: jax.Array, rho: jax.Array) -> jax.Array:
    """Logits of the code, ``gain z + b`` with b such that the prior N(0, 1) gives the code a mean of about rho.

    ``E sigmoid(gain z + b) ~ Phi(b / sqrt(gain^2 + 1.702^2))``, the sigmoid taken as a normal distribution function.

    Args: config, of which ``gain`` is read; z ``(batch, d_latent)``; rho, a scalar in (0, 1). Returns: the shape of z.
    """
    offset = jax.scipy.stats.norm.ppf(rho) * math.sqrt(config.gain**2 + LOGISTIC_VARIANCE)
    return config.gain * z + offset


def decoder_input(config: KLSAEConfig, z: jax.Array, hyper: VAEHyper) -> jax.Array:
    """``h = sigmoid(gain z + b)``, a sigmoid autoencoder's code with Gaussian logits."""
    return jax.nn.sigmoid(code_logits(config, z, hyper.rho))


def sparsity(config: KLSAEConfig, z: jax.Array, hyper: VAEHyper) -> jax.Array:
    """``sum_j KL(rho || rho_hat_j)``, ``rho_hat_j`` the mean of h_j over the batch's draws.

    Source: Ng, Sparse autoencoder, CS294A lecture notes, 2011.
    """
    return losses.kl_sparsity_from_logits(code_logits(config, z, hyper.rho), hyper.rho).sum()


def mean_l0(config: KLSAEConfig, posterior: Posterior, z: jax.Array, hyper: VAEHyper) -> jax.Array:
    """Units whose code is above one half, mean over the batch."""
    on = code_logits(config, z, hyper.rho) > math.log(ON / (1 - ON))
    return on.sum(axis=1).mean(dtype=jnp.float32)


def active(config: KLSAEConfig, draw: Draw, hyper: VAEHyper) -> jax.Array:
    """Units whose code is above one half."""
    return decoder_input(config, draw.z, hyper) > ON


KL_SAE = GAUSSIAN._replace(
    decoder_input=decoder_input,
    sparsity=sparsity,
    mean_l0=mean_l0,
    active=active,
    active_means=f"sigmoid codes above {ON}",
)
