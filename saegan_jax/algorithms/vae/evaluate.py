"""What a trained variational autoencoder does with images: its bounds, its reconstructions, its aggregate posterior."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.vae.config import VAEConfig
from saegan_jax.algorithms.vae.kinds import KINDS
from saegan_jax.algorithms.vae.model import Variational, variational
from saegan_jax.algorithms.vae.posterior import (
    Draw,
    divergence,
    draw_posterior,
    log_ratio,
    most_probable,
    posterior_mean,
)
from saegan_jax.algorithms.vae.state import VAEState
from saegan_jax.images import any_to_unit_float, check_unit
from saegan_jax.metrics.vae import active_units, importance_bound
from saegan_jax.priors import FactorisedPrior, code_scale, fit_factorised, sample_factorised

_OFF = -1e6  # far below every latent, so that a unit that is off is not taken for one with a negative value


class VAEMetrics(NamedTuple):
    """Means over images, with hard gates: scalars.

    Attributes:
      elbo: evidence lower bound at beta = 1, nats; the divergence in closed form, the likelihood's mean over the draws.
      iwae: importance-weighted bound of the same draws, nats.
      kl: divergence from the prior summed over units, nats.
      fvu: squared error of the images decoded from draws, over the variance of the pixels about their means.
      l0: active units of a draw: those on, or whose sigmoid code is above one half (kl_sae), or all.
      active_units: those whose posterior mean varies over the images, :func:`saegan_jax.metrics.vae.active_units`.
    """

    elbo: jax.Array
    iwae: jax.Array
    kl: jax.Array
    fvu: jax.Array
    l0: jax.Array
    active_units: jax.Array


def fit_aggregate(
    config: VAEConfig, state: VAEState, images: jax.Array, key: jax.Array, *, batch_size: int = 1024
) -> FactorisedPrior:
    """Fit independent units to the aggregate posterior, the mean of q(z | x) over images, from one hard draw of each.

    Every unit is on with its probability under the aggregate and then follows a table of quantiles of its signed values, where
    the stated prior has one law for all units. Dependence between units is left out.

    Args:
      config: of the model.
      state: trained, of one member.
      images: ``(n, height, width, channels)`` training images, uint8 (0 to 255) or float32 in [0, 1].
      key: random key; image i is drawn with ``fold_in(key, i)``.
      batch_size: images encoded at a time.

    Returns:
      A :class:`saegan_jax.priors.FactorisedPrior`, its quantiles of either sign.

    Raises:
      ValueError: images of another dtype.
    """
    height, width, channels = images.shape[1:]
    model = variational(config, image_shape=(height, width, channels))

    def one(given: tuple[jax.Array, jax.Array]) -> Draw:
        image, i = given
        posterior = model.encode(state.params, any_to_unit_float(image[None]))
        return jax.tree.map(lambda x: x[0], draw_posterior(posterior, jax.random.fold_in(key, i)))

    z, on = jax.lax.map(one, (images, jnp.arange(len(images))), batch_size=batch_size)
    fitted = fit_factorised(jnp.where(on, z, _OFF), threshold=_OFF / 2)
    return replace(fitted, scale=code_scale(z))


def sample_aggregate(
    config: VAEConfig, *, image_shape: tuple[int, int, int]
) -> Callable[[tuple[VAEState, FactorisedPrior], jax.Array, int], jax.Array]:
    """``sample((state, fitted), key, n) -> images`` from :func:`fit_aggregate`'s law in place of the stated prior.

    As :class:`Algorithm`'s ``sample``: in [0, 1], ``(n, height, width, channels)``.
    """
    return partial(_sample_aggregate, variational(config, image_shape=image_shape))


def _sample_aggregate(
    model: Variational, fitted: tuple[VAEState, FactorisedPrior], key: jax.Array, n: int
) -> jax.Array:
    state, prior = fitted
    return jax.nn.sigmoid(model.decode(state.params, sample_factorised(prior, key, n), state.hyper))


def reconstruct(config: VAEConfig, state: VAEState, images: jax.Array) -> jax.Array:
    """Images decoded from the posterior's middle: the mean, of units whose gate is more likely on than off, else 0.

    Args: config, state of one member, images ``(n, height, width, channels)`` float32 in [0, 1]. Returns: their shape.
    Raises: ValueError for integer images.
    """
    height, width, channels = images.shape[1:]
    model = variational(config, image_shape=(height, width, channels))
    z = most_probable(model.encode(state.params, check_unit(images)))
    return jax.nn.sigmoid(model.decode(state.params, z, state.hyper))


def score_vae(
    config: VAEConfig, state: VAEState, images: jax.Array, key: jax.Array, *, draws: int = 50, batch_size: int = 100
) -> VAEMetrics:
    """Bounds, sparsity and reconstruction on held-out images; traceable.

    ``elbo = mean_k log p(x | z_k) - KL`` and ``iwae = log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x)``, z_k hard draws; the
    density ratio of a spike and slab: :func:`log_ratio`.

    Args:
      config: of the model.
      state: of one member.
      images: ``(n, height, width, channels)``, uint8 (0 to 255) or float32 in [0, 1].
      key: random key; image i is drawn with ``fold_in(key, i)``.
      draws: K.
      batch_size: images at a time, each with its K draws.

    Returns:
      :class:`VAEMetrics`.

    Raises:
      ValueError: images of another dtype.

    Source: Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016.
    """
    height, width, channels = images.shape[1:]
    model = variational(config, image_shape=(height, width, channels))
    one = partial(_score_image, config, model, state, key, draws)
    elbo, iwae, kl, squared, l0, means = jax.lax.map(one, (images, jnp.arange(len(images))), batch_size=batch_size)
    variance = jnp.var(any_to_unit_float(images), axis=0).sum()
    return VAEMetrics(elbo.mean(), iwae.mean(), kl.mean(), squared.mean() / variance, l0.mean(), active_units(means))


def _score_image(
    config: VAEConfig,
    model: Variational,
    state: VAEState,
    key: jax.Array,
    draws: int,
    given: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, ...]:
    """Of image ``given[0]``, number ``given[1]``: ELBO, IWAE bound, KL, squared error, active units, posterior mean."""
    (image, i), settings = given, state.hyper
    x = any_to_unit_float(image[None])
    single = model.encode(state.params, x)
    posterior = jax.tree.map(lambda p: jnp.broadcast_to(p, (draws, config.d_latent)), single)
    drawn = draw_posterior(posterior, jax.random.fold_in(key, i))
    logits = model.decode(state.params, drawn.z, settings)
    log_likelihood = model.log_likelihood(logits, jnp.broadcast_to(x, logits.shape))
    kl = divergence(single, settings.alpha).sum()
    bound = importance_bound(log_likelihood + log_ratio(posterior, drawn, settings.alpha).sum(axis=1))
    squared = jnp.square(jax.nn.sigmoid(logits) - x).mean(axis=0).sum()
    active = KINDS[config.kind].active(config, drawn, settings).sum(axis=1).mean(dtype=jnp.float32)
    return log_likelihood.mean() - kl, bound, kl, squared, active, posterior_mean(single)[0]
