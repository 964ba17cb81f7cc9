"""What samplers of sparse codes lose, as published rows and as a table."""

from collections.abc import Mapping, Sequence

import numpy as np

from saegan_jax.report.table import Result, Row, document, floor_rows, origin, pivot

METRICS = {
    "l0": "active units a code",
    "l0_distance": "1-Wasserstein distance of the distributions of L0, active units",
    "co_activation": "root mean square error of pairs' probability of being active together",
    "co_activation_share": "that error over the one of independent units",
    "two_sample": "accuracy of a classifier telling sampled from held-out codes",
    "frechet": "squared standardised feature units, decoded samples",
    "prior_gap": "frechet minus that of the bootstrap",
    "generator_frechet": "squared standardised feature units, samples of the trained generator",
    "generator_gap": "generator_frechet minus that of the bootstrap",
}
"""Measures and their units."""
Scores = Mapping[str, float]


def rows_of(scores: Sequence[Mapping[str, Scores]], floors: Sequence[Scores]) -> list[Row]:
    """One row for each sampler and measure.

    Args:
      scores: of each member, by sampler and measure; members have the same ones.
      floors: of each member, by measure, where there is one.
    """
    floor = {name: float(np.mean([one[name] for one in floors])) for name in floors[0]}
    return [
        Row.of(sampler, name, [one[sampler][name] for one in scores], unit=unit, floor=floor.get(name))
        for sampler in scores[0]
        for name, unit in METRICS.items()
        if name in scores[0][sampler]
    ]


def tables(result: Result) -> str:
    """Samplers down, metrics across, the floors first."""
    titles = {row.metric.replace("_", " "): row.metric for row in result.rows}
    legend = "\n".join(f"- {title}: {METRICS[name]}" for title, name in titles.items())
    table = pivot([*floor_rows(result.rows, "real codes"), *result.rows], columns=titles)
    return document(origin(result), result.extra["note"], table, legend)
