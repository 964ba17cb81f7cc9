"""The pairs of image networks that a configuration can name."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from saegan_jax.algorithms.nets import Nets
from saegan_jax.errors import require
from saegan_jax.networks.discriminators import DCGANDiscriminator, MLPDiscriminator, UnrolledDiscriminator
from saegan_jax.networks.generators import DCGANGenerator, MLPGenerator, UnrolledGenerator
from saegan_jax.networks.residual import ResidualDiscriminator, ResidualGenerator

if TYPE_CHECKING:
    from saegan_jax.algorithms.gan.config import GANConfig, GeneratorConfig

ImageShape = tuple[int, int, int]


def check_stages(config: "GeneratorConfig", image_shape: ImageShape) -> None:
    """Raise :class:`saegan_jax.errors.ConfigError` unless both sides of the image can be halved ``stages`` times."""
    height, width, _ = image_shape
    n = config.stages
    require(
        height % 2**n == 0 and width % 2**n == 0,
        "network",
        config.network,
        f"it halves the image {n} times, and {height}x{width} is not divisible by {2**n}; use fewer stages, "
        "network='mlp', or pad the images.",
    )


class NetworkPair(NamedTuple):
    """One architecture.

    Attributes:
      generator: ``generator(config, image_shape)``, a Flax module from latents to images in [-1, 1].
      discriminator: ``discriminator(config, image_shape, n_classes)``, a Flax module from images to logits.
    """

    generator: Callable[["GeneratorConfig", ImageShape], Any]
    discriminator: Callable[["GANConfig", ImageShape, int], Any]


def mlp_discriminator(config: "GANConfig", image_shape: ImageShape, n_classes: int) -> MLPDiscriminator:
    """Dense layers."""
    return MLPDiscriminator(config.hidden if config.d_hidden is None else config.d_hidden, n_classes, config.scale)


def unrolled_discriminator(config: "GANConfig", image_shape: ImageShape, n_classes: int) -> UnrolledDiscriminator:
    """The tiny network of the Unrolled GAN paper."""
    return UnrolledDiscriminator(config.d_width or config.width, n_classes)


def dcgan_generator(config: "GeneratorConfig", image_shape: ImageShape) -> DCGANGenerator:
    """Transposed strided convolutions."""
    check_stages(config, image_shape)
    return DCGANGenerator(image_shape, config.width, config.conv_form, config.stages, config.mix)


def dcgan_discriminator(config: "GANConfig", image_shape: ImageShape, n_classes: int) -> DCGANDiscriminator:
    """Strided convolutions."""
    check_stages(config, image_shape)
    width = config.d_width or config.width
    return DCGANDiscriminator(width, config.conv_form, config.stages, n_classes, config.head_hidden)


def residual_generator(config: "GeneratorConfig", image_shape: ImageShape) -> ResidualGenerator:
    """R3GAN's residual blocks."""
    check_stages(config, image_shape)
    return ResidualGenerator(image_shape, config.width, config.stages, config.blocks, conv_form=config.conv_form)


def residual_discriminator(config: "GANConfig", image_shape: ImageShape, n_classes: int) -> ResidualDiscriminator:
    """R3GAN's residual blocks."""
    check_stages(config, image_shape)
    width, form = config.d_width or config.width, config.conv_form
    return ResidualDiscriminator(width, config.stages, config.blocks, conv_form=form, n_classes=n_classes)


NETWORKS: dict[str, NetworkPair] = {
    "mlp": NetworkPair(lambda config, shape: MLPGenerator(shape, config.hidden, config.scale), mlp_discriminator),
    "dcgan": NetworkPair(dcgan_generator, dcgan_discriminator),
    "residual": NetworkPair(residual_generator, residual_discriminator),
    "unrolled": NetworkPair(lambda config, shape: UnrolledGenerator(shape, config.width), unrolled_discriminator),
}


def image_generator(config: "GeneratorConfig", image_shape: ImageShape) -> Any:
    """The generator that ``config`` describes, a Flax module from ``(n, d_latent)`` to images in [-1, 1].

    Raises:
      ConfigError: an image size that the architecture cannot make.
    """
    return NETWORKS[config.network].generator(config, image_shape)


def image_networks(config: "GANConfig", image_shape: ImageShape, *, n_classes: int = 0) -> Nets:
    """The generator and the image discriminator that ``config`` describes, as Flax modules.

    Args:
      config: see :class:`saegan_jax.algorithms.gan.GANConfig`.
      image_shape: ``(height, width, channels)``.
      n_classes: classes that the discriminator projects on; 0 for none.

    Raises:
      ConfigError: an image size that the architecture cannot make.
    """
    pair = NETWORKS[config.network]
    return Nets(pair.generator(config, image_shape), pair.discriminator(config, image_shape, n_classes))
