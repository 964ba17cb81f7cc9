"""Activations made on the fly of features that are known: more than dimensions, of unequal frequency, correlated, in trees."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.stats import norm
from numpy.typing import NDArray

from saegan_jax.algorithms.optimisers import apply_gradients
from saegan_jax.errors import require, require_integer, require_non_negative, require_positive

HIGHEST = 1 - 1e-6
"""Largest probability to which a feature's own is raised for what its tree takes away."""


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """What the features are. The defaults are a small relative of SynthSAEBench-16k, see :func:`world`."""

    features: int = 512
    """Features."""
    d: int = 64
    """Dimensions of an activation; fewer than features is superposition."""
    roots: int = 4
    """Trees of features; the rarest features, which the trees leave, belong to none."""
    branching: int = 4
    """Children of a feature, of which at most one is active, and only while it is."""
    depth: int = 3
    """Generations below a root."""
    most: float = 0.4
    """Probability of the commonest feature."""
    least: float = 5e-4
    """Probability of the rarest feature."""
    exponent: float = 0.5
    """Of the power law between them."""
    rank: int = 25
    """Common causes that make features correlated."""
    correlation: float = 0.1
    """Standard deviation of a feature's weight on a common cause; 0 for independent ones."""
    first_mean: float = 5.0
    """Mean magnitude of the commonest feature."""
    last_mean: float = 4.0
    """Mean magnitude of the rarest feature."""
    spread: float = 0.5
    """A feature's standard deviation is the size of a Gaussian of this mean and standard deviation."""
    bias: float = 0.5
    """Norm of what is added to every activation."""
    apart_steps: int = 100
    """Steps of Adam by which directions are moved apart."""
    apart_rate: float = 3e-4
    """Their rate."""

    def __post_init__(self) -> None:
        require_integer(features=self.features, d=self.d, roots=self.roots, branching=self.branching)
        require_integer(depth=self.depth, rank=self.rank, apart_steps=self.apart_steps)
        require_positive(features=self.features, d=self.d, branching=self.branching, rank=self.rank)
        require_non_negative(roots=self.roots, depth=self.depth, correlation=self.correlation, spread=self.spread)
        require_non_negative(bias=self.bias, apart_steps=self.apart_steps)
        require_positive(first_mean=self.first_mean, last_mean=self.last_mean, apart_rate=self.apart_rate)
        require_positive(exponent=self.exponent)
        fix = f"it is a probability from least={self.least:g} up, below 1."
        require(0 < self.least <= self.most < 1, "most", self.most, fix)
        nodes = sum(self.generations)
        require(nodes <= self.features, "features", self.features, f"the trees alone have {nodes:,}; use fewer roots.")
        shared = self.rank * self.correlation**2
        require(
            shared < 0.9, "correlation", self.correlation, f"rank times its square is {shared:.2g}; keep it below 0.9."
        )

    @property
    def generations(self) -> tuple[int, ...]:
        """Features of each generation of all trees, the roots first."""
        return tuple(self.roots * self.branching**i for i in range(self.depth + 1))


class World(NamedTuple):
    """Features and their laws, in the order of :func:`ranks`.

    Attributes:
      atoms: ``(features, d)``, unit rows.
      bias: ``(d,)``.
      threshold: ``(features,)``, that a standard Gaussian of the feature must exceed for it to fire.
      causes: ``(features, rank)``, weights on the common causes.
      mean, std: ``(features,)``, of the magnitude.
    """

    atoms: jax.Array
    bias: jax.Array
    threshold: jax.Array
    causes: jax.Array
    mean: jax.Array
    std: jax.Array


def ranks(config: WorldConfig) -> NDArray[np.int64]:
    """``(features,)``: how many features are meant to be commoner than each, the features in the order that a world keeps.

    Commonness goes through the trees breadth first, and then to the features of none. A world keeps first the roots, then the
    first child of every root, the second one of every root, and so on: in this order siblings are compared fast.
    """
    b, start = config.branching, 0
    parts = [np.arange(config.roots)]
    for n in config.generations[:-1]:
        within = parts[-1].reshape(1, -1) - start
        parts.append((start + n + within * b + np.arange(b).reshape(-1, 1)).reshape(-1))
        start += n
    return np.concatenate([*parts, np.arange(sum(config.generations), config.features)])


def firing_probabilities(config: WorldConfig) -> jax.Array:
    """``(features,)`` by rank: ``(i + 1)^-exponent``, stretched to lie from ``most`` to ``least``."""
    raw = jnp.arange(1, config.features + 1, dtype=jnp.float32) ** -config.exponent
    span = jnp.maximum(raw[0] - raw[-1], 1e-12)
    return config.least + (config.most - config.least) * (raw - raw[-1]) / span


def compensated(config: WorldConfig, p: jax.Array) -> jax.Array:
    """``(features,)`` by rank, raised for what the trees take: ``p / q (1 + s / q)``, q the parent's, s the siblings' sum."""
    parts, start = [p[: config.roots]], 0
    for n in config.generations[:-1]:
        parents = p[start : start + n].reshape(n, 1)
        children = p[start + n : start + n + n * config.branching].reshape(n, config.branching)
        siblings = children.sum(axis=1, keepdims=True) - children
        parts.append((children / parents * (1 + siblings / parents)).reshape(-1))
        start += n
    return jnp.minimum(jnp.concatenate([*parts, p[sum(config.generations) :]]), HIGHEST)


def moved_apart(atoms: jax.Array, *, steps: int, rate: float) -> jax.Array:
    """Unit rows ``(n, d)`` after ``steps`` of Adam on ``sum_ij (w_i . w_j)^2 = ||W^T W||^2``, scaled to norm 1 after each."""
    optimiser = optax.adam(rate)

    def overlap(w: jax.Array) -> jax.Array:
        return jnp.sum((w.T @ w) ** 2)

    def step(carry: tuple[jax.Array, optax.OptState], _: None) -> tuple[tuple[jax.Array, optax.OptState], None]:
        w, state = carry
        w, state = apply_gradients(optimiser, jax.grad(overlap)(w), state, w)
        return (w / jnp.linalg.norm(w, axis=-1, keepdims=True), state), None

    (moved, _), _ = jax.lax.scan(step, (atoms, optimiser.init(atoms)), None, length=steps)
    return moved


def world(key: jax.Array, config: WorldConfig) -> World:
    """Draw features and their laws, after the published protocol of SynthSAEBench; its own draws are others.

    Args:
      key: random key.
      config: see :class:`WorldConfig`.

    Source: Chanin and Garriga-Alonso, SynthSAEBench: evaluating sparse autoencoders on scalable realistic synthetic data, 2026.
    """
    atom_key, bias_key, cause_key, std_key = jax.random.split(key, 4)
    atoms = jax.random.normal(atom_key, (config.features, config.d))
    atoms = atoms / jnp.linalg.norm(atoms, axis=-1, keepdims=True)
    causes = config.correlation * jax.random.normal(cause_key, (config.features, config.rank))
    length = jnp.sqrt(jnp.sum(causes**2, axis=1, keepdims=True))
    bias, order = jax.random.normal(bias_key, (config.d,)), ranks(config)
    return World(
        atoms=moved_apart(atoms, steps=config.apart_steps, rate=config.apart_rate),
        bias=config.bias * bias / jnp.linalg.norm(bias),
        threshold=norm.isf(compensated(config, firing_probabilities(config)))[order],
        causes=causes * jnp.minimum(1.0, math.sqrt(0.99) / jnp.maximum(length, 1e-12)),
        mean=jnp.linspace(config.first_mean, config.last_mean, config.features)[order],
        std=jnp.abs(config.spread + config.spread * jax.random.normal(std_key, (config.features,))),
    )


def draw_world(config: WorldConfig, world: World, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """``n`` activations and the magnitudes of their features.

    A Gaussian copula: feature i fires where ``c_i . z + sqrt(1 - ||c_i||^2) e_i > threshold_i``, with common causes ``z``. Its
    magnitude is Gaussian, at least 0. In the trees a child keeps it only while its parent is active, and of several such
    siblings one at random does; it is multiplied by the parent's magnitude over the parent's mean.

    Returns:
      ``(x, h)``: ``(n, d)``, ``x = h @ atoms + bias``, and ``(n, features)``.
    """
    cause_key, fire_key, size_key = jax.random.split(key, 3)
    z = jax.random.normal(cause_key, (n, config.rank))
    rest = jnp.sqrt(1 - jnp.sum(world.causes**2, axis=1))
    p = norm.cdf((z @ world.causes.T - world.threshold.reshape(1, -1)) / rest.reshape(1, -1))
    u = jax.random.uniform(fire_key, p.shape)
    noise = world.std.reshape(1, -1) * jax.random.normal(size_key, p.shape)
    h = jnp.where(u < p, jnp.maximum(world.mean.reshape(1, -1) + noise, 0.0), 0.0)
    # Of a feature that fires u / p is uniform, whatever p is: the largest of several names one of them at random.
    h = _within_trees(config, world.mean, h, u / jnp.maximum(p, 1e-30))
    return h @ world.atoms + world.bias.reshape(1, -1), h


def _within_trees(config: WorldConfig, mean: jax.Array, h: jax.Array, lot: jax.Array) -> jax.Array:
    """Magnitudes ``(n, features)`` that the trees leave, generation by generation; ``lot`` decides between siblings."""
    parts, start, b = [h[:, : config.roots]], 0, config.branching
    for n in config.generations[:-1]:
        own = slice(start + n, start + n + n * b)
        children, drawn = (a[:, own].reshape(len(h), b, n) for a in (h, lot))
        drawn = jnp.where(children > 0, drawn, -1.0)
        scale = parts[-1] / mean[start : start + n].reshape(1, -1)  # 0 where the parent is not active
        kept = jnp.where(drawn == drawn.max(axis=1, keepdims=True), children, 0.0)
        parts.append((kept * scale.reshape(len(h), 1, n)).reshape(len(h), n * b))
        start += n
    return jnp.concatenate([*parts, h[:, sum(config.generations) :]], axis=1)
