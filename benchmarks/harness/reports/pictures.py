"""The pictures of results: how fast each arm ran and could run, and how a step's cost grows."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.harness.reports.parts import Result, by_work, number

OURS, FLOAT32, BFLOAT16, LIMIT = "C0", "0.6", "0.8", "C3"
Metrics = Mapping[str, Mapping[str, Any]]


def png(drawing: Figure, result: Result) -> bytes:
    """A drawing under the title of its result."""
    state = ", incomplete" if "incomplete" in result else ""
    drawing.suptitle(f"{result['name']}{state}, {result['device']}", fontsize=10, parse_math=False)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    return buffer.getvalue()


def _bars(axes: Axes, work: str, arms: Mapping[str, Metrics]) -> Any | None:
    """One work's panel; gives the line of the rate that a step's operations allow, if there is one."""
    names = list(arms)[::-1]  # the first arm on top
    # Products of different shapes only compare by their operations.
    metric = "throughput" if work == "matrix_products" and "throughput" in arms[names[0]] else "rate"
    rates = [arms[name][metric] for name in names]
    floors = [m["floor_compute"]["median"] for m in arms.values() if "floor_compute" in m]
    allowed = 1e3 / min(floors) if floors and min(floors) > 0 else None
    widest = max([row["high"] for row in rates] + ([allowed] if allowed else []))
    for y, (name, row) in enumerate(zip(names, rates, strict=True)):
        half = row.get("dtype") == "bfloat16"
        # matrix_products: XLA's are the ones that ours are made of
        colour = OURS if name.startswith(("ours", "xla")) else BFLOAT16 if half else FLOAT32
        axes.barh(y, row["median"], height=0.72, color=colour, hatch="//" if half else None, edgecolor="white")
        axes.plot([row["low"], row["high"]], [y, y], color="black", linewidth=1.0, marker="|", markersize=5)
        axes.text(row["high"] + 0.02 * widest, y, number(row["median"]), va="center", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlim(0, 1.16 * widest)
    axes.set_xlabel(rates[0]["unit"], fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(work, fontsize=9, loc="left", parse_math=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes.axvline(allowed, color=LIMIT, linestyle="--", linewidth=1.2) if allowed else None


def steps(result: Result, *, columns: int = 2) -> bytes:
    """A PNG with one panel per work: a bar for each arm's rate, its quartiles, and the rate that the operations allow.

    Args:
      result: of ``python -m benchmarks.run``. The dashed line is one step's ``floor_compute``; results without have none.
      columns: panels in a row.

    Raises:
      ValueError: no row of the result is a rate.
    """
    found = {
        work: {arm: metrics for arm, metrics in arms.items() if "rate" in metrics}
        for work, arms in by_work(result).items()
    }
    works = [(work, arms) for work, arms in found.items() if arms]
    if not works:
        raise ValueError('the result has no row with metric "rate": there is nothing to draw.')
    columns = min(columns, len(works))
    rows = math.ceil(len(works) / columns)
    # Every panel as high as the fullest of its row.
    heights = [0.9 + 0.27 * max(len(arms) for _, arms in works[r * columns : (r + 1) * columns]) for r in range(rows)]
    drawing = Figure(figsize=(5.6 * columns, sum(heights) + 0.7), dpi=110, layout="constrained")
    grid = drawing.add_gridspec(rows, columns, height_ratios=heights)
    limits = [
        _bars(drawing.add_subplot(grid[index // columns, index % columns]), work, arms)
        for index, (work, arms) in enumerate(works)
    ]
    half = any(row.get("dtype") == "bfloat16" for row in result["rows"])
    keys: list[Any] = [Patch(color=OURS, label="ours (XLA's products)"), Patch(color=FLOAT32, label="others, float32")]
    keys += [Patch(facecolor=BFLOAT16, edgecolor="white", hatch="//", label="others, bfloat16")] * half
    for line in [line for line in limits if line is not None][:1]:
        line.set_label("a step's operations at the measured product rate")
        keys.append(line)
    drawing.legend(handles=keys, loc="outside lower center", ncols=2 * columns, fontsize=8, frameon=False)
    return png(drawing, result)


def _line(arms: Mapping[str, Metrics], metric: str) -> tuple[list[int], list[float]]:
    have = {int(value): metrics[metric]["median"] for value, metrics in arms.items() if metric in metrics}
    return list(have), list(have.values())


def _beyond(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Where the memory ended the series."""
    for row in rows:
        axes.axvline(row["value"], color="0.5", linewidth=1.0)
        predicted = row["predicted_bytes"]
        text = "out of memory" if predicted is None else f"{predicted / 2**30:.3g} GiB: not run"
        place = axes.get_xaxis_transform()
        axes.text(row["value"], 0.02, text, rotation=90, fontsize=7, ha="right", transform=place)


def _ticks(axes: Axes, values: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(values, [f"{value:,}" for value in values], fontsize=7, rotation=45 if len(values) > 7 else 0)
    axes.minorticks_off()
    low, high = axes.get_ylim()
    nice = [m * 10.0**e for e in range(-9, 10) for m in ((1, 2, 5) if high / low < 200 else (1,))]
    ticks = [y for y in nice if low <= y <= high]
    axes.set_yticks(ticks, [f"{y:g}" for y in ticks])
    axes.tick_params(axis="y", labelsize=7)


def scaling(result: Result, *, columns: int = 2) -> bytes:
    """A PNG with one panel per series: the time of a step and its two floors against the axis, both logarithmic."""
    works = by_work(result)
    columns = min(columns, max(1, len(works)))
    rows = math.ceil(len(works) / columns)
    drawing = Figure(figsize=(5.2 * columns, 3.4 * rows + 0.6), dpi=110, layout="constrained")
    for index, (work, arms) in enumerate(works.items()):
        axes = drawing.add_subplot(rows, columns, index + 1)
        step = {int(value): metrics["step"] for value, metrics in arms.items()}
        axes.plot(*_line(arms, "floor_compute"), color="C3", linestyle="--", linewidth=1.2, label="floor: operations")
        axes.plot(*_line(arms, "floor_memory"), color="C2", linestyle=":", linewidth=1.6, label="floor: memory")
        axes.plot(*_line(arms, "step"), color="C0", marker="o", markersize=4, label="measured")
        axes.vlines(list(step), [r["low"] for r in step.values()], [r["high"] for r in step.values()], color="C0")
        beyond = [row for row in result["not_run"] if row["work"] == work and row["limit"] == "memory"]
        _beyond(axes, beyond)
        _ticks(axes, [*step, *(row["value"] for row in beyond)])
        axes.set_title(work, fontsize=9, loc="left", parse_math=False)
        axes.set_xlabel(work.rsplit(", ", 1)[-1], fontsize=8)
        axes.set_ylabel("ms a step (of one seed)", fontsize=8)
        axes.grid(alpha=0.25)
    if drawing.axes:
        handles, labels = drawing.axes[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return png(drawing, result)
