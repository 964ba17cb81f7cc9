"""Settings of a variational autoencoder and its training, in groups that each check themselves."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from saegan_jax.algorithms.vae.kinds import KINDS, KLSAEConfig, SparseConfig
from saegan_jax.algorithms.vae.likelihoods import LIKELIHOODS
from saegan_jax.algorithms.vae.state import VAEHyper
from saegan_jax.errors import require, require_choice, require_integer, require_non_negative, require_positive


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Networks, posterior and likelihood."""

    kind: str = "gaussian"
    """gaussian: N(mu, s^2) and prior N(0, 1); sparse: spike and slab, exact zeros; kl_sae: Gaussian, decoded through a sigmoid
    code that the KL sparsity penalty holds at a mean activation of rho."""
    d_latent: int = 32
    """Latent units."""
    hidden: tuple[int, ...] = (256,)
    """Units of each hidden layer of the encoder, and in reverse order of the decoder; empty for linear maps."""
    likelihood: str = "bernoulli"
    """bernoulli: cross-entropy; of pixels between 0 and 1 it is no density, so its nats compare only within this package.
    gaussian: N(image, noise^2) for every pixel, a density."""
    noise: float = 0.1
    """Standard deviation of a pixel (gaussian likelihood)."""

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, tuple(KINDS))
        require_choice("likelihood", self.likelihood, tuple(LIKELIHOODS))
        require_positive(d_latent=self.d_latent, noise=self.noise)
        require_integer(d_latent=self.d_latent)
        require(all(h > 0 for h in self.hidden), "hidden", self.hidden, "every hidden layer needs at least one unit.")
        for units in self.hidden:
            require_integer(hidden=units)


@dataclass(frozen=True, kw_only=True)
class DivergenceConfig:
    """Weight of the divergence from the prior."""

    beta: float = 1.0
    """Weight of the divergence from the prior; 1 is the bound."""
    beta_warmup: int = 0
    """Steps over which that weight grows linearly to beta; 0 for none."""

    def __post_init__(self) -> None:
        require_non_negative(beta=self.beta, beta_warmup=self.beta_warmup)
        require_integer(beta_warmup=self.beta_warmup)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Optimiser and length of the training."""

    learning_rate: float = 1e-3
    """Adam's first step size; a cosine takes it to a tenth."""
    batch_size: int = 128
    """Images a step."""
    steps: int = 10000
    """Number of training steps."""

    def __post_init__(self) -> None:
        require_positive(learning_rate=self.learning_rate, batch_size=self.batch_size, steps=self.steps)
        require_integer(batch_size=self.batch_size, steps=self.steps)


# A dataclass lists the fields of its last base first.
@dataclass(frozen=True, kw_only=True)
class VAEConfig(TrainingConfig, KLSAEConfig, SparseConfig, DivergenceConfig, ModelConfig):
    """Settings of a variational autoencoder and its training."""

    def __post_init__(self) -> None:
        for group in (ModelConfig, DivergenceConfig, SparseConfig, KLSAEConfig, TrainingConfig):
            group.__post_init__(self)
        for name, value in (("beta_warmup", self.beta_warmup), ("spike_warmup", self.spike_warmup)):
            require(value <= self.steps, name, value, f"the training ends after steps={self.steps}; use at most that.")


def hyper(config: VAEConfig) -> VAEHyper:
    """Those of ``config``, as NumPy's: an algorithm is made without compiling anything or touching a device."""
    scalars: dict[str, Any] = {f.name: np.asarray(getattr(config, f.name), np.float32) for f in fields(VAEHyper)}
    return VAEHyper(**scalars)
