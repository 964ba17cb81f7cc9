"""One scale for activations of any model: statistics of the data that training takes out and the export puts back."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saegan_jax.data.dataset import DataError

Kind = Literal["none", "scale", "centre"]


class Normalisation(NamedTuple):
    """``z = scale (x - mean)``, of a vector ``x (d,)``.

    Attributes:
        kind: "none" (mean 0, scale 1); "scale": the mean norm of z is sqrt(d); "centre": the same after the mean of the data
            is subtracted.
        mean: float32 (d,).
        scale: above 0.
    """

    kind: Kind
    mean: NDArray[np.float32]
    scale: float

    def apply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """``z`` of ``x (..., d)``."""
        return x if self.kind == "none" else (x - self.mean) * np.float32(self.scale)

    def undo(self, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """``x`` of ``z (..., d)``."""
        return z if self.kind == "none" else z / np.float32(self.scale) + self.mean

    def to_json(self) -> dict[str, Any]:
        """Plain values: see :func:`from_json`."""
        return {"kind": self.kind, "scale": self.scale, "mean": self.mean.tolist()}


def from_json(values: Any, d: int) -> Normalisation:
    """The normalisation that :meth:`Normalisation.to_json` wrote.

    Raises:
        DataError: other values, or a mean of another width than ``d``.
    """
    try:
        kind, scale, mean = values["kind"], float(values["scale"]), np.asarray(values["mean"], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"normalisation={values!r} is not one of this package ({error!r}).") from None
    sound = kind in ("none", "scale", "centre") and mean.shape == (d,) and np.isfinite(mean).all()
    if not (sound and math.isfinite(scale) and scale > 0):
        raise DataError(
            f"normalisation has kind={kind!r}, scale={scale!r} and a mean of shape {mean.shape}, not ({d},)."
        )
    return Normalisation(kind, mean, scale)


def fit_normalisation(x: ArrayLike, kind: Kind) -> Normalisation:
    """The statistics of ``x (n, d)``: ``scale = sqrt(d) / mean_n ||x_n - mean||``.

    Args:
        x: finite numbers.
        kind: see :class:`Normalisation`.

    Raises:
        DataError: vectors that are all zero, or for "centre" all equal.

    Source: Bricken et al., Update on dictionary learning, 2024 ("Scaling the inputs", mean norm sqrt(d)).
    """
    values = np.asarray(x, np.float64)
    d = values.shape[1]
    mean = values.mean(axis=0) if kind == "centre" else np.zeros(d)
    if kind == "none":
        return Normalisation(kind, mean.astype(np.float32), 1.0)
    norm = float(np.linalg.norm(values - mean, axis=1).mean())
    if not norm > 0:
        what = "equal" if kind == "centre" else "zero"
        raise DataError(f"normalise={kind!r} cannot be had: all vectors are {what}.")
    return Normalisation(kind, mean.astype(np.float32), math.sqrt(d) / norm)
