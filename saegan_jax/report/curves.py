"""The metrics of a run over its steps, as one PNG."""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from saegan_jax.report.figures import write_figure

GROUPS: tuple[tuple[str, str], ...] = (
    ("losses", r"loss|energy|elbo"),
    ("logits", r"logit"),
    ("penalties", r"penalty|r1|r2"),
    ("reconstruction", r"fvu|mse|explained_variance|reconstruction"),
    ("fractions", r"fraction|density|hoyer|accuracy"),
    ("norms", r"norm"),
)
"""Panels in order: a quantity goes to the first whose pattern is found in its name; one that fits none gets its own."""

Rows = Iterable[Mapping[str, Any]]


def collect_series(rows: Rows) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Every numeric quantity against the step, phase by phase.

    Args:
      rows: mappings with ``step`` (a number), ``phase`` (text; optional) and quantities: a number, or a list of one per
        seed. Text, nested and missing values are skipped; null counts as not-a-number.

    Returns:
      ``{phase: {name: (steps (n,), values (n, seeds))}}`` in order of first appearance, ``n`` the rows that have it;
      rows without a phase are under "". Steps are sorted, and of two rows of one phase and step the last counts.

    Raises:
      ValueError: if a row lacks ``step``, or a quantity changes its number of seeds.
    """
    collected: dict[str, dict[str, dict[float, np.ndarray]]] = {}
    for index, row in enumerate(rows):
        if "step" not in row:
            raise ValueError(f"row {index} of the metrics has no 'step', only {', '.join(row)}: it cannot be placed.")
        quantities = collected.setdefault(str(row.get("phase", "")), {})
        for name, value in row.items():
            values = _as_seeds(value)
            if name not in ("step", "phase") and values is not None:
                quantities.setdefault(name, {})[float(row["step"])] = values
    return {
        phase: {name: _stack(name, by_step) for name, by_step in quantities.items()}
        for phase, quantities in collected.items()
    }


def _stack(name: str, by_step: dict[float, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    if len({values.size for values in by_step.values()}) > 1:
        raise ValueError(f"{name} changes its number of values per row: draw runs of one number of seeds together.")
    steps = sorted(by_step)
    return np.array(steps), np.stack([by_step[step] for step in steps])


def _as_seeds(value: Any) -> np.ndarray | None:
    """``(seeds,)`` float64, or None for what is not numeric."""
    if isinstance(value, bool | str):
        return None
    if isinstance(value, Sequence):
        value = [math.nan if item is None else item for item in value]
    try:
        values = np.asarray(math.nan if value is None else value, np.float64)
    except (TypeError, ValueError):
        return None
    return values.reshape(-1) if values.ndim <= 1 and values.size else None


def panels(names: Iterable[str]) -> dict[str, list[str]]:
    """``names`` of quantities by the title of the panel that shows them, see :data:`GROUPS`."""
    found: dict[str, list[str]] = {title: [] for title, _ in GROUPS}
    for name in names:
        title = next((title for title, pattern in GROUPS if re.search(pattern, name)), name)
        found.setdefault(title, []).append(name)
    return {title: members for title, members in found.items() if members}


def training_curves(rows: Rows, path: str | os.PathLike[str], *, title: str = "", columns: int = 2) -> Path:
    """Writes, for each phase, one panel per group of quantities (see `GROUPS`) against the step.

    With several seeds: a thin line for each and a thick one for their mean, which stops where a seed is not finite.

    Args:
      rows: those of a run's metrics.jsonl; see `collect_series`.
      path: of the PNG.
      title: above the panels.
      columns: panels per row.

    Returns:
      The path.

    Raises:
      ValueError: as `collect_series`, or if there is nothing to draw.
    """
    shown = [
        (f"{phase}: {panel}" if phase else panel, names, series)
        for phase, series in collect_series(rows).items()
        for panel, names in panels(series).items()
    ]
    if not shown:
        raise ValueError("the metrics hold no numeric quantity beside 'step': there is nothing to draw.")
    columns = min(columns, len(shown))
    height = math.ceil(len(shown) / columns)
    # A Figure of its own, not pyplot's: no global state, no window system.
    figure = Figure(figsize=(5.2 * columns, 3.0 * height + (0.4 if title else 0)), dpi=110, layout="constrained")
    for index, (panel, names, series) in enumerate(shown):
        axes = figure.add_subplot(height, columns, index + 1)
        for number, name in enumerate(names):
            steps, values = series[name]
            colour = f"C{number % 10}"
            marker = "o" if len(steps) == 1 else None
            if values.shape[1] > 1:
                axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.35, marker=marker, markersize=3)
            axes.plot(steps, values.mean(axis=1), color=colour, linewidth=1.8, label=name, marker=marker, markersize=5)
        seeds = max(series[name][1].shape[1] for name in names)
        axes.set_title(panel if seeds == 1 else f"{panel} (mean of {seeds} seeds)", fontsize=10)
        axes.set_xlabel("step", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        if not panel.endswith(names[0]) or len(names) > 1:
            axes.legend(fontsize=8)
    if title:
        figure.suptitle(title, parse_math=False)  # a folder may be named a$b$
    return write_figure(figure, path)
