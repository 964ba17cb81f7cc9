"""Changes of many arms against a baseline, as a picture."""

import io
import os
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from saegan_jax.files import write_bytes
from saegan_jax.stats import NEGLIGIBLE, Effect

COLOURS: Mapping[str, str] = {"better": "C2", "worse": "C3", "absent": "C0", "undecided": "0.5"}


def forest(panels: Mapping[str, Mapping[str, Effect]], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw every arm's change and interval, one panel a family, a band where a change is negligible.

    Args:
      panels: for each title the arms' effects.
      path: PNG to write.
      title: above the panels.
    """
    names = list(dict.fromkeys(name for arms in panels.values() for name in arms))
    figure = Figure(figsize=(1.8 + 3.2 * len(panels), 1.2 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (panel, arms) in zip(axes, panels.items(), strict=True):
        axis.axvspan(1 - NEGLIGIBLE, 1 + NEGLIGIBLE, color="0.92")
        axis.axvline(1, color="0.6", lw=1)
        for name, effect in arms.items():
            row, colour = names.index(name), COLOURS[effect.verdict]
            ratio = 1 + effect.change
            # An interval without end, of one seed, would leave no room for the others.
            ends = [max(1 + effect.low, ratio / 20), min(1 + effect.high, ratio * 20)]
            axis.plot(ends, [row, row], color=colour, lw=1.5)
            axis.plot(ratio, row, "o", color=colour, ms=5)
        axis.set_xscale("log")
        left, right = axis.get_xlim()
        axis.xaxis.set_major_locator(LogLocator(base=2) if right > 4 * left else MaxNLocator(6))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(panel, fontsize="medium")
        axis.set_xlabel("times the baseline")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    for verdict, colour in COLOURS.items():
        axes[0].plot([], [], "o-", color=colour, label=verdict)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    if title:
        figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_bytes(Path(path), buffer.getvalue())
