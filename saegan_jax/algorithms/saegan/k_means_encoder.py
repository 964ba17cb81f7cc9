"""k-means labels in an autoencoder's place: one unit on, that of the nearest centre. A control without features."""

from typing import Any

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.errors import require
from saegan_jax.images import any_to_unit_float
from saegan_jax.priors.k_means import k_means_centres, k_means_operations

MOST_IMAGES = 8192
"""From which the centres are found."""
OFFSET = 100.0
"""A code is about this many times the largest squared norm of an image: all are then equal to about 1 %, as labels are."""
NEEDED = {"variant": "topk", "k": 1, "tied": False, "patch_size": 0, "sigmoid_output": False}
"""Settings of an autoencoder whose parameters can be such labels."""


def check_k_means(config: SAEConfig) -> None:
    """Raise :class:`saegan_jax.errors.ConfigError` for an autoencoder that cannot be a set of labels."""
    for name, value in NEEDED.items():
        fix = f"with encoder='kmeans' the codes are labels, one unit of an untied dense TopK; use {value!r}."
        require(getattr(config, name) == value, f"sae.{name}", getattr(config, name), fix)


def k_means_params(config: SAEConfig, images: jax.Array, key: jax.Array) -> Any:
    """Parameters of a TopK autoencoder with k = 1 whose active unit is the nearest of ``d_sae`` centres c_j.

    ``a_j = B + 2 c_j x - |c_j|^2``, largest where ``|x - c_j|`` is smallest, and ``W_dec = C / B``, so that the
    reconstruction is about the centre.

    Args:
      config: of the autoencoder, see :func:`check_k_means`.
      images: ``(n, height, width, channels)``, uint8 (0 to 255) or float32 in [0, 1]; at most ``MOST_IMAGES``, evenly spread,
        are used.
      key: of k-means++.

    Returns:
      ``{"params": {W_enc (d_in, d_sae), b_enc (d_sae,), W_dec (d_sae, d_in), b_dec (d_in,)}}``.
    """
    chosen = images[:: -(-len(images) // MOST_IMAGES)]
    x = any_to_unit_float(chosen).reshape(len(chosen), -1)
    centres = k_means_centres(x, key, n_clusters=config.d_sae)
    offset = OFFSET * jnp.maximum(jnp.sum(x**2, axis=1).max(), 1.0)
    bias = offset - jnp.sum(centres**2, axis=1)
    b_dec = jnp.zeros(x.shape[1], x.dtype)
    return {"params": {"W_enc": 2 * centres.T, "b_enc": bias, "W_dec": centres / offset, "b_dec": b_dec}}


def k_means_cost(config: SAEConfig, *, n_images: int, image_shape: tuple[int, int, int]) -> float:
    """Floating-point operations of :func:`k_means_params`."""
    height, width, channels = image_shape
    n = len(range(0, n_images, -(-n_images // MOST_IMAGES)))
    return k_means_operations(n, height * width * channels, n_clusters=config.d_sae)
