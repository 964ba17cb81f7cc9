"""Critics: images ``(batch, height, width, channels)`` or codes ``(batch, d_sae)`` to logits ``(batch,)``."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from saegan_jax.networks.layers import HE, Conv4x4, ConvForm


class MLPDiscriminator(nn.Module):
    """Dense layers with leaky ReLU 0.2 on the flattened input; no hidden layer makes it a linear critic."""

    hidden: Sequence[int] = (256, 256)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for features in self.hidden:
            x = nn.leaky_relu(nn.Dense(features, kernel_init=HE)(x), 0.2)
        return nn.Dense(1)(x).reshape(-1)


class DCGANDiscriminator(nn.Module):
    """Two strided convolutions with leaky ReLU 0.2 and a dense head, as DCGAN (Radford et al., 2016) without batch norm."""

    width: int = 32
    conv_form: ConvForm = "matrix"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.leaky_relu(Conv4x4(self.width, form=self.conv_form)(x), 0.2)
        x = nn.leaky_relu(Conv4x4(2 * self.width, form=self.conv_form)(x), 0.2)
        return nn.Dense(1)(x.reshape(x.shape[0], -1)).reshape(-1)
