"""The picture of a results file: how fast each arm of each work ran, and how fast the machine could."""

import io
import math
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.tables import by_work, number

OURS, FLOAT32, BFLOAT16, LIMIT = "C0", "0.6", "0.8", "C3"


def figure(result: Mapping[str, Any], *, columns: int = 2) -> bytes:
    """A PNG with one panel per work: a bar for each arm's rate, its quartiles, and the rate that the operations allow.

    Args:
      result: of ``python -m benchmarks.run``. The dashed line is one step's ``floor_compute``; results without have none.
      columns: panels in a row.

    Raises:
      ValueError: no row of the result is a rate.
    """
    works = {
        work: {arm: metrics for arm, metrics in arms.items() if "rate" in metrics}
        for work, arms in by_work(result).items()
    }
    works = {work: arms for work, arms in works.items() if arms}
    if not works:
        raise ValueError('the result has no row with metric "rate": there is nothing to draw.')
    columns = min(columns, len(works))
    rows = math.ceil(len(works) / columns)
    most = [
        max(len(list(works.values())[i]) for i in range(r * columns, min(len(works), (r + 1) * columns)))
        for r in range(rows)
    ]
    heights = [0.9 + 0.27 * n for n in most]
    drawing = Figure(figsize=(5.6 * columns, sum(heights) + 0.7), dpi=110, layout="constrained")
    # Every panel as high as the fullest of its row.
    grid = drawing.add_gridspec(rows, columns, height_ratios=heights)
    limits = False
    for index, (work, arms) in enumerate(works.items()):
        axes = drawing.add_subplot(grid[index // columns, index % columns])
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
        if allowed:
            axes.axvline(allowed, color=LIMIT, linestyle="--", linewidth=1.2)
            limits = True
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlim(0, 1.16 * widest)
        axes.set_xlabel(rates[0]["unit"], fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
        axes.set_title(work, fontsize=9, loc="left", parse_math=False)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    half = any(row.get("dtype") == "bfloat16" for row in result["rows"])
    keys: list[Any] = [Patch(color=OURS, label="ours (XLA's products)"), Patch(color=FLOAT32, label="others, float32")]
    keys += [Patch(facecolor=BFLOAT16, edgecolor="white", hatch="//", label="others, bfloat16")] * half
    if limits:
        line = drawing.axes[0].plot([], [], color=LIMIT, linestyle="--", linewidth=1.2)[0]
        line.set_label("a step's operations at the measured product rate")
        keys.append(line)
    drawing.legend(handles=keys, loc="outside lower center", ncols=2 * columns, fontsize=8, frameon=False)
    drawing.suptitle(f"{result['name']}, {result['device']}", fontsize=10, parse_math=False)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    return buffer.getvalue()
