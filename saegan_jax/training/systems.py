"""From settings to programs for one seed or for many: initial states, samples, and empty states to restore into."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.registry import build, system_of
from saegan_jax.algorithms.saegan import Pretrained, SAEGANConfig, fit_pretrained


def member_keys(seed: int, n_seeds: int) -> jax.Array:
    """Keys of the seeds ``seed .. seed + n_seeds - 1``, so that a member equals the single run of its seed."""
    return jax.vmap(jax.random.key)(seed + jnp.arange(n_seeds))


def gan_members_per_vmap(settings: Any) -> int | None:
    """Members of an ensemble to compute together: on a CPU one, where the activations of several leave its cache.

    Measured on a CPU: 8 DCGANs of 28x28 together ran at 0.8 of the steps of one after another, 3 of the tiny networks of
    Stacked MNIST at 0.82. Dense networks, whose activations are small, stay together. None is all that the memory holds, also
    for settings that name no network.
    """
    convolutional = getattr(settings, "network", "mlp") != "mlp"
    return 1 if jax.default_backend() == "cpu" and convolutional else None


def init_members(algorithm: Algorithm, *, seed: int, n_seeds: int, pretrained: Any = None, shared: bool = False) -> Any:
    """The initial state of one seed, or of ``n_seeds`` stacked along a leading axis.

    Args:
      algorithm: whose ``init`` is called.
      seed: of the first member.
      n_seeds: members.
      pretrained: the second argument of ``init``; None passes nothing. With several seeds every leaf has a leading axis of
        members, one value each.
      shared: all members get the same ``pretrained``, without that axis.
    """
    given = () if pretrained is None else (pretrained,)
    if n_seeds == 1:
        return algorithm.init(jax.random.key(seed), *given)
    axes = (0, None if shared else 0)[: 1 + len(given)]
    return jax.vmap(algorithm.init, in_axes=axes)(member_keys(seed, n_seeds), *given)


def fit_members(config: SAEGANConfig, sae_params: Any, images: jax.Array, *, seed: int, n_seeds: int) -> Pretrained:
    """:func:`fit_pretrained` for one trained autoencoder, or for a stack of them on the same images."""
    if n_seeds == 1:
        return fit_pretrained(config, sae_params, images, jax.random.key(seed))

    def one(given: tuple[Any, jax.Array]) -> Pretrained:
        return fit_pretrained(config, given[0], images, given[1])

    return jax.lax.map(one, (sae_params, member_keys(seed, n_seeds)))


def pretrained_shapes(settings: Any, *, image_shape: tuple[int, int, int], n_seeds: int = 1) -> Any:
    """Shapes of what ``init`` of the system must be given, with a leading axis of members where there are several."""
    shapes = system_of(settings).pretrained_shapes(settings, image_shape=image_shape)
    if n_seeds == 1:
        return shapes
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct((n_seeds, *s.shape), s.dtype), shapes)


def abstract_system(
    settings: Any, *, image_shape: tuple[int, int, int], n_seeds: int, n_classes: int = 0, pretrained: Any = None
) -> tuple[Algorithm, Any]:
    """A system as a run trained it, without its data: its algorithm, and the shapes of its state to restore into.

    Args:
      settings: of a system in the registry.
      image_shape: ``(height, width, channels)``.
      n_seeds: members in the state.
      n_classes: of the data.
      pretrained: :func:`pretrained_shapes`, where they are known already.

    Raises:
      ConfigError: an image size that the networks cannot make.
    """
    algorithm = build(settings, image_shape=image_shape, n_classes=n_classes)
    if pretrained is None:
        pretrained = pretrained_shapes(settings, image_shape=image_shape, n_seeds=n_seeds)
    init = functools.partial(init_members, algorithm, seed=0, n_seeds=n_seeds)
    return algorithm, jax.eval_shape(lambda given: init(pretrained=given), pretrained)


@functools.partial(jax.jit, static_argnames=("sample", "n", "n_seeds"))
def _batch(state: Any, key: jax.Array, *, sample: Callable[..., jax.Array], n: int, n_seeds: int) -> jax.Array:
    # At the top level, so that the pictures of a training are one compiled program.
    return sample(state, key, n) if n_seeds == 1 else jax.vmap(lambda member: sample(member, key, n))(state)


def draw(algorithm: Algorithm, state: Any, *, seed: int, n: int, n_seeds: int, batch_size: int = 500) -> np.ndarray:
    """Samples of every member, as the run's user would draw them.

    Args:
      algorithm: whose ``sample`` is called.
      state: of one member, or stacked.
      seed: fixes the samples; batch i uses ``fold_in(key(seed), i)``.
      n: samples a member.
      n_seeds: members in ``state``.
      batch_size: samples drawn at a time, which bounds the memory.

    Returns:
      ``(n_seeds, n, height, width, channels)`` float32 in [0, 1], on the host.
    """
    size = min(n, batch_size)
    keys = [jax.random.fold_in(jax.random.key(seed), i) for i in range(-(-n // size))]
    batches = [np.asarray(_batch(state, key, sample=algorithm.sample, n=size, n_seeds=n_seeds)) for key in keys]
    return np.concatenate([b if n_seeds > 1 else b[None] for b in batches], axis=1)[:, :n]
