"""Two small domains of plain images with a known translation, and classifiers of them, for tests of scores."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.data import Dataset, Split
from saegan_jax.data.domains import Domains

SHAPE = (2, 2, 1)


def split(n: int, seed: int, levels: tuple[int, int], wrong: int = 0) -> Split:
    """Images of one level of grey each, which is their label's; the first ``wrong`` labels are false."""
    label = np.random.default_rng(seed).permutation(np.arange(n) % 2).astype(np.int32)
    image = np.ones((n, *SHAPE)) * np.asarray(levels)[label].reshape(-1, 1, 1, 1)
    label[:wrong] = 1 - label[:wrong]
    return Split(image.astype(np.uint8), label)


def domain(name: str, seed: int, levels: tuple[int, int], *, wrong: int = 0) -> Dataset:
    parts = split(20, seed, levels), split(10, seed + 1, levels, wrong), split(30, seed + 2, levels)
    return Dataset(name, *parts, num_classes=2)


# In A label 1 is bright, in B dark: inverting keeps labels. One validation label in ten of A is false.
DOMAINS = Domains("two", domain("dark-bright", 0, (26, 230), wrong=1), domain("bright-dark", 10, (179, 77)))


def bright(images: np.ndarray) -> np.ndarray:
    x = np.asarray(images)
    return (x.mean(axis=(1, 2, 3)) > (127 if x.dtype == np.uint8 else 0.5)).astype(np.int32)


def dark(images: np.ndarray) -> np.ndarray:
    return 1 - bright(images)


def translate(state: Any, images: jax.Array, direction: str) -> jax.Array:
    """Times the state's scale; inverts from A to B where the state says so, and always from B to A."""
    inverted = 1 - images
    return state["scale"] * (jnp.where(state["inverts"], inverted, images) if direction == "ab" else inverted)


def members(*inverts: bool, failed: bool = False) -> Any:
    """A state with a member for each; of the last one images are NaN, if it has ``failed``."""
    scale = [jnp.nan if failed and i == len(inverts) - 1 else 1.0 for i in range(len(inverts))]
    state = {"inverts": jnp.asarray(inverts), "scale": jnp.asarray(scale)}
    return state if len(inverts) > 1 else jax.tree.map(lambda leaf: leaf[0], state)


ALGORITHM: Any = Algorithm(lambda key: None, lambda state, batch: (state, None), translate=translate)
