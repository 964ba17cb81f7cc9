"""Mixtures of Gaussians in the plane, the smallest data with modes to lose; points are handled as tiny images."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Batch
from saegan_jax.errors import require_choice

MixtureName = Literal["ring", "grid"]
POINT_SHAPE = (1, 1, 2)  # a point as an image of one pixel


class Mixture(NamedTuple):
    """Equally likely isotropic Gaussians in the plane.

    Attributes:
      centers: ``(modes, 2)`` float32.
      sigma: standard deviation along each axis.
      scale: a point x is the image (x / scale + 1) / 2, so that the mixture lies well inside [0, 1].
    """

    centers: np.ndarray
    sigma: float
    scale: float

    def points(self, images: np.ndarray) -> np.ndarray:
        """Images ``(..., 1, 1, 2)`` in [0, 1] as points ``(..., 2)``, float64."""
        values = np.asarray(images, np.float64)
        return (2 * values.reshape(*values.shape[:-3], 2) - 1) * self.scale


def mixture(name: MixtureName) -> Mixture:
    """``ring``: 8 modes on a circle of radius 1, sigma .01. ``grid``: 5 x 5 modes 2 apart, sigma .05.

    Raises:
      ConfigError: another name.

    Source: Srivastava et al., VEEGAN, 2017, section 4.1; Lin et al., PacGAN, 2018, section 4.1.
    """
    require_choice("mixture", name, get_args(MixtureName))
    if name == "ring":
        angle = np.arange(8) * 2 * np.pi / 8
        return Mixture(np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32), 0.01, 1.25)
    along = 2.0 * np.arange(5) - 4
    return Mixture(np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2).astype(np.float32), 0.05, 5.0)


def draw_points(key: jax.Array, target: Mixture, *, n: int) -> Batch:
    """``n`` points: ``image (n, 1, 1, 2)`` float32, see :class:`Mixture`; ``label (n,)`` int32, the mode."""
    mode_key, noise_key = jax.random.split(key)
    mode = jax.random.randint(mode_key, (n,), 0, len(target.centers))
    x = jnp.asarray(target.centers)[mode] + target.sigma * jax.random.normal(noise_key, (n, 2))
    return Batch(((x / target.scale + 1) / 2).reshape(n, *POINT_SHAPE), mode)
