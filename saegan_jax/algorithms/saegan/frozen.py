"""The frozen autoencoder as a game reads it: images in [-1, 1], and codes divided by each unit's scale."""

import math
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
        divided by it. With ``standardise``, their standard deviation.
      center: ``(d_sae,)``, what is taken off before the division: the mean of these codes with ``standardise``, else zeros.
      prior: the sparse prior fitted to these codes; ``()`` where the generator reads none.
      critics: by name, what critics fitted to training images; those that fit nothing are left out.
    """

    sae: Any
    scale: jax.Array
    center: jax.Array
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

    @property
    def d_code(self) -> int:
        """Length of the code of one image: ``d_sae`` for every position."""
        return math.prod(self.functions.positions) * self.d_sae

    @staticmethod
    def params(pretrained: Pretrained) -> Any:
        """Parameters that no gradient reaches."""
        return jax.lax.stop_gradient(pretrained.sae)

    @staticmethod
    def scaled(pretrained: Pretrained, codes: jax.Array) -> jax.Array:
        """``(h - m) / s`` of codes ``(..., d_sae)``: without ``standardise`` m is 0, and off stays 0."""
        like = (1,) * (codes.ndim - 1) + (-1,)
        return (codes - pretrained.center.reshape(like)) / pretrained.scale.reshape(like)

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

    def input_codes(self, pretrained: Pretrained, images: jax.Array) -> jax.Array:
        """Codes ``(batch, d_code)`` of images in [0, 1] as a prior draws them: what is not active at exactly 0.

        The faint part of sigmoid codes would give every real away.
        """
        codes = self.functions.encode(self.params(pretrained), images)
        return jnp.where(codes > self.active_above, codes, 0.0).reshape(images.shape[0], -1)

    def off(self, pretrained: Pretrained) -> jax.Array:
        """``(d_code,)``, a code of which no unit says anything: zeros, or with ``standardise`` the means."""
        return jnp.tile(pretrained.center, self.d_code // self.d_sae)

    def scaled_input(self, pretrained: Pretrained, codes: jax.Array) -> jax.Array:
        """:meth:`scaled` of codes ``(batch, d_code)``, as generators and joint critics read them."""
        return self.scaled(pretrained, codes.reshape(codes.shape[0], -1, self.d_sae)).reshape(codes.shape)

    def unscaled_input(self, pretrained: Pretrained, scaled: jax.Array) -> jax.Array:
        """The codes ``(batch, d_code)`` of which ``scaled`` is :meth:`scaled_input`."""
        scale, center = (x.reshape(1, 1, -1) for x in (pretrained.scale, pretrained.center))
        return (scaled.reshape(scaled.shape[0], -1, self.d_sae) * scale + center).reshape(scaled.shape)

    def decoded(self, pretrained: Pretrained, scaled_codes: jax.Array) -> jax.Array:
        """Images in [-1, 1] of ``(batch, d_sae)`` codes that were divided by the scale."""
        return self.reconstruction(pretrained, scaled_codes * pretrained.scale.reshape(1, -1))

    def active_codes(self, pretrained: Pretrained, images: jax.Array) -> jax.Array:
        """Scaled codes of images in [0, 1], those that do not count as active at exactly 0, as generated ones are."""
        codes = self.codes(pretrained, to_signed(images))
        return self.scaled(pretrained, jnp.where(codes > self.active_above, codes, 0.0))
