"""Image data sets as uint8 arrays: embedded digits, the MNIST family, and any TFDS image-classification set by name."""

from saegan_jax.data.dataset import DataError, Dataset, Split, hold_out, share
from saegan_jax.data.registry import load

__all__ = ["DataError", "Dataset", "Split", "hold_out", "load", "share"]
