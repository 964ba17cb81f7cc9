"""Directions in the activations of a layer, and the choice among them by what they are associated with.

Activations are ``(n, ..., d)``: a dense layer's ``(n, d)``, or a feature map ``(n, height, width, d)``, where a direction is a
vector of channels that is added at every position.
"""

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp

from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.errors import require
from saegan_jax.metrics import SAEMetrics, sae_metrics


def steer(activations: jax.Array, direction: jax.Array, alpha: jax.typing.ArrayLike) -> jax.Array:
    """``a' = a + alpha d`` at every position.

    With d row j of an autoencoder's decoder this adds alpha to code j and keeps the autoencoder's error: where
    ``a = dec(h) + e`` and the decoder is affine, ``a' = dec(h + alpha e_j) + e``.

    Args:
      activations: ``(n, ..., d)``.
      direction: ``(d,)``.
      alpha: scalar, in the unit of the activations if ``direction`` has norm 1.

    Returns:
      ``(n, ..., d)``; equal to ``activations`` to the bit where ``alpha`` is 0.

    Raises:
      ValueError: a direction of another length.
    """
    if direction.shape != activations.shape[-1:]:
        raise ValueError(
            f"direction has shape {direction.shape}, but activations {activations.shape} need ({activations.shape[-1]},)."
        )
    row = direction.reshape((1,) * (activations.ndim - 1) + (-1,))
    return activations + jnp.asarray(alpha, activations.dtype) * row


def flatten_positions(activations: jax.Array) -> jax.Array:
    """``(n, ..., d)`` to vectors ``(n * positions, d)``."""
    return activations.reshape(-1, activations.shape[-1])


def mean_over_positions(activations: jax.Array) -> jax.Array:
    """``(n, ..., d)`` to ``(n, d)``, for a dense layer the same numbers."""
    return activations.reshape(len(activations), -1, activations.shape[-1]).mean(axis=1)


def unit(directions: jax.Array) -> jax.Array:
    """Rows ``(m, d)`` at norm 1; a row of zeros stays one."""
    norm = jnp.linalg.norm(directions, axis=-1, keepdims=True)
    return directions / jnp.where(norm > 0, norm, 1.0)


def spread(vectors: jax.Array) -> jax.Array:
    """Root mean squared distance of ``(n, d)`` to their mean, a scalar: the unit in which doses are given."""
    return jnp.sqrt(jnp.sum(jnp.var(vectors, axis=0)))


def unit_scale(vectors: jax.Array) -> jax.Array:
    """The factor, a scalar, that brings ``(n, d)`` to a :func:`spread` of the root of d: variance 1 a dimension on average."""
    return math.sqrt(vectors.shape[-1]) / spread(vectors)


def random_directions(key: jax.Array, n: int, d: int) -> jax.Array:
    """``n`` directions, uniform on the sphere: ``(n, d)`` of norm 1."""
    return unit(jax.random.normal(key, (n, d)))


def difference_directions(key: jax.Array, n: int, vectors: jax.Array) -> jax.Array:
    """From one random row of ``vectors (m, d)`` towards another, ``n`` times: random directions that data lie along."""
    pairs = jax.random.randint(key, (2, n), 0, len(vectors))
    return unit(vectors[pairs[0]] - vectors[pairs[1]])


def principal_directions(vectors: jax.Array) -> jax.Array:
    """Eigenvectors of the covariance of ``(n, d)``, by falling variance, each in both signs: ``(2 d, d)`` of norm 1."""
    centred = vectors - vectors.mean(axis=0, keepdims=True)
    rows = jnp.linalg.eigh(centred.T @ centred / len(vectors))[1].T[::-1]
    return jnp.stack([rows, -rows], axis=1).reshape(-1, vectors.shape[-1])


def class_directions(vectors: jax.Array, label: jax.Array, n_classes: int) -> jax.Array:
    """From the mean of all other rows to the mean of a class: ``(n_classes, d)`` of norm 1, zeros for an empty class.

    Args:
      vectors: ``(n, d)``.
      label: ``(n,)`` int32.
      n_classes: number of classes.
    """
    member = jax.nn.one_hot(label, n_classes, axis=0, dtype=vectors.dtype)
    inside, outside = (m @ vectors / jnp.maximum(m.sum(axis=1, keepdims=True), 1.0) for m in (member, 1 - member))
    return unit(jnp.where(member.sum(axis=1, keepdims=True) > 0, inside - outside, 0.0))


def feature_activity(
    config: SAEConfig, params: Any, activations: jax.Array, scale: jax.Array
) -> tuple[jax.Array, SAEMetrics]:
    """How active an autoencoder's features are on activations, and how well it reconstructs them.

    Args:
      config: of an autoencoder that was trained on vectors ``(1, 1, d)``.
      params: its parameters.
      activations: ``(n, ..., d)``.
      scale: scalar that the activations are multiplied by, :func:`unit_scale` of those that it was trained on.

    Returns:
      Codes, means over positions, ``(n, d_sae)``; and :class:`saegan_jax.metrics.SAEMetrics` over all positions, with 0 as
      the threshold.
    """
    vectors, d = flatten_positions(activations) * scale, activations.shape[-1]
    functions = autoencoder(config, image_shape=(1, 1, d))
    codes = functions.encode(params, vectors.reshape(-1, 1, 1, d))
    x_hat = functions.decode(params, codes).reshape(-1, d)
    metrics = sae_metrics(vectors, x_hat, codes, threshold=0.0)
    return codes.reshape(len(activations), -1, config.d_sae).mean(axis=1), metrics


def association(activity: jax.Array, probability: jax.Array) -> jax.Array:
    """Pearson's correlation of each direction's activity with each class's probability, over samples.

    Args:
      activity: ``(n, m)``, a code or a projection, one column per direction.
      probability: ``(n, n_classes)``.

    Returns:
      ``(m, n_classes)`` in [-1, 1]; 0 where either does not vary.
    """
    chex.assert_rank([activity, probability], 2)
    chex.assert_equal_shape_prefix([activity, probability], 1)
    x, y = (values - values.mean(axis=0, keepdims=True) for values in (activity, probability))
    size = jnp.linalg.norm(x, axis=0).reshape(-1, 1) * jnp.linalg.norm(y, axis=0).reshape(1, -1)
    return jnp.where(size > 0, x.T @ y / jnp.where(size > 0, size, 1.0), 0.0)


def strongest(associations: jax.Array, n: int) -> jax.Array:
    """The ``n`` directions most positively associated with each class: ``(m, n_classes) -> (n_classes, n)`` int32 indices.

    Raises:
      ConfigError: fewer directions than ``n``.
    """
    require(n <= len(associations), "features", n, f"there are only {len(associations)} directions to choose from.")
    return jnp.argsort(-associations, axis=0)[:n].T.astype(jnp.int32)


def strongest_directions(
    directions: jax.Array, activity: jax.Array, probability: jax.Array, n: int
) -> tuple[jax.Array, jax.Array]:
    """The ``n`` directions most positively associated with each class, and how strongly.

    Args:
      directions: ``(m, d)``.
      activity: ``(samples, m)``, a code or a projection, one column per direction.
      probability: ``(samples, n_classes)``.
      n: directions for each class.

    Returns:
      Directions ``(n_classes, n, d)``, and the mean of their correlations, ``(n_classes,)``.

    Raises:
      ConfigError: fewer directions than ``n``.
    """
    correlation = association(activity, probability)
    index = strongest(correlation, n)
    return directions[index], jnp.take_along_axis(correlation.T, index, axis=1).mean(axis=1)
