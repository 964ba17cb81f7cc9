"""Dense layers around the code of an autoencoder."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from saegan_jax.networks.layers import HE


class DenseLayers(nn.Module):
    """``(..., d_in) -> (..., features[-1])``: dense layers, each with leaky ReLU 0.2, the last without if ``linear``."""

    features: Sequence[int]
    linear: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        last = len(self.features) - 1
        for i, features in enumerate(self.features):
            linear = self.linear and i == last
            x = nn.Dense(features, kernel_init=nn.initializers.lecun_normal() if linear else HE)(x)
            x = x if linear else nn.leaky_relu(x, 0.2)
        return x
