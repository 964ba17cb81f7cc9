"""How robust cycles are, as one picture: the error when the image in the middle is coarsened."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from saegan_jax.report.figures import write_figure


def cycle_robustness_picture(
    arms: Mapping[str, Mapping[str, ArrayLike]],
    path: str | os.PathLike[str],
    *,
    bits: Sequence[int],
    sigmas: Sequence[float],
    title: str = "",
) -> Path:
    """Draws one line an arm against the bits a pixel that the middle image keeps, and one against the noise on it.

    Args:
      arms: by name, "clean" ``(seeds,)``, "quantised" ``(seeds, len(bits))`` and "noisy" ``(seeds, len(sigmas))``: mean
        absolute errors in [0, 1]. A thin line for each seed, a thick one for their mean.
      path: of the PNG.
      bits, sigmas: see :func:`saegan_jax.metrics.cycle_robustness.cycle_robustness`.
      title: above the panels.

    Raises:
      ValueError: no arms, or values of another shape.
    """
    if not arms:
        raise ValueError("arms is empty: there is nothing to draw.")
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    ticks = (["all", *map(str, bits)], ["0", *(f"{sigma:g}" for sigma in sigmas)])
    kinds = (("quantised", "bits a pixel of the middle image"), ("noisy", "noise on the middle image, sigma"))
    for axis, labels, (kind, label) in zip(panels, ticks, kinds, strict=True):
        for index, (name, values) in enumerate(arms.items()):
            clean, coarse = np.asarray(values["clean"], float), np.asarray(values[kind], float)
            if clean.ndim != 1 or coarse.shape != (len(clean), len(labels) - 1):
                raise ValueError(
                    f"{name}: clean has shape {clean.shape} and {kind} {coarse.shape}; they must be (seeds,) and "
                    f"(seeds, {len(labels) - 1})."
                )
            y = np.concatenate([clean[:, None], coarse], axis=1)
            if len(y) > 1:
                axis.plot(y.T, color=f"C{index}", linewidth=0.6, alpha=0.4)
            axis.plot(y.mean(axis=0), color=f"C{index}", linewidth=1.8, marker="o", markersize=4, label=name)
        axis.set_xticks(range(len(labels)), labels)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    panels[0].set_ylim(bottom=0)  # once all is drawn: a limit set before would be that of the first panel
    panels[0].set_ylabel("cycle error, mean |difference| a pixel")
    panels[0].legend(fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    return write_figure(figure, path, dpi=100)
