"""Critics: images ``(batch, height, width, channels)`` or codes ``(batch, d_sae)`` to logits ``(batch,)``.

Conditional ones (``n_classes > 0``) also take each example's class, ``label (batch,)`` int32. ``side (batch, d_side)`` is
a further input, which is appended where the image has become a vector; ``code (batch, d_code)`` is one whose projection
multiplies the last features.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from saegan_jax.networks.layers import HE, Conv4x4, ConvForm, RowConv3x3


def head(features: jax.Array, label: jax.Array | None, n_classes: int, code: jax.Array | None = None) -> jax.Array:
    """``features f (batch, d)`` to logits ``(batch,)``, inside a compact module: ``w . f + b``, ``v_label . f`` with classes,
    and ``<f, V code> / sqrt(d)`` with a ``code (batch, d_code)``.

    Raises:
      ValueError: a label without classes, or classes without a label.

    Source: Miyato and Koyama, cGANs with projection discriminator, 2018, eq. 4.
    """
    if (label is None) != (n_classes == 0):
        given = "no label" if label is None else "a label"
        raise ValueError(f"the critic has n_classes={n_classes} and got {given}; classes and labels go together.")
    logits = nn.Dense(1)(features).reshape(-1)
    if code is not None:
        d = features.shape[-1]
        logits += (features * nn.Dense(d, use_bias=False, name="code")(code)).sum(axis=-1) / d**0.5
    if label is None:
        return logits
    per_class = nn.Dense(n_classes, use_bias=False, name="classes")(features)
    return logits + jnp.take_along_axis(per_class, label[:, None], axis=1).reshape(-1)


def beside(features: jax.Array, side: jax.Array | None) -> jax.Array:
    """``features (batch, ...)`` as vectors, with ``side`` at their end."""
    features = features.reshape(features.shape[0], -1)
    return features if side is None else jnp.concatenate([features, side], axis=-1)


class MLPDiscriminator(nn.Module):
    """Dense layers with leaky ReLU 0.2 on ``scale`` times the flattened input; no hidden layer makes it a linear critic."""

    hidden: Sequence[int] = (256, 256)
    n_classes: int = 0
    scale: float = 1.0

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, side: jax.Array | None = None, code: jax.Array | None = None
    ) -> jax.Array:
        x = beside(self.scale * x, side)
        for features in self.hidden:
            x = nn.leaky_relu(nn.Dense(features, kernel_init=HE)(x), 0.2)
        return head(x, label, self.n_classes, code)


class DCGANDiscriminator(nn.Module):
    """Strided convolutions with leaky ReLU 0.2 and a dense head, as DCGAN (Radford et al., 2016) without batch norm.

    Each of the ``stages`` halves the image; the first has ``width`` channels, each later one twice as many. ``hidden`` dense
    layers, of which DCGAN has none, let the head see combinations of features.
    """

    width: int = 32
    conv_form: ConvForm = "auto"
    stages: int = 2
    n_classes: int = 0
    hidden: Sequence[int] = ()

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, side: jax.Array | None = None, code: jax.Array | None = None
    ) -> jax.Array:
        for stage in range(self.stages):
            x = nn.leaky_relu(Conv4x4(self.width * 2**stage, form=self.conv_form)(x), 0.2)
        x = beside(x, side)
        for features in self.hidden:
            x = nn.leaky_relu(nn.Dense(features, kernel_init=HE)(x), 0.2)
        return head(x, label, self.n_classes, code)


class UnrolledDiscriminator(nn.Module):
    """Three 3x3 convolutions of stride 2, leaky ReLU 0.3, channels (1, 2, 4) width, and a dense head.

    The tiny critic of the Stacked MNIST test in Metz et al., Unrolled generative adversarial networks (2017), appendix,
    without batch normalisation. There the generator has width 8, the critic 2 (a quarter) or 4 (half).
    """

    width: int = 2
    n_classes: int = 0

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, side: jax.Array | None = None, code: jax.Array | None = None
    ) -> jax.Array:
        for stage in range(3):
            x = nn.leaky_relu(RowConv3x3(self.width * 2**stage, stride=2)(x), 0.3)
        return head(beside(x, side), label, self.n_classes, code)


class CodeDiscriminator(nn.Module):
    """An :class:`MLPDiscriminator` on codes ``(batch, d)``, or on those of positions, ``(batch, rows, columns, d)``.

    Positions first share a dense layer of ``width`` units with leaky ReLU 0.2, so that the next one reads ``rows * columns *
    width`` numbers and not d of every position.
    """

    hidden: Sequence[int] = (128, 128)
    n_classes: int = 0
    width: int = 16

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array | None = None) -> jax.Array:
        if x.ndim > 2:
            x = nn.leaky_relu(nn.Dense(self.width, kernel_init=HE, name="position")(x), 0.2)
        for features in self.hidden:
            x = nn.leaky_relu(nn.Dense(features, kernel_init=HE)(x.reshape(x.shape[0], -1)), 0.2)
        return head(x.reshape(x.shape[0], -1), label, self.n_classes)
