"""What an edit of a generator's activations does to its images."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from saegan_jax.steering.directions import steer

Classify = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
LEAST_CHANGE = 0.01  # of the other classes, in a selectivity: a clean edit would divide by nothing


class Reading(NamedTuple):
    """Images ``(n, height, width, channels)`` in [0, 1], and a classifier's logits ``(n, n_classes)`` and features."""

    images: jax.Array
    logits: jax.Array
    features: jax.Array


class Effect(NamedTuple):
    """What an edit did, each a mean over the images that were not predicted as the target before it.

    Attributes:
      target: rise of the target's probability, in [-1, 1].
      others: total variation distance, in [0, 1], of the distribution over the classes that are not the target, each time
        renormalised: what changes beside the target.
      features: Euclidean distance moved in the classifier's features, over the root of their number.
      pixels: root mean squared change of a pixel.
      unreal: distance of the features to the nearest real image's, less the same before the edit; in the same unit.
    """

    target: jax.Array
    others: jax.Array
    features: jax.Array
    pixels: jax.Array
    unreal: jax.Array


def other_classes(logits: jax.Array, target: jax.Array) -> jax.Array:
    """The distribution over the classes that are not ``target``, renormalised: ``(n, n_classes)``, 0 at the target."""
    is_target = jnp.arange(logits.shape[-1]).reshape(1, -1) == target
    return jax.nn.softmax(jnp.where(is_target, -jnp.inf, logits), axis=-1)


def nearest_distance(features: jax.Array, real: jax.Array) -> jax.Array:
    """Distance of ``features (n, d)`` to the nearest row of ``real (m, d)``, over the root of d: ``(n,)``."""
    squares = jnp.sum(features**2, axis=1, keepdims=True) + jnp.sum(real**2, axis=1).reshape(1, -1)
    return jnp.sqrt(jnp.maximum(jnp.min(squares - 2 * features @ real.T, axis=1), 0.0) / real.shape[1])


def effect(before: Reading, edited: Reading, target: jax.Array, real: jax.Array) -> Effect:
    """Compare images after an edit with the same images before it; see :class:`Effect`.

    Args:
      before, edited: the same ``n`` samples.
      target: int32 scalar, the class that the edit is meant to bring about.
      real: ``(m, d_features)`` features of real images.

    Returns:
      An :class:`Effect` of scalars; 0 where every image was predicted as the target before.
    """
    chex.assert_trees_all_equal_shapes(before, edited)
    n, n_classes = before.logits.shape
    weight = (jnp.argmax(before.logits, axis=-1) != target).astype(jnp.float32)
    weight = weight / jnp.maximum(weight.sum(), 1.0)
    is_target = jnp.arange(n_classes).reshape(1, -1) == target
    p = [jnp.sum(jnp.where(is_target, jax.nn.softmax(r.logits, axis=-1), 0.0), axis=1) for r in (before, edited)]
    rest = [other_classes(r.logits, target) for r in (edited, before)]
    each = Effect(
        target=p[1] - p[0],
        others=0.5 * jnp.sum(jnp.abs(rest[0] - rest[1]), axis=1),
        features=jnp.sqrt(jnp.mean((edited.features - before.features) ** 2, axis=1)),
        pixels=jnp.sqrt(jnp.mean((edited.images - before.images).reshape(n, -1) ** 2, axis=1)),
        unreal=nearest_distance(edited.features, real) - nearest_distance(before.features, real),
    )
    return jax.tree.map(lambda values: jnp.sum(weight * values), each)


def dose_response(
    after: Callable[[jax.Array], jax.Array],
    classify: Classify,
    activations: jax.Array,
    direction: jax.Array,
    target: jax.Array,
    doses: jax.Array,
    real: jax.Array,
) -> Effect:
    """The effect of ``a + dose d`` on images, for every dose.

    Args:
      after: ``after(activations) -> images``, the generator from the layer on.
      classify: ``classify(images) -> (logits (n, n_classes), features (n, d_features))``.
      activations: ``(n, ..., d)`` of samples that had no part in choosing ``direction`` or ``target``.
      direction: ``(d,)``.
      target: int32 scalar.
      doses: ``(n_doses,)``.
      real: ``(m, d_features)`` features of real images.

    Returns:
      An :class:`Effect` of arrays ``(n_doses,)``.
    """

    def read(activations: jax.Array) -> Reading:
        images = after(activations)
        return Reading(images, *classify(images))

    before = read(activations)
    return jax.vmap(lambda dose: effect(before, read(steer(activations, direction, dose)), target, real))(doses)


def at_level(values: jax.Array, course: jax.Array, level: jax.typing.ArrayLike) -> jax.Array:
    """``values`` where ``course`` first reaches ``level``, both ``(n_doses,)`` along increasing doses and 0 without one.

    Between doses linearly; where the level is never reached, the value at the largest of ``course``. For comparing directions
    at doses that change images equally, while equal norms change them by very different amounts.

    Returns:
      A scalar.
    """
    chex.assert_rank([values, course], 1)
    chex.assert_equal_shape([values, course])
    zero = jnp.zeros(1, values.dtype)
    x, y = jnp.concatenate([zero, course]), jnp.concatenate([zero, values])
    top = jnp.argmax(x)
    reached = jnp.argmax(x >= level)
    i = jnp.maximum(reached, 1)
    share = (level - x[i - 1]) / jnp.where(x[i] > x[i - 1], x[i] - x[i - 1], 1.0)
    return jnp.where(x[top] < level, y[top], y[i - 1] + share * (y[i] - y[i - 1]))


@jax.jit
@partial(jnp.vectorize, signature="(n),(n),()->()")
def _each_at_level(values: jax.Array, course: jax.Array, level: jax.Array) -> jax.Array:
    return at_level(values, course, level)


def effects_at_level(effects: Effect, doses: ArrayLike, level: float) -> dict[str, np.ndarray]:
    """Effects of many directions where each has changed pixels by ``level``; see :func:`at_level`.

    Args:
      effects: arrays ``(..., n_doses)``.
      doses: ``(n_doses,)``, increasing, above 0.
      level: pixel change, in the unit of ``effects.pixels``.

    Returns:
      Arrays ``(...)`` on the host: the fields of :class:`Effect`, ``dose``, and ``reached``, 1 where pixels change so much at
      some dose, else 0.
    """
    course = effects.pixels
    levels = np.full(course.shape[:-1], level, np.float32)
    values = effects._asdict() | {"dose": np.broadcast_to(np.asarray(doses, np.float32), course.shape)}
    matched = {name: np.asarray(_each_at_level(v, course, levels)) for name, v in values.items()}
    return matched | {"reached": np.asarray(course.max(axis=-1) >= level, np.float32)}


def selectivity(target: ArrayLike, others: ArrayLike) -> np.ndarray:
    """``target / max(others, 0.01)``: what an edit did to its target for what it did to the other classes; any one shape."""
    return np.asarray(target) / np.maximum(others, LEAST_CHANGE)


def sample_distance(images: jax.Array) -> jax.Array:
    """Root mean squared pixel difference of each image ``(n, height, width, channels)`` and the next, mean over n: a scalar."""
    return jnp.sqrt(jnp.mean((images - jnp.roll(images, 1, axis=0)) ** 2, axis=(1, 2, 3))).mean()
