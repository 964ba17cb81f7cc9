"""A comparison of arms with a baseline: its published rows, its tables, and a picture of what changes."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from saegan_jax.report.figures import write_figure
from saegan_jax.report.table import Result, Row, Text, cell, document, each, origin, pivot
from saegan_jax.stats import NEGLIGIBLE, Effect, effects, interaction

BASELINE = "pixels"
HEADLINE = "Frechet / floor"
METRICS = {
    HEADLINE: True,
    "Frechet / floor, second network": True,
    "precision": False,
    "recall": False,
    "coverage": False,
    "class balance KL": True,
}
"""Measures that are compared, and whether lower is better."""
MEASURES = (*METRICS, "memorisation", "best evaluation", "last evaluation", "alarms")
CHANGES = {
    "Frechet distance": HEADLINE,
    "the same in the second network": "Frechet / floor, second network",
    "recall": "recall",
    "coverage": "coverage",
}
"""Measures whose change is tabulated, by their titles."""
FACTORIAL = (BASELINE, "sparse", "ensemble", "both")
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
    write_figure(figure, path, dpi=120)


class Measured(NamedTuple):
    """One arm on one share of the data.

    Attributes:
      arm: its name.
      fraction: share of the training images.
      values: by measure, one a seed; NaN where it failed.
      parameters: of generator and discriminator.
      steps: of the GAN.
      flops: of the whole training, None where they were not counted.
    """

    arm: str
    fraction: float
    values: Mapping[str, Sequence[float]]
    parameters: tuple[int, int]
    steps: int
    flops: float | None

    @property
    def key(self) -> tuple[float, str]:
        """What tells it apart in a comparison."""
        return self.fraction, self.arm


def changes_of(measured: Sequence[Measured], metric: str) -> dict[tuple[float, str], Effect]:
    """What each arm changes of a metric against the baseline on the same share of the data, as one family of comparisons."""
    values = {one.key: one.values[metric] for one in measured}
    base_of = {key: values[key[0], BASELINE] for key in values if key[1] != BASELINE and (key[0], BASELINE) in values}
    # An arm may have fewer seeds than the baseline, or more: those of both are paired.
    common = {key: min(len(values[key]), len(base)) for key, base in base_of.items()}
    base = {key: base_of[key][:n] for key, n in common.items()}
    compared = {key: values[key][:n] for key, n in common.items()}
    return effects(base, compared, lower_is_better=METRICS[metric]) if compared else {}


def rows_of(measured: Sequence[Measured]) -> list[Row]:
    """The published rows: each measure of each arm, and what changes against the baseline."""
    changes = {metric: changes_of(measured, metric) for metric in METRICS}
    rows = []
    for one in measured:
        for metric in MEASURES:
            values = one.values[metric]
            if not values:
                continue
            failed = int((~np.isfinite(values)).sum())
            extra: dict[str, Any] = {"fraction": one.fraction, "seeds": len(values), "failed": failed}
            extra |= {"parameters": list(one.parameters), "steps": one.steps, "flops": one.flops}
            if one.key in changes.get(metric, {}):
                extra["change"] = changes[metric][one.key]._asdict()
            unit = "ratio" if metric == HEADLINE else ""
            rows.append(Row.of(one.arm, metric, values, unit=unit, skip_failed=True, **extra))
    return rows


def percent(effect: Mapping[str, Any]) -> str:
    """A change with its interval and verdict, as the tables show it."""
    low, high = (f"{100 * effect[side]:+.0f}" if abs(effect[side]) < 1e4 else "inf" for side in ("low", "high"))
    verdict = f"**{effect['verdict']}**" if effect["verdict"] in ("better", "worse") else effect["verdict"]
    return f"{100 * effect['change']:+.0f} % [{low}, {high}] {verdict}"


def factorial(measured: Sequence[Measured]) -> list[str]:
    """The interaction of the two uses on every share of the data where all four arms are finished."""
    values = {one.key: one.values[HEADLINE] for one in measured}
    sentences = []
    for fraction in dict.fromkeys(one.fraction for one in measured):
        parts = [values.get((fraction, arm), ()) for arm in FACTORIAL]
        if not all(len(part) and np.isfinite(part).all() for part in parts):
            continue
        n = min(map(len, parts))
        effect = interaction(*(part[:n] for part in parts))
        sentences.append(
            f"Interaction of sparse input and code critic (both x {BASELINE} / (sparse x ensemble), {100 * fraction:g} % of "
            f"the images, {HEADLINE}): {percent(effect._asdict()).replace('**', '')}."
        )
    return sentences


def changes_table(rows: Sequence[Row]) -> str:
    """The headline of every arm, and what it changes of the measures in :data:`CHANGES`."""
    columns: dict[str, str | Text] = {"seeds": each("seeds", of=HEADLINE), HEADLINE: HEADLINE}
    for title, metric in CHANGES.items():
        columns[f"change of {title}"] = each("change", of=metric, form=percent)
    return pivot(rows, corner="arm", columns=columns, cell=partial(cell, count_failed=False), spaced_rule=True)


def measures_table(rows: Sequence[Row]) -> str:
    """Every other measure of every arm to two digits, failed seeds, steps and sizes."""
    columns: dict[str, str | Text] = {metric: metric for metric in MEASURES if metric != HEADLINE}
    columns["failed"] = each("failed", of=HEADLINE)
    columns["steps"] = each("steps", of=HEADLINE, form="{:,}".format)
    columns["parameters of G and D"] = each("parameters", of=HEADLINE, form=lambda n: f"{n[0]:,} and {n[1]:,}")
    shown = partial(cell, digits=2, count_failed=False)
    return pivot(rows, corner="arm", columns=columns, cell=shown, spaced_rule=True)


def tables(result: Result, *, every: bool) -> str:
    """Of each share of the data the changes and, if asked for, every measure; then the factorial."""
    parts = [origin(result)]
    for fraction in dict.fromkeys(row["fraction"] for row in result.rows):
        rows = [row for row in result.rows if row["fraction"] == fraction]
        parts += [f"**{100 * fraction:g} % of the training images**", changes_table(rows)]
        if every:
            parts.append(measures_table(rows))
    return document(*parts, *result.extra["factorial"], result.extra["note"])


def changes_picture(result: Result, path: str | os.PathLike[str], *, title: str) -> None:
    """:func:`forest` of the headline's changes, one panel a share of the data; nothing where no arm has one."""
    panels: dict[str, dict[str, Effect]] = {}
    for row in result.rows:
        if row.metric == HEADLINE and row.get("change") is not None:
            panels.setdefault(f"{100 * row['fraction']:g} % of the images", {})[row.arm] = Effect(**row["change"])
    if panels:
        forest(panels, path, title=title)
