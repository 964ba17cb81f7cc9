"""Pictures of a run."""

from saegan_jax.report.curves import training_curves
from saegan_jax.report.frontier import frontier
from saegan_jax.report.pictures import dictionary_picture, image_grid, tile

__all__ = ["dictionary_picture", "frontier", "image_grid", "tile", "training_curves"]
