"""Which images an audit takes, checked before anything is trained."""

import numpy as np

from saegan_jax.errors import require
from saegan_jax.evaluation.audit.settings import FEWEST_FAKE, FEWEST_REAL


def checked_images(images: np.ndarray, field: str) -> np.ndarray:
    """``images`` as uint8 ``(n, height, width, channels)``: floats in [0, 1] rounded to 8 bits, grey ones with a last axis.

    Both sets are rounded alike: otherwise a float would tell fakes from pixels of files.

    Raises:
      ConfigError: another rank, no images, other than 1 or 3 channels, another dtype, NaN, or floats outside [0, 1].
    """
    values = np.asarray(images)
    values = values[..., None] if values.ndim == 3 else values
    shown = f"images of shape {np.shape(images)} and type {values.dtype}"
    fix = "they must be (n, height, width, channels), with 1 or 3 channels."
    require(values.ndim == 4 and values.shape[-1] in (1, 3), field, shown, fix)
    require(values.size > 0, field, shown, "there are no images in it.")
    if values.dtype == np.uint8:
        return values
    fix = "they must be uint8 from 0 to 255, or floats in [0, 1]."
    require(np.issubdtype(values.dtype, np.floating), field, shown, fix)
    bad = int((~np.isfinite(values).all(axis=(1, 2, 3))).sum())
    fix = f"{bad} images hold NaN or infinity: leave them out, or look at the generator."
    require(bad == 0, field, shown, fix)
    low, high = float(values.min()), float(values.max())
    fix = f"its values run from {low:.3g} to {high:.3g}; floats must lie in [0, 1]: rescale them."
    require(low >= -1e-3 and high <= 1 + 1e-3, field, shown, fix)
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def check_pair(real: np.ndarray, fake: np.ndarray) -> None:
    """Refuse sets that cannot be compared.

    Raises:
      ConfigError: images of different shapes, or too few of them.
    """
    sizes = [f"{w}x{h} pixels and {c} channel{'s' * (c > 1)}" for _, h, w, c in (real.shape, fake.shape)]
    fix = f"its images have {sizes[1]}, the real ones {sizes[0]}; resize or convert one of the sets."
    require(real.shape[1:] == fake.shape[1:], "fake", f"{len(fake)} images", fix)
    why = "with fewer, only large differences could be told from chance."
    require(len(fake) >= FEWEST_FAKE, "fake", f"{len(fake)} images", f"give at least {FEWEST_FAKE}: {why}")
    fix = f"give at least {FEWEST_REAL}, half to train on and half to compare: {why}"
    require(len(real) >= FEWEST_REAL, "real", f"{len(real)} images", fix)
