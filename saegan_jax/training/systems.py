"""From settings to programs for one seed or for many: initial states, samples, and empty states to restore into."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.energy import EnergyConfig, energy
from saegan_jax.algorithms.gan import GANConfig, gan
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.algorithms.saegan import Frozen, SAEGANConfig, freeze, saegan
from saegan_jax.algorithms.vae import VAEConfig, vae


def member_keys(seed: int, n_seeds: int) -> jax.Array:
    """Keys of the seeds ``seed .. seed + n_seeds - 1``, so that a member equals the single run of its seed."""
    return jax.vmap(jax.random.key)(seed + jnp.arange(n_seeds))


def gan_members_per_vmap(config: GANConfig) -> int | None:
    """Members of an ensemble to compute together: on a CPU one, where the activations of several leave its cache.

    Measured on a CPU: 8 DCGANs of 28x28 together ran at .8 of the steps of one after another, 3 of the tiny networks of Stacked
    MNIST at .82. Dense networks, whose activations are small, stay together. None is all that the memory holds.
    """
    return 1 if jax.default_backend() == "cpu" and config.network != "mlp" else None


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


def init_saegan(
    config: SAEGANConfig,
    frozen: Frozen,
    *,
    image_shape: tuple[int, int, int],
    seed: int,
    n_seeds: int,
    n_classes: int = 0,
) -> Any:
    """As :func:`init_members`; with several seeds each member has its own autoencoder in ``frozen``."""
    if n_seeds == 1:
        return saegan(config, frozen, image_shape=image_shape, n_classes=n_classes).init(jax.random.key(seed))
    return jax.vmap(lambda key, own: saegan(config, own, image_shape=image_shape, n_classes=n_classes).init(key))(
        member_keys(seed, n_seeds), frozen
    )


def freeze_members(config: SAEGANConfig, sae_params: Any, images: jax.Array, *, seed: int, n_seeds: int) -> Frozen:
    """:func:`freeze` for one trained autoencoder, or for a stack of them on the same images."""
    if n_seeds == 1:
        return freeze(config, sae_params, images, jax.random.key(seed))
    return jax.lax.map(lambda own: freeze(config, own[0], images, own[1]), (sae_params, member_keys(seed, n_seeds)))


def init_energy(
    config: EnergyConfig,
    start: Any,
    *,
    image_shape: tuple[int, int, int],
    seed: int,
    n_seeds: int,
    center: jax.Array | None = None,
) -> Any:
    """As :func:`init_members`; with several seeds each member starts from its own autoencoder in ``start``, or from none."""
    if n_seeds == 1 or start is None:
        algorithm = energy(config, image_shape=image_shape, center=center, start=start)
        return init_members(algorithm, seed=seed, n_seeds=n_seeds)
    return jax.vmap(lambda key, own: energy(config, image_shape=image_shape, start=own).init(key))(
        member_keys(seed, n_seeds), start
    )


def abstract_saegan(
    config: SAEGANConfig, *, image_shape: tuple[int, int, int], n_seeds: int, n_classes: int = 0
) -> Any:
    """Shapes of a SAE-GAN's state, made without training or data: what a checkpoint is restored into."""

    def init() -> Any:
        state = init_members(sae(config.sae, image_shape=image_shape), seed=0, n_seeds=n_seeds)
        frozen = freeze_members(config, state.params, jnp.zeros((1, *image_shape)), seed=0, n_seeds=n_seeds)
        return init_saegan(config, frozen, image_shape=image_shape, seed=0, n_seeds=n_seeds, n_classes=n_classes)

    return jax.eval_shape(init)


def rebuild(
    settings: SAEConfig | GANConfig | SAEGANConfig | EnergyConfig | VAEConfig,
    *,
    image_shape: tuple[int, int, int],
    n_seeds: int,
    n_classes: int = 0,
) -> tuple[Algorithm, Any]:
    """A system as a run trained it, without its data: its algorithm, and the shapes of its state to restore into.

    The algorithm of a SAE-GAN can ``step`` and ``sample``, which read the restored autoencoder, but not ``init``.

    Raises:
      ConfigError: an image size that the networks cannot make.
    """
    if isinstance(settings, SAEGANConfig):
        state = abstract_saegan(settings, image_shape=image_shape, n_seeds=n_seeds, n_classes=n_classes)
        return saegan(settings, state.context, image_shape=image_shape, n_classes=n_classes), state
    if isinstance(settings, EnergyConfig):
        algorithm = energy(settings, image_shape=image_shape)
    elif isinstance(settings, GANConfig):
        algorithm = gan(settings, image_shape=image_shape, n_classes=n_classes)
    elif isinstance(settings, VAEConfig):
        algorithm = vae(settings, image_shape=image_shape)
    else:
        algorithm = sae(settings, image_shape=image_shape)
    return algorithm, jax.eval_shape(lambda: init_members(algorithm, seed=0, n_seeds=n_seeds))


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
