"""Every system by name: how it is built from its settings, and what it wants pretrained. A new one is a line here."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.cyclegan import TranslationConfig, TwoDomains, pretrained_shapes, translation
from saegan_jax.algorithms.energy import EnergyConfig, energy
from saegan_jax.algorithms.gan import GANConfig, gan
from saegan_jax.algorithms.gan.schedule import length_matters as gan_length_matters
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.algorithms.saegan import SAEGANConfig, saegan
from saegan_jax.algorithms.saegan import pretrained_shapes as saegan_pretrained_shapes
from saegan_jax.algorithms.vae import VAEConfig, vae

ImageShape = tuple[int, int, int]


def nothing_pretrained(settings: Any, *, image_shape: ImageShape) -> None:
    """``pretrained_shapes`` of a system whose state keeps nothing that was trained before."""
    return


def batch_of_images(batch_size: int, image_shape: ImageShape) -> Any:
    """A :class:`Batch` of shapes."""
    image: Any = jax.ShapeDtypeStruct((batch_size, *image_shape), jnp.float32)
    label: Any = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    return Batch(image, label)


def batches_of_two_domains(batch_size: int, image_shape: ImageShape) -> Any:
    """:class:`TwoDomains` of shapes."""
    image = batch_of_images(batch_size, image_shape).image
    return TwoDomains(image, image)


def falling_rate(settings: Any) -> str:
    """``length_matters`` of a system whose learning rate falls along a cosine that ends with the training."""
    return "the learning rate falls along a cosine to the last step"


def cyclegan_length_matters(settings: TranslationConfig) -> str:
    """``length_matters`` of a CycleGAN."""
    share = settings.cyclegan.constant_share
    return "" if share == 1 else f"with constant_share = {share} the learning rate falls to the last step"


class System(NamedTuple):
    """One kind of training.

    Attributes:
      config: the class of its settings.
      build: ``build(settings, *, image_shape, n_classes) -> Algorithm``; pure, and nothing is compiled.
      pretrained_shapes: ``pretrained_shapes(settings, *, image_shape)``, shapes of what ``init`` must be given beside the key,
        or None: enough to make the shapes of a state without training or data.
      length_matters: ``length_matters(settings)``, why the same settings with more steps in the last phase are another training
        from its first step on; empty where a finished one may simply go on.
      batch_shapes: ``batch_shapes(batch_size, image_shape)``, shapes of what a step learns from.
    """

    config: type
    build: Callable[..., Algorithm]
    pretrained_shapes: Callable[..., Any] = nothing_pretrained
    length_matters: Callable[[Any], str] = falling_rate
    batch_shapes: Callable[[int, ImageShape], Any] = batch_of_images


def without_classes(build: Callable[..., Algorithm]) -> Callable[..., Algorithm]:
    """``build`` of a system that reads no labels."""
    return lambda settings, *, image_shape, n_classes=0: build(settings, image_shape=image_shape)


SYSTEMS: dict[str, System] = {
    "sae": System(SAEConfig, without_classes(sae)),
    "gan": System(GANConfig, gan, length_matters=gan_length_matters),
    "saegan": System(
        SAEGANConfig, saegan, saegan_pretrained_shapes, length_matters=lambda settings: gan_length_matters(settings.gan)
    ),
    "vae": System(VAEConfig, without_classes(vae)),
    "energy": System(
        EnergyConfig, without_classes(energy), length_matters=lambda settings: gan_length_matters(settings.gan)
    ),
    "cyclegan": System(
        TranslationConfig,
        without_classes(translation),
        pretrained_shapes,
        cyclegan_length_matters,
        batches_of_two_domains,
    ),
}


def system_of(settings: Any) -> System:
    """The system whose settings these are.

    Raises:
      ValueError: of none.
    """
    for system in SYSTEMS.values():
        if system.config is type(settings):
            return system
    raise ValueError(f"{type(settings).__name__} belongs to no system; register one in SYSTEMS.")


def build(settings: Any, *, image_shape: ImageShape, n_classes: int = 0) -> Algorithm:
    """The algorithm of ``settings``, by the registry.

    Raises:
      ConfigError: an image size that its networks cannot make.
      ValueError: settings of no system.
    """
    return system_of(settings).build(settings, image_shape=image_shape, n_classes=n_classes)
