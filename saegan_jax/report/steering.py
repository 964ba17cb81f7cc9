"""Pictures of steering: strips of images along a direction, and what doses do."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from saegan_jax.files import write_bytes
from saegan_jax.report.pictures import tile

PANELS = (
    ("dose", "target"),
    ("dose", "others"),
    ("pixels", "target"),
    ("pixels", "others"),
    ("pixels", "unreal"),
    ("others", "target"),
)
LABELS = {
    "dose": "dose / spread of the activations",
    "target": "rise of the target's probability",
    "others": "change among other classes (TV)",
    "pixels": "pixel change (RMS)",
    "unreal": "further from real images (features)",
}


def strips(
    images: ArrayLike, path: str | os.PathLike[str], *, rows: Sequence[str], columns: Sequence[str], title: str = ""
) -> None:
    """Write images ``(rows, columns, height, width, channels)``, floats in [0, 1] or uint8, rows and columns named.

    Raises:
      ValueError: names that do not fit the images, or images that :func:`tile` cannot draw.
    """
    values = np.asarray(images)
    if values.ndim != 5 or values.shape[:2] != (len(rows), len(columns)):
        raise ValueError(
            f"images must be ({len(rows)}, {len(columns)}, height, width, channels) for these names, got {values.shape}."
        )
    picture = tile(values.reshape(-1, *values.shape[2:]), columns=len(columns))
    height, width = picture.shape[:2]
    figure = Figure(figsize=(width / 90 + 0.8, height / 90 + 0.7), layout="constrained")
    axis = figure.subplots()
    axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
    axis.set_xticks((np.arange(len(columns)) + 0.5) * width / len(columns), columns, fontsize=8)
    axis.set_yticks((np.arange(len(rows)) + 0.5) * height / len(rows), rows, fontsize=8)
    axis.tick_params(length=0)
    axis.set_frame_on(False)
    axis.set_title(title, fontsize=9)
    _save(figure, path)


def dose_response_curves(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw each arm's course over the doses: against the dose, and against what it did to images otherwise.

    Args:
      rows: of a published result: ``arm``, ``metric``, ``dose`` (a number in the rows that are drawn), ``mean``, ``low`` and
        ``high`` (None without an interval).
      path: PNG to write.
      title: above the panels.

    Raises:
      ValueError: no rows along doses.
    """
    found = {(r["arm"], r["metric"], r["dose"]): r for r in rows if isinstance(r.get("dose"), (int, float))}
    doses = sorted({dose for _, _, dose in found})
    arms = list(dict.fromkeys(arm for arm, _, _ in found))
    if not doses:
        raise ValueError("rows hold no doses: there is nothing to draw.")

    def course(arm: str, metric: str, field: str = "mean") -> np.ndarray:
        values = [dose if metric == "dose" else found[arm, metric, dose][field] for dose in doses]
        return np.array([0.0, *(np.nan if v is None else v for v in values)])

    figure = Figure(figsize=(13, 7.4), layout="constrained")
    for axis, (x, y) in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        for index, arm in enumerate(arms):
            axis.plot(course(arm, x), course(arm, y), marker="o", ms=3, lw=1.3, color=f"C{index}", label=arm)
            if x == "dose":
                low, high = course(arm, y, "low"), course(arm, y, "high")
                axis.fill_between(course(arm, x), low, high, color=f"C{index}", alpha=0.12, lw=0)
        if x == "dose":
            axis.set_xscale("symlog", linthresh=doses[0])
            axis.set_xticks([0, *doses], [f"{d:g}" for d in (0, *doses)])
            axis.minorticks_off()
        axis.set(xlabel=LABELS[x], ylabel=LABELS[y])
        axis.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    _save(figure, path)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    write_bytes(Path(path), buffer.getvalue())
