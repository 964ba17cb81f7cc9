"""Pictures of generated points in the plane."""

import math
import os

import numpy as np
from matplotlib.figure import Figure

from saegan_jax.report.figures import write_figure


def points_picture(points: np.ndarray, centers: np.ndarray, path: str | os.PathLike[str], *, title: str = "") -> None:
    """One panel a member: its points, over crosses at the centres of the modes.

    Args:
      points: ``(members, n, 2)``.
      centers: ``(modes, 2)``.
      path: PNG to write.
      title: above the panels.
    """
    members = len(points)
    columns = min(members, 5)
    rows = math.ceil(members / columns)
    figure = Figure(figsize=(2.4 * columns, 2.4 * rows + 0.3), layout="constrained")
    reach = 1.25 * np.abs(centers).max()
    for index, axis in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axis.set_axis_off()
        if index >= members:
            continue
        axis.plot(*centers.T, "+", color="0.6", ms=6, zorder=0)
        axis.plot(*points[index].T, ".", color="C0", ms=1.5, alpha=0.5)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    figure.suptitle(title)
    write_figure(figure, path, dpi=110)
