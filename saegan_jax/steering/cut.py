"""A generator cut in two at a hidden layer."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax

from saegan_jax.errors import require
from saegan_jax.networks.generators import rewritten_inputs

Sample = Callable[..., jax.Array]


class Layer(NamedTuple):
    """A layer of a generator: its name, and the shape of its input without the batch."""

    name: str
    shape: tuple[int, ...]


class Split(NamedTuple):
    """A generator cut in two: ``after(state, before(state, key, n))`` is ``sample(state, key, n)``.

    Attributes:
      layer: before which it is cut.
      before: ``before(state, key, n) -> activations (n, *layer.shape)``.
      after: ``after(state, activations) -> images (n, height, width, channels)`` in [0, 1].
    """

    layer: Layer
    before: Callable[[Any, jax.Array, int], jax.Array]
    after: Callable[[Any, jax.Array], jax.Array]


def layer_inputs(sample: Sample, state: Any, key: jax.Array, n: int) -> list[tuple[str, jax.Array]]:
    """Name and input ``(n, ...)`` of every layer that is called while ``n`` images are drawn, in order."""
    inputs: list[tuple[str, jax.Array]] = []

    def record(name: str, x: jax.Array) -> jax.Array:
        inputs.append((name, x))
        return x

    with rewritten_inputs(record):
        sample(state, key, n)
    return inputs


def layers(sample: Sample, state: Any) -> tuple[Layer, ...]:
    """The layers before which a generator can be cut, in order; number 0 reads its latent. Traced only, nothing is computed.

    Args:
      sample: ``sample(state, key, n) -> images``, of :class:`saegan_jax.algorithms.base.Algorithm`.
      state: of one member, arrays or their shapes.
    """
    names: list[str] = []

    def inputs(state: Any) -> list[jax.Array]:
        named = layer_inputs(sample, state, jax.random.key(0), 1)
        names.extend(name for name, _ in named)
        return [x for _, x in named]

    shapes = jax.eval_shape(inputs, state)
    return tuple(Layer(name, x.shape[1:]) for name, x in zip(names, shapes, strict=True))


def activations_before(sample: Sample, layer: Layer, state: Any, key: jax.Array, n: int) -> jax.Array:
    """What enters ``layer``, ``(n, *layer.shape)``, while ``n`` images are drawn."""
    return next(x for name, x in layer_inputs(sample, state, key, n) if name == layer.name)


def images_after(sample: Sample, layer: Layer, state: Any, activations: jax.Array) -> jax.Array:
    """The images ``(n, height, width, channels)`` that are drawn where ``activations (n, *layer.shape)`` enter ``layer``."""
    with rewritten_inputs(lambda name, x: activations if name == layer.name else x):
        return sample(state, jax.random.key(0), activations.shape[0])


def split(sample: Sample, state: Any, *, layer: int) -> Split:
    """Cut a generator at hidden layer ``layer``: 1 is what leaves the first one, -1 what enters the last one.

    Both halves are ``sample`` with one input recorded or replaced, so they work for every system that can sample; under
    ``jit`` the half that is not needed is not computed.

    Args:
      sample: ``sample(state, key, n) -> images``, of :class:`saegan_jax.algorithms.base.Algorithm`.
      state: of one member, arrays or their shapes.
      layer: number of the hidden layer, after its activation function; negative ones count from the end.

    Raises:
      ConfigError: no such hidden layer.
    """
    known = layers(sample, state)
    hidden = "; ".join(f"{i}: {' x '.join(map(str, one.shape))}" for i, one in enumerate(known) if i)
    fix = f"the generator's hidden layers are {hidden}; -1 is the last."
    if not hidden:
        fix = "the generator has no hidden layer."
    require(1 <= (layer if layer >= 0 else len(known) + layer) < len(known), "layer", layer, fix)
    chosen = known[layer]
    return Split(chosen, partial(activations_before, sample, chosen), partial(images_after, sample, chosen))


def default_layer(sample: Sample, state: Any) -> int:
    """The number of the last hidden layer where its activations are vectors, else of the first."""
    return -1 if len(layers(sample, state)[-1].shape) == 1 else 1
