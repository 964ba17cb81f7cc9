"""What the experiments that count modes share: members trained in a folder, scored as they go, tabled beside published rows."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from saegan_jax import __version__
from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.report.table import Result, Row, cell, document, floor_rows, origin, pivot
from saegan_jax.training.callbacks import Callback, Scores
from saegan_jax.training.loop import train
from saegan_jax.training.phase import Phase, check_schedule
from saegan_jax.training.run_folder import check_folder, lock_run, open_folder, to_json
from saegan_jax.training.systems import init_members
from saegan_jax.training.writers import Display, MetricsWriter, read_alarms, read_metrics

SAMPLE_SEED = 0  # of all samples that are scored


class Metric(NamedTuple):
    """A column of the table: its name in the scores, its heading, and whether more is better."""

    name: str
    heading: str
    unit: str
    more_is_better: bool


class Case(NamedTuple):
    """One data set or protocol.

    Attributes:
      name: of its folder and of its part of the table.
      config: of the GAN.
      algorithm: made from it.
      draw: ``draw(key, data) -> batch``.
      data: what batches are made from.
      score: ``score(step, state) -> Scores``.
      picture: ``picture(step, state)``.
      floors: what a perfect generator scores, by metric.
      published: by method, values by metric.
      settings: everything else that the result depends on, as JSON values.
      members_per_vmap: members computed together; by default all that the memory holds.
    """

    name: str
    config: GANConfig
    algorithm: Algorithm
    draw: Callable[[jax.Array, Any], Batch]
    data: Any
    score: Callable[[int, Any], Scores]
    picture: Callable[[int, Any], None]
    floors: Mapping[str, float]
    published: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, Any]
    members_per_vmap: int | None = None


def train_case(case: Case, folder: Path, *, seed: int, seeds: int, log_every: int, look_every: int) -> None:
    """Train all seeds of ``case`` in ``folder``, from where an earlier call was stopped.

    Raises:
      ConfigError: intervals that do not fit the steps, or a folder with a run of other settings.
    """
    check_schedule("gan", steps=case.config.steps, log_every=log_every, save_every=look_every, picture_every=look_every)
    config = {
        "script": "modes",
        "version": __version__,
        "case": case.name,
        "options": {
            "gan": to_json(case.config), "seed": seed, "seeds": seeds,
            "log_every": log_every, "look_every": look_every, **case.settings,
        },
    }  # fmt: skip
    check_folder(folder, config, resume=(folder / "config.json").exists())
    open_folder(folder, config)
    with ExitStack() as stack:
        stack.enter_context(lock_run(folder))
        writer, display = MetricsWriter(folder), Display()
        stack.callback(writer.close)
        stack.callback(display.stop)
        phase = Phase(
            name="gan",
            init=jax.jit(lambda: init_members(case.algorithm, seed=seed, n_seeds=seeds)),
            step=case.algorithm.step,
            n_seeds=seeds,
            steps=case.config.steps,
            batch_size=case.config.batch_size,
            log_every=log_every,
            save_every=look_every,
            picture_every=look_every,
            shown=("discriminator_loss", "generator_loss", "accuracy"),
            score=case.score,
            callbacks=(Callback(on_evaluation=case.picture),),
            draw=case.draw,
            members_per_vmap=case.members_per_vmap,
        )
        train(phase, case.data, folder=folder, config=config, writer=writer, display=display)


def rows(case: Case, folder: Path, metrics: Sequence[Metric]) -> list[Row]:
    """Published rows, then ours: the final state, and each member's best evaluation of each measure by itself."""
    made = [
        Row(arm=method, metric=m.name, unit=m.unit, published=values[m.name], extra={"case": case.name})
        for method, values in case.published.items()
        for m in metrics
        if m.name in values
    ]
    evaluations = [row for row in read_metrics(folder) if row["phase"] == "gan-scores"]
    begun = sum(event["state"] == "begins" for event in read_alarms(folder))
    for metric in metrics:
        course = np.array(
            [np.atleast_1d(row[metric.name]) for row in evaluations], np.float64
        )  # (evaluations, members)
        best = (np.nanmax if metric.more_is_better else np.nanmin)(course, axis=0)
        for arm, values in (("ours, final", course[-1]), ("ours, best evaluation", best)):
            floor = case.floors.get(metric.name)
            row = Row.of(arm, metric.name, values, unit=metric.unit, floor=floor, case=case.name, alarms=begun)
            made.append(row)
    return made


def result(name: str, note: str, config: Mapping[str, Any], made: list[Row]) -> Result:
    """A published result, made by the command that is running."""
    script = Path(sys.argv[0]).stem
    command = f"python -m experiments.{script} {shlex.join(sys.argv[1:])}".strip()
    return Result.here(name, command, made, note=note, config=config)


def published_or_ours(row: Row | None) -> str:
    """The published value as it was printed, or ours with its interval."""
    if row is None or row.published is None:
        return cell(row, digits=4)
    return f"{row.published:g}"


def tables(found: Result, metrics: Sequence[Metric]) -> str:
    """For each case a perfect generator, the published rows, and ours."""
    shown: list[Row] = []
    for case in dict.fromkeys(row["case"] for row in found.rows):
        of_case = [row for row in found.rows if row["case"] == case]
        shown += [*floor_rows(of_case, "*a perfect generator*"), *of_case]
    columns = {metric.heading: metric.name for metric in metrics}
    table = pivot(shown, index=("case", "arm"), corner=("", "method"), columns=columns, cell=published_or_ours)
    return document(origin(found), table, found.extra["note"])
