"""Who finds planted defects at which sample size, as published rows, a table and a picture."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats
from matplotlib.figure import Figure

from saegan_jax.evaluation.audit.defects import METRICS, NULL, Trial, outside
from saegan_jax.report.figures import write_figure
from saegan_jax.report.table import Result, Row, document, origin, pivot

AUDIT, RIGHT = "audit", "audit, right first"
FINDERS = {
    AUDIT: "share of trials in which the audit reports anything, at a false discovery rate of 5 %",
    RIGHT: "share in which what it reports first names the defect",
    **{
        name: f"share in which the {title} leaves the interval of 95 % of its values between reals and reals"
        for name, title in {"frechet": "Frechet distance", "kernel": "kernel distance", "coverage": "coverage"}.items()
    },
}
"""Columns and what they say."""
OFTEN = 0.8
"""Share of trials in which a defect must be found at the smallest sample."""
Trials = Mapping[tuple[str, int], Sequence[Trial]]


def share_row(arm: str, finder: str, found: Sequence[bool], n: int) -> Row:
    """A share of trials with its exact 95 % interval."""
    interval = scipy.stats.binomtest(sum(found), len(found)).proportion_ci(method="exact")
    return Row(
        arm=arm,
        metric=finder,
        unit="share of trials",
        mean=float(np.mean(found)),
        low=float(interval.low),
        high=float(interval.high),
        values=tuple(float(one) for one in found),
        extra={"n": n},
    )


def rows_of(trials: Trials) -> list[Row]:
    """Shares of trials, by defect and sample size; of reals with reals for the audit alone."""
    rows = []
    order = list(dict.fromkeys(name for name, _ in trials))
    for (name, n), found in sorted(trials.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        rows.append(share_row(name, AUDIT, [one.found for one in found], n))
        if name == NULL:
            continue
        rows.append(share_row(name, RIGHT, [one.right for one in found], n))
        for metric in METRICS:
            null = [one.values[metric] for one in trials[NULL, n]]
            rows.append(share_row(name, metric, [outside(one.values[metric], null) for one in found], n))
    return rows


def smallest(rows: Sequence[Row]) -> list[Row]:
    """For each defect and finder the smallest sample from which on 80 % of the trials find it; a mean of None: none."""
    made = []
    for arm in dict.fromkeys(row.arm for row in rows if row.arm != NULL):
        for finder in FINDERS:
            shares = sorted((row["n"], row.mean or 0.0) for row in rows if (row.arm, row.metric) == (arm, finder))
            enough = [n for i, (n, _) in enumerate(shares) if all(share >= OFTEN for _, share in shares[i:])]
            made.append(Row(arm=arm, metric=finder, unit="images", mean=min(enough, default=None)))
    return made


def tables(result: Result) -> str:
    """False alarms, the smallest samples, and every share."""
    null = [row for row in result.rows if row.arm == NULL]
    planted = [row for row in result.rows if row.arm != NULL]
    sizes = [row["n"] for row in null]
    alarms = [
        f"| {row['n']:,} | {sum(v == 1 for v in row.values)} of {len(row.values)} | "
        f"{100 * (row.mean or 0):.0f} % [{100 * (row.low or 0):.1f}, {100 * (row.high or 0):.1f}] |"
        for row in null
    ]
    return document(
        origin(result),
        result.extra["note"],
        "## False alarms: comparisons of reals with reals in which the audit reports anything",
        "\n".join(["| images | comparisons | share |", "|---|---|---|", *alarms]),
        f"## Smallest sample from which on {100 * OFTEN:.0f} % of the trials find the defect",
        pivot(
            smallest(planted),
            columns={name: name for name in FINDERS},
            corner="defect",
            cell=lambda row: (
                "" if row is None else f"more than {max(sizes):,}" if row.mean is None else f"{row.mean:,.0f}"
            ),
        ),
        "## Share of trials that find it",
        pivot(planted, index=("arm", "n"), columns={name: name for name in FINDERS}, corner=("defect", "images")),
        "\n".join(f"- {name}: {meaning}" for name, meaning in FINDERS.items()),
    )


def defect_curves(rows: Sequence[Row], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw a panel for each defect: the share of trials that find it against the sample size, one line a finder.

    Args:
      rows: of :func:`rows_of`.
      path: PNG to write.
      title: above the panels.
    """
    arms = list(dict.fromkeys(row.arm for row in rows if row.arm != NULL))
    figure = Figure(figsize=(3.4 * max(1, len(arms)), 3.4), layout="constrained")
    axes = figure.subplots(1, max(1, len(arms)), squeeze=False, sharey=True)[0]
    for axis, arm in zip(axes, arms, strict=False):
        for index, finder in enumerate(FINDERS):
            points = sorted((row["n"], row.mean or 0.0) for row in rows if (row.arm, row.metric) == (arm, finder))
            x, y = zip(*points, strict=True)
            # Lines that lie on each other are set apart.
            shift = 0.012 * (index - (len(FINDERS) - 1) / 2)
            style = {AUDIT: "-", RIGHT: "--"}.get(finder, ":")
            axis.plot(x, np.asarray(y) + shift, style, marker="o", ms=4, color=f"C{index}", label=finder)
        axis.set_xscale("log")
        axis.set_xticks(x, [f"{n:,}" for n in x], fontsize=8)
        axis.minorticks_off()
        axis.set_title(arm, fontsize=10)
        axis.set_xlabel("reals, and fakes", fontsize=9)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of trials that find it", fontsize=9)
    axes[0].legend(fontsize=7)
    if title:
        figure.suptitle(title, fontsize=11)
    write_figure(figure, path, dpi=90)
