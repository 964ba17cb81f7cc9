"""Pictures of a run."""

from saegan_jax.report.curves import training_curves
from saegan_jax.report.frontier import frontier
from saegan_jax.report.pictures import dictionary_picture, image_grid, tile
from saegan_jax.report.shift import shift_curves

__all__ = ["dictionary_picture", "frontier", "image_grid", "shift_curves", "tile", "training_curves"]
