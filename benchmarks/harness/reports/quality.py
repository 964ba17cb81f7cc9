"""The tables and the picture of ``python -m benchmarks.quality``."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness.reports.parts import Result, busy_note, by_work, finish, heading, number, table
from benchmarks.harness.reports.pictures import png

STEPS = {"steps": "steps"}
CLOCK = {"seconds": "s", "total": "s, compiling included"}
OPERATIONS = {"operations": "TFLOP"}


def _bound(value: float, censored: bool) -> str:
    return f"> {number(value)}" if censored else number(value)


def cell(row: Mapping[str, Any] | None) -> str:
    """The median and, in brackets, every seed; ``> N`` of a training that ended at N without reaching the mark."""
    if row is None:
        return ""
    values, censored = row["values"], row["censored"]
    each = [_bound(value, late) for value, late in zip(values, censored, strict=True)]
    late = math.isinf(np.median([math.inf if late else value for value, late in zip(values, censored, strict=True)]))
    median = _bound(float(np.median(values)), late)
    return median if len(each) == 1 else f"{median} ({', '.join(each)})"


def _plain(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else ", ".join("no number" if value < 0 else number(value) for value in row["values"])


def _charges(arms: Mapping[str, Mapping[str, Any]], busy: bool) -> list[str]:
    """What every arm took beside its steps."""
    before = list(dict.fromkeys(m for metrics in arms.values() for m in metrics if m.startswith("before: ")))
    clock = [*before, "compile", "rate"]
    columns = {"lowest": "lowest distance, times the floor"}
    if not busy:
        columns |= {metric: f"{metric}, {'steps/s' if metric == 'rate' else 's'}" for metric in clock}
    rows = [[arm, *(_plain(metrics.get(metric)) for metric in columns)] for arm, metrics in arms.items()]
    return table(["", *columns.values()], rows)


def markdown(result: Result) -> str:
    """For every mark a table of the arms, then what each arm took beside its steps; every seed is shown."""
    settings, busy = result["settings"], bool(busy_note(result))
    lines = [
        *heading(result),
        f"{settings['samples']:,} samples of the averaged weights against the {settings['samples']:,} validation images, "
        f"after every {settings['every']:,} steps, until the lowest mark or {settings['most_steps']:,} steps. Feature network "
        f"{settings['feature_hash'][:8]}. Medians, every seed in brackets.",
    ]
    columns = STEPS | ({} if busy else CLOCK) | OPERATIONS
    for work, arms in by_work(result).items():
        shown = {key: title for key, title in columns.items() if any(f"{key}_" in m for a in arms.values() for m in a)}
        for mark in settings["marks"]:
            rows = [[arm, *(cell(m.get(f"{key}_{mark:g}")) for key in shown)] for arm, m in arms.items()]
            lines += ["", f"## {work}, to {mark:g} times the floor", "", *table(["", *shown.values()], rows)]
        lines += ["", f"## {work}, beside the steps", "", *_charges(arms, busy)]
    return finish(lines, _notes(result, busy))


def _notes(result: Result, busy: bool) -> list[str]:
    settings = result["settings"]
    notes = [
        "Settings are those of the data set's presets, chosen on the same validation images.",
        f"A mark is reached at the first evaluation at or below it: steps are known to within {settings['every']:,}, and "
        "nothing is interpolated. `> N` is a training that ended at N above the mark.",
        "The floor is what as many training images score.",
        "Steps are those of the GAN. Operations include what comes before them: XLA's count of our compiled steps and of the "
        "encoding, and a formula for the fitting of the prior. PyTorch's arms are given those of our plain GAN.",
    ]
    if busy:
        notes.append("Seconds are left out: other processes used cores that the trainings needed.")
    else:
        notes.append(
            "On the clock: steps, and what an arm needs before them (training of the autoencoder, encoding of all training "
            "images, fitting of the prior). Not on it: drawing and scoring samples, and checkpoints, of which none are written."
        )
        if settings["programs_kept"]:
            notes.append("JAX's compilation cache was on, so that compiling may have been reading.")
    skipped = [f"Not run: {row['work']}, {row['arm']}: {row['reason']}" for row in result["skipped"]]
    return [*notes, *busy_note(result), *skipped]


def picture(result: Result) -> bytes:
    """A PNG: distance of samples against seconds, or against steps where the machine was busy, a line a seed."""
    busy, drawing = bool(busy_note(result)), Figure(figsize=(6.4, 4.0), dpi=110, layout="constrained")
    axes = drawing.add_subplot()
    arms = list(dict.fromkeys(course["arm"] for course in result["courses"]))
    named = set()
    for course in result["courses"]:
        points = [(step, seconds, ratio) for step, seconds, ratio in course["evaluations"] if ratio is not None]
        start = sum(course["before"].values())
        x = [step if busy else start + seconds for step, seconds, _ in points]
        label = None if course["arm"] in named else course["arm"]
        named.add(course["arm"])
        colour = f"C{arms.index(course['arm'])}"
        axes.plot(x, [p[2] for p in points], color=colour, label=label, marker=".", markersize=3, linewidth=1.0)
    for mark in result["settings"]["marks"]:
        axes.axhline(mark, color="0.6", linewidth=0.8, linestyle="--")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(which="minor", labelsize=7)
    axes.set_xlabel("steps of the GAN" if busy else "s of training, compiling left out", fontsize=8)
    axes.set_ylabel("Frechet distance over the floor", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, frameon=False)
    return png(drawing, result)
