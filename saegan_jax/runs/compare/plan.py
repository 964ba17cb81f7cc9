"""A comparison's arms brought to one size and budget, the runs that they are trained in, and what these have measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from saegan_jax.algorithms.gan import Nets
from saegan_jax.data import Dataset, share
from saegan_jax.files import write_json
from saegan_jax.report.comparison import MEASURES, Measured
from saegan_jax.report.table import present_name
from saegan_jax.runs.compare.arms import Arm, make_arm
from saegan_jax.runs.compare.budgets import BUDGETS, Equal
from saegan_jax.runs.compare.sizes import count_parameters, matched
from saegan_jax.runs.options import RunOptions, TrainSAEGAN
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.runs.session import holds_run, require_same_run
from saegan_jax.training.finite import NonFiniteError

Block = tuple[int, int]
"""First seed and number of seeds of one program."""


class Sized(NamedTuple):
    """An arm and the parameters of its networks."""

    arm: Arm
    parameters: Nets


class Planned(NamedTuple):
    """One arm on one share of the data, ready to be trained; ``flops`` is None where they are not counted."""

    arm: Arm
    parameters: Nets
    fraction: float
    flops: float | None


def size_arms(names: Sequence[str], options: TrainSAEGAN, dataset: Dataset, *, match: bool) -> list[Sized]:
    """The arms of these names, the first of which is the baseline, and its parameters the others' where they are to ``match``.

    Raises:
      ConfigError: an unknown arm.
    """
    known: dict[str, Any] = {"image_shape": dataset.image_shape, "n_classes": dataset.num_classes}
    arms = [make_arm(name, options.model, preset=options.preset) for name in names]
    target = count_parameters(arms[0].settings, **known)
    sized = []
    for arm in arms:
        widths = arm.family.widths if match else ()
        settings, parameters = matched(arm.settings, target, widths=widths, **known)
        sized.append(Sized(arm._replace(settings=settings), parameters))
    return sized


def plan(
    sized: Sequence[Sized], dataset: Dataset, fractions: Sequence[float], *, equal: Equal, log_every: int
) -> list[Planned]:
    """Every arm on every share of the data with its steps; compiles one step of each where operations are to be equal.

    Raises:
      ConfigError: an autoencoder that costs more than the whole budget.
    """
    known: dict[str, Any] = {"image_shape": dataset.image_shape, "n_classes": dataset.num_classes}
    found = []
    for fraction in fractions:
        n_images = len(share(dataset.train, fraction).label)
        arms = [arm.with_sae_batch(n_images) for arm, _ in sized]
        for arm, (_, parameters) in zip(arms, sized, strict=True):
            budgeted, flops = BUDGETS[equal](arm, arms[0], log_every=log_every, n_images=n_images, **known)
            found.append(Planned(budgeted, parameters, fraction, flops))
    return found


def blocks(*, seed: int, seeds: int, block: int) -> list[Block]:
    """Seeds ``seed .. seed + seeds - 1``, ``block`` of them or fewer in each program."""
    size = min(block, seeds)
    return [(seed + start, size) for start in range(0, seeds, size)]


def options_of(planned: Planned, block: Block, options: TrainSAEGAN, out: Path) -> RunOptions:
    """The options of one run, which continues where it was stopped: those of the comparison, with the arm's settings."""
    training = TRAININGS[planned.arm.family.training]
    seed, n_seeds = block
    folder = out / f"data-{planned.fraction:g}" / planned.arm.name / f"seeds-{seed}-{seed + n_seeds - 1}"
    shared = {f.name: getattr(options, f.name) for f in fields(training.options) if hasattr(options, f.name)}
    changes = {
        "seed": seed,
        "seeds": n_seeds,
        "fraction": planned.fraction,
        "out": folder,
        "resume": holds_run(folder),
        training.settings: planned.arm.family.options(planned.arm.settings),
    }
    return training.options(**(shared | changes))


def outcome(options: RunOptions) -> dict[str, list[float]] | None:
    """Every measure of a finished run, a value a seed; all NaN for one that failed, None for one that is not finished.

    Raises:
      ConfigError: the folder holds a run of other settings.
    """
    folder = options.out
    assert folder is not None
    if not (folder / "summary.json").exists():
        return None
    require_same_run(options, folder)
    rows = json.loads((folder / "summary.json").read_text())["rows"]
    return {present_name(name): row["values"] for name, row in rows.items()}


def train_block(planned: Planned, options: RunOptions, console: Console) -> None:
    """Run one training; one of which no seed is left is kept as a result, its measures not a number."""
    try:
        import_module(TRAININGS[planned.arm.family.training].module).run(options)
    except NonFiniteError as error:
        console.print(f"[red]failed:[/] {error}")
        assert options.out is not None
        failed = {name: {"values": [None] * options.seeds} for name in MEASURES}
        write_json(options.out / "summary.json", {"failed": str(error), "rows": failed})


def train_missing(
    plans: Sequence[Planned], blocks: Sequence[Block], options: TrainSAEGAN, out: Path, console: Console
) -> None:
    """Train what is not finished, arm by arm."""
    for planned in plans:
        for block in blocks:
            run = options_of(planned, block, options, out)
            if outcome(run) is None:
                share_shown, last = f"{100 * planned.fraction:g} %", sum(block) - 1
                console.print(f"[bold]{planned.arm.name}, {share_shown} of the images, seeds {block[0]} to {last}")
                train_block(planned, run, console)


def joined(runs: Sequence[Mapping[str, Sequence[float | None]]]) -> dict[str, list[float]]:
    """Measures of several blocks of seeds as those of one; a value that failed is NaN."""
    return {name: [nan if v is None else v for run in runs for v in run.get(name, ())] for name in MEASURES}


def collect(plans: Sequence[Planned], blocks: Sequence[Block], options: TrainSAEGAN, out: Path) -> list[Measured]:
    """Measures of all arms of which a block of seeds is finished, seeds in order up to the first block that is missing."""
    found = []
    for planned in plans:
        runs = []
        for block in blocks:
            one = outcome(options_of(planned, block, options, out))
            if one is None:
                break
            runs.append(one)
        if runs:
            steps = planned.arm.settings.gan.steps
            sizes = (planned.parameters.generator, planned.parameters.discriminator)
            measured = Measured(planned.arm.name, planned.fraction, joined(runs), sizes, steps, planned.flops)
            found.append(measured)
    return found
