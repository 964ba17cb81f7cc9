"""The pairs of image networks that a configuration can name."""

from collections.abc import Callable
from typing import TYPE_CHECKING

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


def mlp(config: "GANConfig", image_shape: ImageShape, n_classes: int) -> Nets:
    """Dense layers."""
    d_hidden = config.hidden if config.d_hidden is None else config.d_hidden
    return Nets(
        MLPGenerator(image_shape, config.hidden, config.scale), MLPDiscriminator(d_hidden, n_classes, config.scale)
    )


def unrolled(config: "GANConfig", image_shape: ImageShape, n_classes: int) -> Nets:
    """The tiny pair of the Unrolled GAN paper."""
    d_width = config.d_width or config.width
    return Nets(UnrolledGenerator(image_shape, config.width), UnrolledDiscriminator(d_width, n_classes))


def dcgan(config: "GANConfig", image_shape: ImageShape, n_classes: int) -> Nets:
    """Strided convolutions."""
    check_stages(config, image_shape)
    form, stages = config.conv_form, config.stages
    return Nets(
        DCGANGenerator(image_shape, config.width, form, stages, config.mix),
        DCGANDiscriminator(config.d_width or config.width, form, stages, n_classes, config.head_hidden),
    )


def residual(config: "GANConfig", image_shape: ImageShape, n_classes: int) -> Nets:
    """R3GAN's residual blocks."""
    check_stages(config, image_shape)
    form, stages = config.conv_form, config.stages
    d_width = config.d_width or config.width
    return Nets(
        ResidualGenerator(image_shape, config.width, stages, config.blocks, conv_form=form),
        ResidualDiscriminator(d_width, stages, config.blocks, conv_form=form, n_classes=n_classes),
    )


NETWORKS: dict[str, Callable[["GANConfig", ImageShape, int], Nets]] = {
    "mlp": mlp,
    "dcgan": dcgan,
    "residual": residual,
    "unrolled": unrolled,
}


def image_networks(config: "GANConfig", image_shape: ImageShape, *, n_classes: int = 0) -> Nets:
    """The generator and the image discriminator that ``config`` describes, as Flax modules.

    Args:
      config: see :class:`saegan_jax.algorithms.gan.GANConfig`.
      image_shape: ``(height, width, channels)``.
      n_classes: classes that the discriminator projects on; 0 for none.

    Raises:
      ConfigError: an image size that the architecture cannot make.
    """
    return NETWORKS[config.network](config, image_shape, n_classes)
