"""Tiny data and whole-pytree comparisons for the tests of the pure core."""

import io
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from saegan_jax.algorithms.base import Batch, Examples

SHAPE = (4, 4, 1)


def uint8_data(n: int, shape: tuple[int, int, int] = SHAPE, *, seed: int = 0) -> Examples:
    """``n`` random uint8 images whose label is their index."""
    image = np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)
    return Examples(image=jnp.asarray(image), label=jnp.arange(n, dtype=jnp.int32))


def unit_batch(n: int, shape: tuple[int, int, int] = SHAPE, *, seed: int = 0) -> Batch:
    """The same images as a step sees them, float32 in [0, 1]."""
    data = uint8_data(n, shape, seed=seed)
    return Batch(image=data.image.astype(jnp.float32) / 255, label=data.label)


def digits() -> Examples:
    """scikit-learn's 8x8 handwritten digits, uint8."""
    bunch = load_digits()
    image = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return Examples(image=jnp.asarray(image), label=jnp.asarray(bunch.target, jnp.int32))


def normal(*shape: int, seed: int = 0) -> jax.Array:
    """Standard normal numbers made by numpy: unlike jax.random's they cost no compilation."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def random_params(module: nn.Module, x: jax.Array, *, seed: int = 0, scale: float = 0.3) -> Any:
    """Normal values for all parameters, biases too: at their initial zeros a misplaced bias would not show."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    return jax.tree.map(lambda s: jnp.asarray(scale * rng.normal(size=s.shape), s.dtype), shapes)


def filled(shapes: Any, *, seed: int = 0, **given: Any) -> Any:
    """A state made from the shapes of one without compiling its init: normal ``params``, what is given, the rest zeros."""
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda s: jnp.asarray(0.4 * rng.normal(size=s.shape), s.dtype), shapes.params)
    rest = jax.tree.map(lambda s: jnp.asarray(np.zeros(s.shape, s.dtype)), shapes.replace(key=(), params=()))
    return rest.replace(key=jax.random.key(0), params=params, **given)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def numpy_leaves(tree: Any) -> dict[str, np.ndarray]:
    """Leaves by path, PRNG keys as their data."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path): np.asarray(
            jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        )
        for path, x in leaves
    }


def assert_same(actual: Any, expected: Any) -> None:
    """Equal to the bit, leaf by leaf."""
    a, b = numpy_leaves(actual), numpy_leaves(expected)
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path, strict=True)


def assert_close(actual: Any, expected: Any, *, rtol: float, atol: float) -> None:
    a, b = numpy_leaves(actual), numpy_leaves(expected)
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_allclose(a[path], b[path], rtol=rtol, atol=atol, err_msg=path, strict=True)


def assert_every_leaf_moved(actual: Any, before: Any, *, but: str = "none of them") -> None:
    """No leaf is as it was, but for those whose path contains ``but``, which may be."""
    a, b = numpy_leaves(actual), numpy_leaves(before)
    assert a.keys() == b.keys()
    unmoved = [path for path in a if np.array_equal(a[path], b[path]) and but not in path]
    assert not unmoved, unmoved


def assert_finite(tree: Any) -> None:
    bad = [path for path, x in numpy_leaves(tree).items() if not np.isfinite(x).all()]
    assert not bad, bad
