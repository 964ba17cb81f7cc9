"""The contract every system here keeps: pure functions over an immutable state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Batch(NamedTuple):
    """What one step learns from: labelled images, as a system reads them.

    Attributes:
      image: ``(batch, height, width, channels)``, float32 in [0, 1].
      label: ``(batch,)``, int32.
    """

    image: jax.Array
    label: jax.Array


class Examples(NamedTuple):
    """A whole data set, as it is stored on the device or the host; :class:`Batch` is made from it.

    Attributes:
      image: ``(n, height, width, channels)``, uint8, 0 to 255.
      label: ``(n,)``, int32.
    """

    image: jax.Array
    label: jax.Array


def cannot_sample(state: Any, key: jax.Array, n: int) -> jax.Array:
    """The ``sample`` of a system that draws nothing.

    Raises:
      ValueError: always.
    """
    raise ValueError("this system draws no samples: a CycleGAN translates images, and a classifier predicts classes.")


class Algorithm(NamedTuple):
    """A training algorithm as pure functions, to be composed with ``jit``, ``vmap`` and ``lax.scan``.

    Attributes:
      init: ``init(key, pretrained=None) -> state``. Traceable: ``jax.vmap(init)(keys)`` makes an ensemble, and
        ``jax.vmap(init, in_axes=(0, None))(keys, pretrained)`` one on a shared ``pretrained``, with ``0`` each on its own.
        ``pretrained`` is what was trained or fitted beforehand (an autoencoder, a prior, a centre of the data); each system
        says what it takes. ``step`` and the others read the copy in the state, so that they need nothing but it.
      step: ``step(state, batch) -> (state, info)``. A scan body; its randomness is ``fold_in(state.key, state.step)``.
      sample: ``sample(state, key, n, *, label=None, code=None) -> images`` in [0, 1], shape ``(n, height, width, channels)``:
        what a user would draw, from the averaged weights where the system keeps them. ``n`` is static; ``label``, ``(n,)``
        int32, only of conditional systems; ``code``, ``(n, d_code)``, only of those that have ``encode``.
        :func:`cannot_sample` where there is nothing to draw.
      encode: ``encode(state, images) -> (batch, d_code)``, the codes of images in [0, 1] as the generator reads them: what
        ``sample`` takes as ``code``. Of systems whose generator reads codes, else None.
      draw_codes: ``draw_codes(state, key, n) -> (n, d_code)``, from the prior that ``sample`` draws from; None likewise.
      translate: ``translate(state, images, direction) -> images``, of systems that map images to images, else None.
      predict: ``predict(params, images) -> (logits, features)``, of classifiers, else None.
      codes: ``codes(state, images, direction) -> (batch, d_sae)``, what a translation is drawn from, where that is a code.
    """

    init: Callable[..., Any]
    step: Callable[[Any, Any], tuple[Any, Any]]
    sample: Callable[..., jax.Array] = cannot_sample
    encode: Callable[[Any, jax.Array], jax.Array] | None = None
    draw_codes: Callable[[Any, jax.Array, int], jax.Array] | None = None
    translate: Callable[..., jax.Array] | None = None
    predict: Callable[..., tuple[jax.Array, jax.Array]] | None = None
    codes: Callable[..., jax.Array] | None = None
