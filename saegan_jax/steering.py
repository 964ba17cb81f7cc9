"""Steering a trained generator: its activations at one layer, directions to push them along, and what that does to images.

Activations are ``(n, ..., d)``: a dense layer's ``(n, d)``, or a feature map ``(n, height, width, d)``, where a direction is a
vector of channels that is added at every position.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax.errors import require
from saegan_jax.networks.generators import rewritten_inputs

Sample = Callable[..., jax.Array]
Classify = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


class Layer(NamedTuple):
    """A place in a generator: what enters the layer ``name``, of ``shape`` without the batch."""

    name: str
    shape: tuple[int, ...]


class Split(NamedTuple):
    """A generator cut in two: ``after(state, before(state, key, n))`` is ``sample(state, key, n)``.

    Attributes:
      layer: where.
      before: ``before(state, key, n) -> activations (n, *layer.shape)``.
      after: ``after(state, activations) -> images (n, height, width, channels)`` in [0, 1].
    """

    layer: Layer
    before: Callable[[Any, jax.Array, int], jax.Array]
    after: Callable[[Any, jax.Array], jax.Array]


def layers(sample: Sample, state: Any) -> tuple[Layer, ...]:
    """The places at which a generator can be cut, in order; number 0 is its latent. Traced only, nothing is computed.

    Args:
      sample: ``sample(state, key, n) -> images``, of :class:`saegan_jax.algorithms.base.Algorithm`.
      state: of one member, arrays or their shapes.
    """
    found = []

    def note(name: str, x: jax.Array) -> jax.Array:
        found.append(Layer(name, x.shape[1:]))
        return x

    def run(state: Any) -> jax.Array:
        with rewritten_inputs(note):
            return sample(state, jax.random.key(0), 1)

    jax.eval_shape(run, state)
    return tuple(found)


def split(sample: Sample, state: Any, *, layer: int) -> Split:
    """Cut a generator at hidden layer ``layer``: 1 is what leaves the first one, -1 what enters the last one.

    Both halves are ``sample`` with one input noted or replaced, so they work for every system that can sample; under ``jit``
    the half that is not needed is not computed.

    Args:
      sample: ``sample(state, key, n) -> images``, of :class:`saegan_jax.algorithms.base.Algorithm`.
      state: of one member, arrays or their shapes.
      layer: number of the hidden layer, after its activation function; negative ones count from the end.

    Raises:
      ConfigError: no such hidden layer.
    """
    places = layers(sample, state)
    known = "; ".join(f"{i}: {' x '.join(map(str, place.shape))}" for i, place in enumerate(places) if i)
    fix = (
        f"the generator's hidden layers are {known}; -1 is the last." if known else "the generator has no hidden layer."
    )
    require(1 <= (layer if layer >= 0 else len(places) + layer) < len(places), "layer", layer, fix)
    place = places[layer]

    def before(state: Any, key: jax.Array, n: int) -> jax.Array:
        seen = []

        def note(name: str, x: jax.Array) -> jax.Array:
            if name == place.name:
                seen.append(x)
            return x

        with rewritten_inputs(note):
            sample(state, key, n)
        return seen[0]

    def after(state: Any, activations: jax.Array) -> jax.Array:
        with rewritten_inputs(lambda name, x: activations if name == place.name else x):
            return sample(state, jax.random.key(0), activations.shape[0])

    return Split(place, before, after)


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


def unit(directions: jax.Array) -> jax.Array:
    """Rows ``(m, d)`` at norm 1; a row of zeros stays one."""
    norm = jnp.linalg.norm(directions, axis=-1, keepdims=True)
    return directions / jnp.where(norm > 0, norm, 1.0)


def spread(vectors: jax.Array) -> jax.Array:
    """Root mean squared distance of ``(n, d)`` to their mean, a scalar: the unit in which doses are given."""
    return jnp.sqrt(jnp.sum(jnp.var(vectors, axis=0)))


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


def association(activity: jax.Array, probability: jax.Array) -> jax.Array:
    """Pearson's correlation of each direction's activity with each class's probability, over samples.

    Args:
      activity: ``(n, m)``, a code or a projection, one column per direction.
      probability: ``(n, n_classes)``.

    Returns:
      ``(m, n_classes)`` in [-1, 1]; 0 where either does not vary.
    """
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


def effect(before: Reading, edited: Reading, target: jax.Array, real: jax.Array) -> Effect:
    """Compare images after an edit with the same images before it; see :class:`Effect`.

    Args:
      before, edited: the same ``n`` samples.
      target: int32 scalar, the class that the edit is meant to bring about.
      real: ``(m, d_features)`` features of real images.

    Returns:
      An :class:`Effect` of scalars; 0 where every image was predicted as the target before.
    """
    n, n_classes = before.logits.shape
    weight = (jnp.argmax(before.logits, axis=-1) != target).astype(jnp.float32)
    weight = weight / jnp.maximum(weight.sum(), 1.0)
    is_target = jnp.arange(n_classes).reshape(1, -1) == target

    def others(logits: jax.Array) -> jax.Array:
        return jax.nn.softmax(jnp.where(is_target, -jnp.inf, logits), axis=-1)

    def nearest(features: jax.Array) -> jax.Array:
        squares = jnp.sum(features**2, axis=1, keepdims=True) + jnp.sum(real**2, axis=1).reshape(1, -1)
        return jnp.sqrt(jnp.maximum(jnp.min(squares - 2 * features @ real.T, axis=1), 0.0) / real.shape[1])

    p = [jnp.sum(jnp.where(is_target, jax.nn.softmax(r.logits, axis=-1), 0.0), axis=1) for r in (before, edited)]
    pixels = jnp.sqrt(jnp.mean((edited.images - before.images).reshape(n, -1) ** 2, axis=1))
    each = Effect(
        target=p[1] - p[0],
        others=0.5 * jnp.sum(jnp.abs(others(edited.logits) - others(before.logits)), axis=1),
        features=jnp.sqrt(jnp.mean((edited.features - before.features) ** 2, axis=1)),
        pixels=pixels,
        unreal=nearest(edited.features) - nearest(before.features),
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
    zero = jnp.zeros(1, values.dtype)
    x, y = jnp.concatenate([zero, course]), jnp.concatenate([zero, values])
    top = jnp.argmax(x)
    reached = jnp.argmax(x >= level)
    i = jnp.maximum(reached, 1)
    share = (level - x[i - 1]) / jnp.where(x[i] > x[i - 1], x[i] - x[i - 1], 1.0)
    return jnp.where(x[top] < level, y[top], y[i - 1] + share * (y[i] - y[i - 1]))
