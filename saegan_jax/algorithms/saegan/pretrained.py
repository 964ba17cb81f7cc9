"""What a SAE-GAN reads beside its networks, fitted to the codes of training images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.sae import autoencoder, sae
from saegan_jax.algorithms.saegan.build import critic_parts
from saegan_jax.algorithms.saegan.config import SAEGANConfig
from saegan_jax.algorithms.saegan.critics import DISCRIMINATORS
from saegan_jax.algorithms.saegan.frozen import Pretrained
from saegan_jax.algorithms.saegan.generators import INPUTS
from saegan_jax.algorithms.saegan.k_means_encoder import k_means_cost, k_means_params
from saegan_jax.priors import code_scale, find_prior, fit_prior, settings_of

MOST_IMAGES = 8192  # from which the statistics of convolutional codes are taken: several numbers of each


def over_images(
    function: Callable[[jax.Array], jax.Array], images: jax.Array, d_sae: int, *, batch_size: int
) -> jax.Array:
    """``function`` of every image, ``(1, height, width, channels) -> (1, ..., d_sae)``: ``(n or more, d_sae)``."""
    unit = 1 / 255 if images.dtype == jnp.uint8 else 1.0

    def one(image: jax.Array) -> jax.Array:
        return function(unit * image[None].astype(jnp.float32))[0]

    return jax.lax.map(one, images, batch_size=batch_size).reshape(-1, d_sae)


def fit_pretrained(
    config: SAEGANConfig, sae_params: Any, images: jax.Array, key: jax.Array, *, batch_size: int = 1024
) -> Pretrained:
    """Encode ``images`` and fit what the game needs to their codes.

    Args:
      config: of the system.
      sae_params: the autoencoder's trained parameters; not read where its codes are k-means labels.
      images: ``(n, height, width, channels)`` training images, uint8 (0 to 255) or float32 in [0, 1]; for a convolutional
        autoencoder at most ``MOST_IMAGES`` of them, evenly spread, are used.
      key: of random projections and of k-means.
      batch_size: images encoded at a time.

    Returns:
      A :class:`Pretrained`, for ``init`` of :func:`saegan_jax.algorithms.saegan.saegan`.
    """
    height, width, channels = images.shape[1:]
    shape = (height, width, channels)
    functions, d_sae = autoencoder(config.sae, image_shape=shape), config.sae.d_sae
    if config.encoder == "kmeans":
        # Not 0 or 1: split(key) below makes those.
        sae_params = k_means_params(config.sae, images, jax.random.fold_in(key, 2))
    if config.sae.patch_size:
        images = images[:: -(-len(images) // MOST_IMAGES)]  # from everywhere, since data may be sorted by class
    prior_key, critic_key = jax.random.split(key)
    codes = over_images(lambda x: functions.encode(sae_params, x), images, d_sae, batch_size=batch_size)
    parts = critic_parts(config, image_shape=shape)
    prior: Any = ()
    if INPUTS[config.generator_input].has_code:
        by_image = codes.reshape(-1, parts.sae.d_code)
        prior = fit_prior(
            config.sampler, by_image, prior_key, threshold=config.sae.active_above, **prior_settings(config)
        )
    critics = DISCRIMINATORS[config.discriminator].critics(parts)
    fits = {name: critic.fit for name, critic in critics.items() if critic.fit is not None}
    fitted = {}
    if fits:
        a = over_images(lambda x: functions.pre_activations(sae_params, x), images, d_sae, batch_size=batch_size)
        fitted = {name: fit(a, critic_key) for name, fit in fits.items()}
    center = codes.mean(axis=0) if config.standardise else jnp.zeros(d_sae, codes.dtype)
    scale = code_scale(codes - center.reshape(1, -1))
    return Pretrained(sae=sae_params, scale=scale, center=center, prior=prior, critics=fitted)


def prior_settings(config: SAEGANConfig) -> dict[str, int]:
    """What :func:`fit_prior` is told beside the codes; each prior takes what it knows."""
    return {"steps": config.prior_steps, "n_clusters": config.prior_clusters}


def fitting_operations(config: SAEGANConfig, *, n_images: int, image_shape: tuple[int, int, int]) -> float:
    """Floating-point operations of :func:`fit_pretrained` beside encoding ``n_images``: of k-means labels and the prior."""
    labels = k_means_cost(config.sae, n_images=n_images, image_shape=image_shape) if config.encoder == "kmeans" else 0.0
    if not INPUTS[config.generator_input].has_code:
        return labels
    prior, d_code = find_prior(config.sampler), critic_parts(config, image_shape=image_shape).sae.d_code
    known = settings_of(prior)
    return labels + prior.operations(
        n_images, d_code, **{k: v for k, v in prior_settings(config).items() if k in known}
    )


def pretrained_shapes(config: SAEGANConfig, *, image_shape: tuple[int, int, int]) -> Any:
    """Shapes of what :func:`fit_pretrained` returns, without training or data: what a checkpoint is restored into."""

    def fit(key: jax.Array) -> Pretrained:
        params = sae(config.sae, image_shape=image_shape).init(key).params
        return fit_pretrained(config, params, jnp.zeros((1, *image_shape), jnp.float32), key)

    return jax.eval_shape(fit, jax.random.key(0))
