"""Training a sparse autoencoder: reconstruction plus a sparsity term, as pure functions."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from saegan_jax import losses
from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.optimisers import apply_gradients, ema_update
from saegan_jax.errors import require, require_choice, require_non_negative, require_positive
from saegan_jax.networks.autoencoders import Activation, SparseAutoencoder

Sparsity = Literal["kl", "kl_rate", "l1"]


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """Settings of a sparse autoencoder and of its training."""

    d_sae: int = 128
    """Number of units."""
    activation: Activation = "sigmoid"
    """Nonlinearity of the codes."""
    sparsity: Sparsity = "kl"
    """Sparsity term: kl (Bernoulli, sigmoid codes), kl_rate (Poisson, ReLU codes) or l1."""
    rho: float = 0.05
    """Target mean activation of a unit, between 0 and 1 (kl, kl_rate)."""
    beta: float = 3.0
    """Weight of the sparsity term beside 1/2 squared error summed over pixels."""
    tied: bool = False
    """Decode with the encoder's weights transposed."""
    decoder_norm: float = 1.0
    """Norm at which every row of W_dec is kept, so that a faint code cannot be made up for by a large weight; sigmoid codes
    reach 1 at most, so that bright images want more than 1. 0 leaves the decoder free."""
    weight_decay: float = 0.0
    """Coefficient of 1/2 squared Frobenius norm of the weight matrices in the loss (UFLDL's lambda)."""
    learning_rate: float = 2e-3
    """Adam's step size, decayed to a tenth along a cosine."""
    batch_size: int = 256
    """Examples a step; the KL term's minibatch bias is about 1/(2 batch_size) nats a unit."""
    steps: int = 4000
    """Number of training steps."""
    active_threshold: float = 0.1
    """A code above this counts as active (L0, dead units, the sparse prior)."""

    def __post_init__(self) -> None:
        require_positive(d_sae=self.d_sae, learning_rate=self.learning_rate)
        require_positive(batch_size=self.batch_size, steps=self.steps)
        require_non_negative(beta=self.beta, weight_decay=self.weight_decay, active_threshold=self.active_threshold)
        require_non_negative(decoder_norm=self.decoder_norm)
        require_choice("activation", self.activation, ("sigmoid", "relu"))
        require_choice("sparsity", self.sparsity, ("kl", "kl_rate", "l1"))
        require(
            0 < self.rho < 1,
            "rho",
            self.rho,
            "it is a mean activation and must lie strictly between 0 and 1; try 0.05.",
        )
        require(
            not (self.tied and self.decoder_norm),
            "decoder_norm",
            self.decoder_norm,
            "a tied decoder is the encoder, whose norm must stay free; set decoder_norm=0, or tied=False.",
        )
        require(
            (self.activation, self.sparsity) != ("relu", "kl"),
            "sparsity",
            self.sparsity,
            "the Bernoulli KL is undefined for ReLU codes, whose mean may be 0 or exceed 1; use activation='sigmoid', or "
            "sparsity='kl_rate' or 'l1'.",
        )
        require(
            (self.activation, self.sparsity) != ("sigmoid", "kl_rate"),
            "sparsity",
            self.sparsity,
            "the rate KL is for unbounded ReLU codes; sigmoid codes take sparsity='kl'.",
        )


@flax.struct.dataclass
class SAEState:
    """Everything a resumed training needs.

    Attributes:
      step: int32 scalar, steps taken.
      key: the run's key; a step's randomness is ``fold_in(key, step)``.
      params: ``W_enc``, ``b_enc``, ``W_dec``, ``b_dec`` in Flax's ``{"params": ...}``.
      opt_state: optax state.
      mean_activation: ``(d_sae,)``, running mean of the batch means (rho_hat).
      density: ``(d_sae,)``, running share of examples in which a unit is active.
      steps_since_active: ``(d_sae,)`` int32, steps since a unit was last active in any example.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    opt_state: Any
    mean_activation: jax.Array
    density: jax.Array
    steps_since_active: jax.Array


class SAEInfo(NamedTuple):
    """Scalars of one step: the loss and its two terms, and the batch's mean number of active units."""

    loss: jax.Array
    reconstruction: jax.Array
    sparsity: jax.Array
    l0: jax.Array


STATISTICS_DECAY = 0.99


def flatten_images(images: jax.Array) -> jax.Array:
    """``(batch, height, width, channels) -> (batch, height * width * channels)``."""
    return images.reshape(images.shape[0], -1)


def module(config: SAEConfig, d_in: int) -> Any:
    """The network that ``config`` describes, for ``d_in`` inputs: a :class:`SparseAutoencoder`."""
    return SparseAutoencoder(
        d_in=d_in,
        d_sae=config.d_sae,
        activation=config.activation,
        tied=config.tied,
        initial_logit=math.log(config.rho / (1 - config.rho)) if config.activation == "sigmoid" else 0.0,
    )


def sparsity_term(codes: jax.Array, logits: jax.Array, config: SAEConfig) -> jax.Array:
    """The sparsity term that ``config`` names, summed over units; scalar, before the factor beta."""
    if config.sparsity == "kl":
        return jnp.sum(losses.kl_sparsity_from_logits(logits, config.rho))
    if config.sparsity == "kl_rate":
        return jnp.sum(losses.kl_sparsity_rate(losses.mean_activation(codes), config.rho))
    return losses.l1_sparsity(codes).mean()


def sae(config: SAEConfig, *, image_shape: tuple[int, int, int]) -> Algorithm:
    """Sparse autoencoder on flattened images in [0, 1].

    ``loss = mean_n 1/2 ||x_hat_n - x_n||^2 + beta * sparsity + weight_decay / 2 (||W_enc||^2 + ||W_dec||^2)``, minimised
    with Adam; the first two terms with sigmoid codes are :func:`saegan_jax.losses.sae_loss`.

    Args:
      config: see :class:`SAEConfig`.
      image_shape: ``(height, width, channels)``.

    Returns:
      An :class:`Algorithm`. Its ``sample`` decodes independent units, each active with its running density at its running
      mean magnitude: a picture of what the dictionary draws without any joint model of its codes.

    Source: Ng, CS294A lecture notes "Sparse autoencoder" (2011), for the sigmoid + KL form.
    """
    net = module(config, math.prod(image_shape))
    optimiser = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps, alpha=0.1))

    def init(key: jax.Array) -> SAEState:
        params_key, run_key = jax.random.split(key)
        params = net.init(params_key, jnp.zeros((1, net.d_in)))
        if config.decoder_norm:
            params = fix_norm(params)
        # Separate buffers: a donated state may not hold one array twice.
        return SAEState(
            step=jnp.zeros((), jnp.int32),
            key=run_key,
            params=params,
            opt_state=optimiser.init(params),
            # With a dtype: a weakly typed number would become a strong one in the first step, and compile every program twice.
            mean_activation=jnp.full((net.d_sae,), config.rho, jnp.float32),
            density=jnp.full((net.d_sae,), config.rho, jnp.float32),
            steps_since_active=jnp.zeros((net.d_sae,), jnp.int32),
        )

    def loss_fn(params: Any, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
        x_hat, codes, logits = net.apply(params, x)
        reconstruction = jnp.mean(optax.losses.l2_loss(x_hat, x).sum(axis=-1))
        sparsity = sparsity_term(codes, logits, config)
        matrices = [p for name, p in params["params"].items() if name.startswith("W_")]
        decay = 0.5 * config.weight_decay * sum(jnp.sum(w**2) for w in matrices)
        return reconstruction + config.beta * sparsity + decay, (reconstruction, sparsity, codes)

    def fix_norm(params: Any) -> Any:
        W_dec = params["params"]["W_dec"]
        W_dec = config.decoder_norm * W_dec / jnp.linalg.norm(W_dec, axis=-1, keepdims=True)
        return {"params": {**params["params"], "W_dec": W_dec}}

    def tangent(gradients: Any, params: Any) -> Any:
        # Without its radial part, which the renormalisation would undo but Adam's second moment would remember.
        W_dec, g = params["params"]["W_dec"], gradients["params"]["W_dec"]
        unit = W_dec / config.decoder_norm
        return {"params": {**gradients["params"], "W_dec": g - jnp.sum(g * unit, axis=-1, keepdims=True) * unit}}

    def step(state: SAEState, batch: Batch) -> tuple[SAEState, SAEInfo]:
        x = flatten_images(batch.image)
        (loss, (reconstruction, sparsity, codes)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, x
        )
        if config.decoder_norm:
            gradients = tangent(gradients, state.params)
        params, opt_state = apply_gradients(optimiser, gradients, state.opt_state, state.params)
        if config.decoder_norm:
            params = fix_norm(params)
        active = codes > config.active_threshold
        state = replace(
            state,
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            mean_activation=ema_update(state.mean_activation, losses.mean_activation(codes), decay=STATISTICS_DECAY),
            density=ema_update(state.density, active.mean(axis=0, dtype=jnp.float32), decay=STATISTICS_DECAY),
            steps_since_active=jnp.where(active.any(axis=0), 0, state.steps_since_active + 1),
        )
        l0 = active.sum(axis=-1).mean(dtype=jnp.float32)
        return state, SAEInfo(loss=loss, reconstruction=reconstruction, sparsity=sparsity, l0=l0)

    def sample(state: SAEState, key: jax.Array, n: int) -> jax.Array:
        magnitude = state.mean_activation / jnp.maximum(state.density, 1e-6)
        active = jax.random.bernoulli(key, state.density.reshape(1, -1), (n, net.d_sae))
        codes = jnp.where(active, magnitude.reshape(1, -1), 0.0)
        images = net.apply(state.params, codes, method="decode").reshape(n, *image_shape)
        return jnp.clip(images, 0.0, 1.0)

    return Algorithm(init, step, sample)


def encoder(config: SAEConfig, *, image_shape: tuple[int, int, int]) -> Any:
    """``encode(params, images) -> codes``: ``(batch, h, w, c)`` in [0, 1] to ``(batch, d_sae)``."""
    net = module(config, math.prod(image_shape))

    def encode(params: Any, images: jax.Array) -> jax.Array:
        return net.apply(params, flatten_images(images), method="encode")

    return encode
