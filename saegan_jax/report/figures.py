"""Figures of matplotlib as files."""

import io
import os
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from saegan_jax.files import write_bytes


def write_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: float | Literal["figure"] = "figure") -> Path:
    """Write a PNG, whole or not at all; ``dpi`` is the figure's own by default. Returns the path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    write_bytes(Path(path), buffer.getvalue())
    return Path(path)
