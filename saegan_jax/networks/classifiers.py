"""A small convolutional classifier, whose last hidden layer is the space in which generators are scored."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from saegan_jax.networks.layers import Conv4x4


class Classifier(nn.Module):
    """Stride-2 4x4 convolutions down to a side of at most 8 (at least one), a dense layer of features, a dense layer.

    The features are taken *before* the last non-linearity: they are closer to a Gaussian than rectified ones, none is
    constant, and so a Frechet distance between them is well conditioned.

    Attributes:
      num_classes: number of classes.
      width: channels after the first convolution; doubled by each later one, up to ``4 * width``.
      feature_dim: number of features.
      dropout: fraction of the convolutional activations dropped in training.
    """

    num_classes: int
    width: int = 32
    feature_dim: int = 64
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """``images (batch, height, width, channels)`` in [0, 1] -> ``(logits (batch, num_classes), features (batch,
        feature_dim))``, both float32. With ``train`` the dropout needs ``rngs={"dropout": key}``."""
        x, channels = images, self.width
        while x is images or max(x.shape[1:3]) > 8:
            # An odd side gets one row or column of zeros, so that any image size halves.
            x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
            x = nn.relu(Conv4x4(channels)(x))
            channels = min(2 * channels, 4 * self.width)
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        features = nn.Dense(self.feature_dim, name="features")(x)
        return nn.Dense(self.num_classes, name="logits")(nn.relu(features)), features
