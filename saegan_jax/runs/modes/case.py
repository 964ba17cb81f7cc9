"""A case: members trained in a folder on data with known modes, scored as they go, tabled beside published rows."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.errors import require
from saegan_jax.report.modes import Metric
from saegan_jax.report.table import Row
from saegan_jax.runs.options import RunOptions, TrainGAN
from saegan_jax.runs.session import RunData, holds_run, open_run
from saegan_jax.training.callbacks import Scores
from saegan_jax.training.systems import init_members
from saegan_jax.training.writers import read_alarms, read_metrics


class Case(NamedTuple):
    """One data set or protocol.

    Attributes:
      name: of its part of the table.
      folder: of its run.
      config: of the GAN.
      image_shape: of its samples.
      algorithm: made from both.
      draw: ``draw(key, data) -> batch``.
      data: what batches are made from.
      score: ``score(step, state) -> Scores``.
      picture: ``picture(step, state)``.
      floors: what a perfect generator scores, by metric.
      published: by method, values by metric.
      settings: everything else that the result depends on, as JSON values.
    """

    name: str
    folder: Path
    config: GANConfig
    image_shape: tuple[int, int, int]
    algorithm: Algorithm
    draw: Callable[[jax.Array, Any], Batch]
    data: Any
    score: Callable[[int, Any], Scores]
    picture: Callable[[int, Any], None]
    floors: Mapping[str, float]
    published: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, Any]


def endless(name: str, settings: Any) -> None:
    """Of data of which there is no end: every batch size fits."""


def case_data(case: Case, options: RunOptions, mesh: Mesh | None) -> RunData:
    """What a case is trained on."""
    return RunData(
        dataset=None,
        image_shape=case.image_shape,
        n_classes=None,
        feed=lambda: case.data,
        check_phase=endless,
        record={"case": case.name, "settings": dict(case.settings)},
        unrecorded=("dataset", "fraction", "evaluate"),
    )


def train_case(case: Case, *, seed: int, seeds: int, log_every: int, evaluate_every: int) -> None:
    """Train all seeds of ``case``, from where an earlier call was stopped.

    Raises:
      ConfigError: intervals that do not fit the steps, or a folder with a run of other settings.
    """
    fix = f"it must be a multiple of log_every = {log_every}."
    require(log_every < 1 or evaluate_every % log_every == 0, "evaluate_every", evaluate_every, fix)
    options = TrainGAN(
        gan=case.config,
        seed=seed,
        seeds=seeds,
        out=case.folder,
        resume=holds_run(case.folder),
        log_every=log_every,
        save_every=evaluate_every,
        picture_every=evaluate_every,
    )
    with ExitStack() as stack:
        data = partial(case_data, case)
        job = open_run(
            stack,
            options,
            name=f"modes-{case.name}",
            model=case.config,
            phases={"gan": case.config},
            data=data,
            scores_samples=False,
        )
        job.train(
            "gan",
            case.algorithm.step,
            jax.jit(partial(init_members, case.algorithm, seed=seed, n_seeds=seeds)),
            case.config,
            shown=("discriminator_loss", "generator_loss", "accuracy"),
            score=case.score,
            picture=case.picture,
            draw=case.draw,
        )


def rows_of(case: Case, metrics: Sequence[Metric]) -> list[Row]:
    """Published rows, then ours: the final state, and each member's best evaluation of each measure by itself."""
    made = [
        Row(arm=method, metric=m.name, unit=m.unit, published=values[m.name], extra={"case": case.name})
        for method, values in case.published.items()
        for m in metrics
        if m.name in values
    ]
    evaluations = [row for row in read_metrics(case.folder) if row["phase"] == "gan-scores"]
    begun = sum(event["state"] == "begins" for event in read_alarms(case.folder))
    for metric in metrics:
        course = [np.atleast_1d(row[metric.name]) for row in evaluations]
        values = np.array(course, np.float64)  # (evaluations, members)
        best = (np.nanmax if metric.more_is_better else np.nanmin)(values, axis=0)
        for arm, shown in (("ours, final", values[-1]), ("ours, best evaluation", best)):
            floor = case.floors.get(metric.name)
            row = Row.of(arm, metric.name, shown, unit=metric.unit, floor=floor, case=case.name, alarms=begun)
            made.append(row)
    return made
