"""The spike and slab: posterior ``gamma N(mu, s^2) + (1 - gamma) delta_0``, prior ``alpha N(0, 1) + (1 - alpha) delta_0``."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.vae.kinds.gaussian import GAUSSIAN
from saegan_jax.algorithms.vae.posterior import Posterior, draw_relaxed, ramp
from saegan_jax.algorithms.vae.state import VAEHyper
from saegan_jax.errors import require, require_choice, require_integer, require_non_negative, require_positive


@dataclass(frozen=True, kw_only=True)
class SparseConfig:
    """Settings of the spike and slab."""

    alpha: float = 0.2
    """Prior probability that a unit is active (sparse)."""
    spike_warmup: int = 0
    """Steps of the warm-up, its lambda growing linearly to 1; 0 for none (sparse)."""
    warmup_from: str = "spike"
    """What the warm-up starts from. slab: every unit active, a Gaussian VAE. spike: slabs equal to the prior's, so that at
    first only the gates can carry anything, as the paper's authors do (sparse)."""
    temperature: float = 0.5
    """Of the relaxed gates in the first step (sparse)."""
    final_temperature: float = 0.1
    """Of the relaxed gates in the last step, reached geometrically (sparse)."""

    def __post_init__(self) -> None:
        require(0 < self.alpha < 1, "alpha", self.alpha, "it is a share of active units and must lie in (0, 1).")
        require_non_negative(spike_warmup=self.spike_warmup)
        require_integer(spike_warmup=self.spike_warmup)
        require_choice("warmup_from", self.warmup_from, tuple(WARM_UPS))
        require_positive(temperature=self.temperature, final_temperature=self.final_temperature)


def gates(posterior: Posterior) -> jax.Array:
    """``gate_logits (batch, d_latent)``.

    Raises:
      ValueError: a posterior without gates.
    """
    if posterior.gate_logits is None:
        raise ValueError("this posterior has no gates; the encoder of a spike and slab gives three heads.")
    return posterior.gate_logits


def from_slab(posterior: Posterior, alpha: jax.Array, share: jax.Array) -> tuple[Posterior, jax.Array]:
    """The probability of being off is multiplied by lambda in posterior and prior: from a Gaussian VAE to the spike and slab.

    ``1 - gamma -> lambda (1 - gamma)`` and ``1 - alpha -> lambda (1 - alpha)``.

    Args: posterior with gates, arrays ``(batch, d_latent)``; alpha, a scalar; share, lambda in (0, 1]. Returns: both warmed.
    """
    mean, log_variance, gate = posterior.mean, posterior.log_variance, gates(posterior)
    log_share = jnp.log(share)
    log_on = jnp.logaddexp(jnp.log1p(-share), log_share + jax.nn.log_sigmoid(gate))
    return Posterior(mean, log_variance, log_on - log_share - jax.nn.log_sigmoid(-gate)), 1 - share * (1 - alpha)


def from_spike(posterior: Posterior, alpha: jax.Array, share: jax.Array) -> tuple[Posterior, jax.Array]:
    """The slab is ``N(lambda mu, lambda s^2 + 1 - lambda)``: from gates alone to both.

    Args: posterior with gates, arrays ``(batch, d_latent)``; alpha, a scalar; share, lambda in (0, 1]. Returns: both warmed.

    Source: the warm-up of Tonolini, Jensen and Murray-Smith, Variational sparse coding, 2020, as their code describes it.
    """
    mean, log_variance, gate = posterior
    return Posterior(share * mean, jnp.log(share * jnp.exp(log_variance) + 1 - share), gate), alpha


WARM_UPS = {"slab": from_slab, "spike": from_spike}


def warm_up(
    config: SparseConfig, posterior: Posterior, alpha: jax.Array, step: jax.Array
) -> tuple[Posterior, jax.Array]:
    """Posterior and prior probability at a step of the warm-up, lambda growing linearly to 1 over ``spike_warmup`` steps."""
    if not config.spike_warmup:
        return posterior, alpha
    return WARM_UPS[config.warmup_from](posterior, alpha, ramp(step, config.spike_warmup))


def draw(config: SparseConfig, posterior: Posterior, key: jax.Array, progress: jax.Array) -> jax.Array:
    """:func:`draw_relaxed` at a temperature that falls geometrically from the first to the final one."""
    cooling = math.log(config.final_temperature / config.temperature)
    return draw_relaxed(posterior, key, config.temperature * jnp.exp(cooling * progress))


def sample_prior(hyper: VAEHyper, key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """``alpha N(0, 1) + (1 - alpha) delta_0``: exactly 0 where a unit is off."""
    slab_key, gate_key = jax.random.split(key)
    z = jax.random.normal(slab_key, shape, jnp.float32)
    return jnp.where(jax.random.bernoulli(gate_key, hyper.alpha, shape), z, 0.0)


def mean_l0(config: SparseConfig, posterior: Posterior, z: jax.Array, hyper: VAEHyper) -> jax.Array:
    """``mean_n sum_j gamma_nj``."""
    return jax.nn.sigmoid(gates(posterior)).sum(axis=1).mean()


def prior_activity(config: SparseConfig) -> float:
    """``alpha``."""
    return config.alpha


SPARSE = GAUSSIAN._replace(
    heads=3,
    sample_prior=sample_prior,
    warm_up=warm_up,
    draw=draw,
    mean_l0=mean_l0,
    active_means="hard gates that are on",
    prior_activity=prior_activity,
)
