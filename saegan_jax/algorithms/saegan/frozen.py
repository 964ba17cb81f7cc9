"""The frozen autoencoder as a game reads it: images in [-1, 1], and codes divided by each unit's scale."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from saegan_jax.algorithms.sae import Autoencoder
from saegan_jax.images import to_signed, to_unit


@flax.struct.dataclass
class Pretrained:
    """What a SAE-GAN reads and never changes.

    Attributes:
      sae: parameters of the trained sparse autoencoder.
      scale: ``(d_sae,)``, root mean square of its codes of training images, at least ``MIN_SCALE``; networks read codes
        divided by it.
      prior: the sparse prior fitted to these codes; ``()`` where the generator reads none.
      critics: by name, what critics fitted to training images; those that fit nothing are left out.
    """

    sae: Any
    scale: jax.Array
    prior: Any
    critics: dict[str, Any]


class FrozenSAE(NamedTuple):
    """An autoencoder's functions, whose parameters no gradient reaches; one through them to the images does pass.

    Attributes:
      functions: encode, decode and pre-activations.
      d_sae: number of units.
      active_above: a code above it counts as active.
    """

    functions: Autoencoder
    d_sae: int
    active_above: float

    @staticmethod
    def params(pretrained: Pretrained) -> Any:
        """Parameters that no gradient reaches."""
        return jax.lax.stop_gradient(pretrained.sae)

    @staticmethod
    def scaled(pretrained: Pretrained, codes: jax.Array) -> jax.Array:
        """Codes divided by each unit's scale, and not centred: off stays 0."""
        return codes / pretrained.scale.reshape((1,) * (codes.ndim - 1) + (-1,))

    def codes(self, pretrained: Pretrained, images: jax.Array) -> jax.Array:
        """Codes of ``(batch, height, width, channels)`` images in [-1, 1]: ``(batch, [rows, columns,] d_sae)``."""
        return self.functions.encode(self.params(pretrained), to_unit(images))

    def scaled_codes(self, pretrained: Pretrained, images: jax.Array) -> jax.Array:
        """The same divided by the scale: what critics on codes read."""
        return self.scaled(pretrained, self.codes(pretrained, images))

    def pre_activations(self, pretrained: Pretrained, images: jax.Array) -> jax.Array:
        """What codes are made from, of their shape."""
        return self.functions.pre_activations(self.params(pretrained), to_unit(images))

    def reconstruction(self, pretrained: Pretrained, codes: jax.Array) -> jax.Array:
        """Images in [-1, 1] of codes."""
        return to_signed(self.functions.decode(self.params(pretrained), codes))

    def decoded(self, pretrained: Pretrained, scaled_codes: jax.Array) -> jax.Array:
        """Images in [-1, 1] of ``(batch, d_sae)`` codes that were divided by the scale."""
        return self.reconstruction(pretrained, scaled_codes * pretrained.scale.reshape(1, -1))

    def active_codes(self, pretrained: Pretrained, images: jax.Array) -> jax.Array:
        """Scaled codes of images in [0, 1], those that do not count as active at exactly 0, as generated ones are.

        The faint part of sigmoid codes would give every real away.
        """
        codes = self.codes(pretrained, to_signed(images))
        return self.scaled(pretrained, jnp.where(codes > self.active_above, codes, 0.0))
