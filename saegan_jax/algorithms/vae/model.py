"""Networks, likelihood and prior that a :class:`VAEConfig` describes, as pure functions."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.vae.config import VAEConfig
from saegan_jax.algorithms.vae.kinds import KINDS
from saegan_jax.algorithms.vae.likelihoods import LIKELIHOODS
from saegan_jax.algorithms.vae.posterior import Posterior
from saegan_jax.algorithms.vae.state import VAEHyper, VAEParams
from saegan_jax.networks.vae import VAEDecoder, VAEEncoder


class Variational(NamedTuple):
    """The model of a :class:`VAEConfig` as pure functions.

    Attributes:
      init: ``init(key) -> VAEParams``.
      encode: ``encode(params, images) -> Posterior``, images in [0, 1].
      decode: ``decode(params, z, hyper) -> (batch, height, width, channels)``, logits of the pixels' means.
      log_likelihood: ``log_likelihood(logits, images) -> (batch,)``, nats, summed over pixels and channels.
      sample_prior: ``sample_prior(hyper, key, n) -> (n, d_latent)`` from the stated prior, exactly 0 where a unit is off.
    """

    init: Callable[[jax.Array], VAEParams]
    encode: Callable[[VAEParams, jax.Array], Posterior]
    decode: Callable[[VAEParams, jax.Array, VAEHyper], jax.Array]
    log_likelihood: Callable[[jax.Array, jax.Array], jax.Array]
    sample_prior: Callable[[VAEHyper, jax.Array, int], jax.Array]


def variational(config: VAEConfig, *, image_shape: tuple[int, int, int]) -> Variational:
    """Networks and likelihood that ``config`` describes.

    The decoder reads z itself, or with kl_sae the code ``h = sigmoid(gain z + b)``. With ``p = sigmoid(logits)``,
    Bernoulli: ``log p(x | z) = sum_i x_i log p_i + (1 - x_i) log(1 - p_i)``; Gaussian:
    ``-1/2 sum_i [((x_i - p_i) / noise)^2 + log(2 pi noise^2)]``.

    Args: config, see :class:`VAEConfig`; image_shape, ``(height, width, channels)``. Returns: :class:`Variational`.
    """
    encoder = VAEEncoder(config.d_latent, KINDS[config.kind].heads, config.hidden)
    decoder = VAEDecoder(image_shape, config.hidden[::-1])
    return Variational(
        init=partial(init_params, config, encoder, decoder),
        encode=partial(encode, encoder),
        decode=partial(decode, config, decoder),
        log_likelihood=partial(log_likelihood, config),
        sample_prior=partial(sample_prior, config),
    )


def init_params(config: VAEConfig, encoder: VAEEncoder, decoder: VAEDecoder, key: jax.Array) -> VAEParams:
    """Initial parameters of both networks."""
    encoder_key, decoder_key = jax.random.split(key)
    return VAEParams(
        encoder.init(encoder_key, jnp.zeros((1, *decoder.image_shape), jnp.float32)),
        decoder.init(decoder_key, jnp.zeros((1, config.d_latent), jnp.float32)),
    )


def encode(encoder: VAEEncoder, params: VAEParams, images: jax.Array) -> Posterior:
    """Images ``(batch, height, width, channels)`` in [0, 1] to their posterior."""
    heads: Any = encoder.apply(params.encoder, images)
    return Posterior(*heads)


def decode(config: VAEConfig, decoder: VAEDecoder, params: VAEParams, z: jax.Array, hyper: VAEHyper) -> jax.Array:
    """``z (batch, d_latent)`` to logits ``(batch, height, width, channels)``."""
    logits: Any = decoder.apply(params.decoder, KINDS[config.kind].decoder_input(config, z, hyper))
    return logits


def log_likelihood(config: VAEConfig, logits: jax.Array, images: jax.Array) -> jax.Array:
    """``log p(x | z)`` of each image, ``(batch,)``, nats."""
    each = LIKELIHOODS[config.likelihood](logits, images, noise=config.noise)
    return each.reshape(each.shape[0], -1).sum(axis=1)


def sample_prior(config: VAEConfig, hyper: VAEHyper, key: jax.Array, n: int) -> jax.Array:
    """``n`` latents from the stated prior, ``(n, d_latent)``; of a spike and slab exactly 0 where a unit is off."""
    return KINDS[config.kind].sample_prior(hyper, key, (n, config.d_latent))
