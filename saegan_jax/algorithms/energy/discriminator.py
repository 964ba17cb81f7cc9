"""The discriminator of an energy-based GAN: a sparse autoencoder, alone or between dense layers."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from saegan_jax.algorithms.energy.config import EnergyConfig
from saegan_jax.algorithms.energy.kinds import Judged
from saegan_jax.algorithms.sae import Start, autoencoder, module, sae
from saegan_jax.algorithms.sae import hyper as sae_hyper
from saegan_jax.images import flatten_images
from saegan_jax.networks.dense import DenseLayers


class EnergyNet(NamedTuple):
    """The discriminator as pure functions.

    Attributes:
      judge: ``judge(params, images) -> Judged`` of images in [0, 1].
      init: ``init(key, start=None) -> params``, ``{"sae", "enter", "leave"}``, the latter two ``()`` without hidden layers;
        ``start`` a :class:`saegan_jax.algorithms.sae.Start`.
    """

    judge: Callable[[Any, jax.Array], Judged]
    init: Callable[..., Any]


class _Layers(NamedTuple):
    """The networks of a discriminator: the autoencoder's functions and Flax module, and the layers around it or None."""

    functions: Any
    core: Any
    inner_shape: tuple[int, int, int]
    d_in: int
    enter: nn.Module | None
    leave: nn.Module | None


def _layers(config: EnergyConfig, image_shape: tuple[int, int, int]) -> _Layers:
    hidden = config.hidden
    inner_shape = (1, 1, hidden[-1]) if hidden else image_shape
    functions = autoencoder(config.sae, image_shape=inner_shape)
    d_in = image_shape[0] * image_shape[1] * image_shape[2]
    enter = DenseLayers(hidden) if hidden else None
    leave = DenseLayers((*hidden[-2::-1], d_in), linear=True) if hidden else None
    return _Layers(functions, module(config.sae, functions.d_in), inner_shape, d_in, enter, leave)


def judge(config: EnergyConfig, layers: _Layers, params: Any, images: jax.Array) -> Judged:
    """Energies and codes of ``(batch, height, width, channels)`` images in [0, 1]: see :func:`energy_net`."""
    inner, functions = images, layers.functions
    if layers.enter is not None:
        features: Any = layers.enter.apply(params["enter"], flatten_images(images))
        inner = features.reshape(-1, *layers.inner_shape)
    _, terms = functions.loss(params["sae"], inner, hyper=sae_hyper(config.sae))
    # Once more instead of the loss's, in a path of their own: gradients are then summed in the order of the golden steps.
    pre_activations = layers.core.apply(params["sae"], terms.inputs, method="pre_activations")
    x_hat = functions.decode(params["sae"], terms.codes)
    if layers.leave is not None:
        outputs: Any = layers.leave.apply(params["leave"], nn.leaky_relu(flatten_images(x_hat), 0.2))
        x_hat = outputs.reshape(images.shape)
    error = flatten_images(images - x_hat)
    energy = 0.5 * jnp.square(error).sum(axis=1) if config.distance == "squared" else jnp.abs(error).sum(axis=1)
    penalty = config.sae.beta * terms.sparsity + terms.auxiliary
    return Judged(energy, pre_activations, terms.codes, penalty, terms.sparsity)


def _init_discriminator(config: EnergyConfig, layers: _Layers, key: jax.Array, start: Start | None = None) -> Any:
    if start is not None and config.hidden:
        raise ValueError(
            f"pretrained is an autoencoder of images, but hidden={config.hidden} puts layers around it: set hidden=()."
        )
    sae_key, enter_key, leave_key = jax.random.split(key, 3)
    params = sae(config.sae, image_shape=layers.inner_shape).init(sae_key, start).params
    enter, leave = layers.enter, layers.leave
    return {
        "sae": params,
        "enter": () if enter is None else enter.init(enter_key, jnp.zeros((1, layers.d_in), jnp.float32)),
        "leave": () if leave is None else leave.init(leave_key, jnp.zeros((1, config.hidden[-1]), jnp.float32)),
    }


def energy_net(config: EnergyConfig, *, image_shape: tuple[int, int, int]) -> EnergyNet:
    """The autoencoder of ``config``: ``x -> [dense layers ->] sparse autoencoder [-> dense layers]``.

    ``E(x) = 1/2 ||x_hat - x||^2`` or ``||x_hat - x||_1``, summed over pixels and channels.

    Args:
      config: see :class:`EnergyConfig`.
      image_shape: ``(height, width, channels)``.

    Raises:
      ConfigError: patches that do not fit the image.
    """
    layers = _layers(config, image_shape)
    return EnergyNet(partial(judge, config, layers), partial(_init_discriminator, config, layers))
