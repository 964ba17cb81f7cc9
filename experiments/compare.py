"""Arms against a baseline at equal size and equal operations: many seeds, controls, intervals that hold for all together."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from experiments.arms import (
    BASELINE,
    Settings,
    arm_settings,
    cost,
    count_parameters,
    matched,
    with_controls,
    with_steps,
)
from saegan_jax import signals
from saegan_jax.algorithms.energy import EnergyConfig
from saegan_jax.algorithms.gan import Nets
from saegan_jax.data import Dataset, load, share
from saegan_jax.errors import require
from saegan_jax.files import write_bytes, write_json
from saegan_jax.report.comparison import forest
from saegan_jax.report.table import Result, Row, Text, cell, document, each, origin, pivot, present_name
from saegan_jax.runs.options import RunOptions, TrainEnergy, TrainGAN, TrainSAEGAN
from saegan_jax.runs.parse import parse
from saegan_jax.runs.program import main
from saegan_jax.runs.session import LOCAL, to_json_options
from saegan_jax.runs.train import energy as train_energy
from saegan_jax.runs.train import gan as train_gan
from saegan_jax.runs.train import saegan as train_saegan
from saegan_jax.stats import Effect, effects, interaction
from saegan_jax.training.finite import NonFiniteError
from saegan_jax.training.phase import check_batch
from saegan_jax.training.run_folder import read_config

Equal = Literal["flops", "steps"]
HEADLINE = "Frechet / floor"
# Measures, and whether lower is better.
METRICS = {
    HEADLINE: True,
    "Frechet / floor, second network": True,
    "precision": False,
    "recall": False,
    "coverage": False,
    "class balance KL": True,
}
SHOWN = ("memorisation", "best evaluation", "last evaluation", "alarms")
CHANGES = (HEADLINE, "Frechet / floor, second network", "recall", "coverage")  # measures whose change is tabulated
FACTORIAL = (BASELINE, "sparse", "ensemble", "both")


@dataclass(frozen=True, kw_only=True)
class Compare(TrainSAEGAN):
    """Train every arm on every fraction of the data with every seed, and compare it with the plain GAN.

    An arm is a placement of the autoencoder: sparse, sparse-copula, sparse-clusters, sparse-bootstrap, sparse-aligned (the
    generator's input), latent-codes, latent-pixels (its output), codes, ensemble, projected, lossless, init (the
    discriminator), both, both-codes, and ebgan and began, whose discriminator is the autoencoder. After + : dense (a dense
    autoencoder of equal size instead), random (one that is not trained), augment (DiffAugment). Each runs in a folder of
    --out: finished ones are kept, interrupted ones continued, so that the same command completes the comparison after any
    stop, and more arms, fractions or seeds add to it.
    --fraction, --resume and what places the autoencoder have no effect.
    """

    arms: tuple[str, ...] = ("sparse", "codes", "ensemble", "both")
    """Arms beside the plain GAN, which is always there."""
    controls: bool = True
    """Also run each arm with a dense and with a random autoencoder in the sparse one's place."""
    fractions: tuple[float, ...] = (1.0,)
    """Shares of the training images."""
    block: int = 8
    """Seeds in one program and run folder; --seeds is a multiple of it, or less."""
    equal: Equal = "flops"
    """flops: all arms cost what the plain GAN's steps cost, the autoencoder's training charged; steps: all take as many."""
    match: bool = True
    """Vary dense layers so that generator and discriminator have the plain GAN's number of parameters."""
    tabulate: bool = False
    """Train nothing, and tabulate what is finished."""
    results: Path | None = None
    """JSON to write, beside it its plot, the table of changes, and under <name>-all.md every measure; by default results.json
    in --out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.equal in get_args(Equal), "equal", self.equal, "choose flops or steps.")
        require(self.block >= 1, "block", self.block, "train at least one seed at once.")
        require(
            self.seeds <= self.block or self.seeds % self.block == 0,
            "seeds",
            self.seeds,
            f"blocks of {self.block} are trained at once; use a multiple.",
        )
        for fraction in self.fractions:
            require(0 < fraction <= 1, "fractions", fraction, "it is a share of the training images, above 0, up to 1.")
        require(len(set(self.fractions)) == len(self.fractions) > 0, "fractions", self.fractions, "name each once.")


class Arm(NamedTuple):
    """One arm on one fraction of the data, ready to be trained."""

    name: str
    fraction: float
    settings: Settings
    parameters: Nets
    flops: float | None


def plan(options: Compare, dataset: Dataset) -> list[Arm]:
    """All arms, brought to the baseline's size and budget; compiles one step of each where operations are to be equal.

    Raises:
      ConfigError: an unknown arm, or an autoencoder that costs more than the whole budget.
    """
    names = (BASELINE, *(name for name in options.arms if name != BASELINE))
    names = with_controls(names) if options.controls else tuple(dict.fromkeys(names))
    known: dict[str, Any] = {"image_shape": dataset.image_shape, "n_classes": dataset.num_classes}
    base = arm_settings(BASELINE, options.model, preset=options.preset)
    target = count_parameters(base, **known)
    steps, made = base.gan.steps, []
    models = {}
    for name in names:
        settings = arm_settings(name, options.model, preset=options.preset)
        if options.match and name.split("+")[0] != BASELINE:
            models[name] = matched(settings, target, **known)
        else:
            models[name] = settings, count_parameters(settings, **known)
    for fraction in options.fractions:
        images = len(share(dataset.train, fraction).label)
        budget = 0.0
        for name, (model, parameters) in models.items():
            # An autoencoder's batch may be larger than a small share of the data.
            settings = replace(model, sae=replace(model.sae, batch_size=min(model.sae.batch_size, images)))
            if options.equal == "steps":
                made.append(Arm(name, fraction, settings, parameters, None))
                continue
            spent = cost(settings, **known, n_images=images)
            if name == BASELINE:
                budget = steps * spent.step
            own = int((budget - spent.before) / spent.step) // options.log_every * options.log_every
            require(own > 0, "sae.steps", settings.sae.steps, f"{name}: the autoencoder alone costs the whole budget.")
            made.append(Arm(name, fraction, with_steps(settings, own), parameters, spent.before + own * spent.step))
    return made


def blocks(options: Compare) -> list[tuple[int, int]]:
    """First seed and number of seeds of each program."""
    size = min(options.block, options.seeds)
    return [(options.seed + start, size) for start in range(0, options.seeds, size)]


def job(options: Compare, arm: Arm, seed: int, n_seeds: int, out: Path) -> tuple[Callable[[Any], None], RunOptions]:
    """The script and the options of one run."""
    folder = out / f"data-{arm.fraction:g}" / arm.name / f"seeds-{seed}-{seed + n_seeds - 1}"
    shared = {
        name: getattr(options, name) for name in RunOptions.__dataclass_fields__ if name not in ("out", "resume")
    } | {
        "seed": seed,
        "seeds": n_seeds,
        "fraction": arm.fraction,
        "out": folder,
        "resume": (folder / "config.json").exists(),
    }  # fmt: skip
    if isinstance(arm.settings, EnergyConfig):
        return train_energy.run, TrainEnergy(**shared, energy=arm.settings)
    if arm.settings.uses_sae:
        return train_saegan.run, TrainSAEGAN(**shared, model=arm.settings, recipe=options.recipe)
    return train_gan.run, TrainGAN(**shared, gan=arm.settings.gan, recipe=options.recipe)


def outcome(options: RunOptions) -> dict[str, list[float]] | None:
    """Every measure of a finished run, a value a seed; all NaN for one that failed, None for one that is not finished.

    Raises:
      ConfigError: the folder holds a run of other settings.
    """
    folder = options.out
    assert folder is not None
    if not (folder / "summary.json").exists():
        return None
    found = read_config(folder)["options"]
    wanted = {key: value for key, value in to_json_options(options).items() if key not in LOCAL}
    different = sorted(key for key in wanted if json.loads(json.dumps(wanted[key], allow_nan=False)) != found.get(key))
    require(
        not different,
        "out",
        str(folder),
        f"it holds a run with other settings ({', '.join(different)}). Name another --out, or move it away.",
    )
    rows = json.loads((folder / "summary.json").read_text())["rows"]
    return {present_name(name): row["values"] for name, row in rows.items()}


def train(script: Callable[[Any], None], options: RunOptions, console: Console) -> None:
    """Run one training; one of which no seed is left is kept as a result, its measures not a number."""
    try:
        script(options)
    except NonFiniteError as error:
        console.print(f"[red]failed:[/] {error}")
        assert options.out is not None
        failed = {name: {"values": [None] * options.seeds} for name in (*METRICS, *SHOWN)}
        write_json(options.out / "summary.json", {"failed": str(error), "rows": failed})


def collect(options: Compare, arms: list[Arm], out: Path) -> dict[tuple[float, str], dict[str, list[float]]]:
    """Measures of all arms of which a block of seeds is finished, seeds in order up to the first block that is missing."""
    found: dict[tuple[float, str], dict[str, list[float]]] = {}
    for arm in arms:
        runs = []
        for block in blocks(options):
            one = outcome(job(options, arm, *block, out)[1])
            if one is None:
                break
            runs.append(one)
        if runs:
            found[arm.fraction, arm.name] = {
                metric: [float("nan") if v is None else v for run in runs for v in run.get(metric, [])]
                for metric in (*METRICS, *SHOWN)
            }
    return found


def rows_of(arms: list[Arm], found: dict[tuple[float, str], dict[str, list[float]]]) -> list[Row]:
    """The published rows: each measure of each arm, and what changes against the baseline."""
    changes: dict[str, dict[tuple[float, str], Effect]] = {}
    for metric, lower in METRICS.items():
        compared = {
            key: values[metric] for key, values in found.items() if key[1] != BASELINE and (key[0], BASELINE) in found
        }
        # An arm may have fewer seeds than the baseline, or more: those of both are paired.
        common = {key: min(len(values), len(found[key[0], BASELINE][metric])) for key, values in compared.items()}
        base = {key: found[key[0], BASELINE][metric][:n] for key, n in common.items()}
        compared = {key: values[: common[key]] for key, values in compared.items()}
        changes[metric] = effects(base, compared, lower_is_better=lower) if compared else {}
    rows = []
    for arm in arms:
        key = (arm.fraction, arm.name)
        for metric in (*METRICS, *SHOWN):
            if key not in found or not found[key][metric]:
                continue
            values = found[key][metric]
            failed = int((~np.isfinite(values)).sum())
            extra: dict[str, Any] = {"fraction": arm.fraction, "seeds": len(values), "failed": failed}
            extra |= {"parameters": list(arm.parameters), "steps": arm.settings.gan.steps, "flops": arm.flops}
            if key in changes.get(metric, {}):
                extra["change"] = changes[metric][key]._asdict()
            unit = "ratio" if metric == HEADLINE else ""
            rows.append(Row.of(arm.name, metric, values, unit=unit, skip_failed=True, **extra))
    return rows


def percent(effect: Mapping[str, Any]) -> str:
    """A change with its interval and verdict, as the tables show it."""
    low, high = (f"{100 * effect[side]:+.0f}" if abs(effect[side]) < 1e4 else "inf" for side in ("low", "high"))
    verdict = f"**{effect['verdict']}**" if effect["verdict"] in ("better", "worse") else effect["verdict"]
    return f"{100 * effect['change']:+.0f} % [{low}, {high}] {verdict}"


def changes_table(rows: Sequence[Row]) -> str:
    """The headline of every arm, and what it changes of the measures in :data:`CHANGES`."""
    titles = ("Frechet distance", "the same in the second network", "recall", "coverage")
    columns: dict[str, str | Text] = {"seeds": each("seeds", of=HEADLINE), HEADLINE: HEADLINE}
    for title, metric in zip(titles, CHANGES, strict=True):
        columns[f"change of {title}"] = each("change", of=metric, form=percent)
    return pivot(rows, corner="arm", columns=columns, cell=partial(cell, count_failed=False), spaced_rule=True)


def measures_table(rows: Sequence[Row]) -> str:
    """Every other measure of every arm to two digits, failed seeds, steps and sizes."""
    columns: dict[str, str | Text] = {metric: metric for metric in (*METRICS, *SHOWN) if metric != HEADLINE}
    columns["failed"] = each("failed", of=HEADLINE)
    columns["steps"] = each("steps", of=HEADLINE, form="{:,}".format)
    columns["parameters of G and D"] = each("parameters", of=HEADLINE, form=lambda n: f"{n[0]:,} and {n[1]:,}")
    return pivot(
        rows, corner="arm", columns=columns, cell=partial(cell, digits=2, count_failed=False), spaced_rule=True
    )


def tables(result: Result, *, every: bool) -> str:
    """Of each fraction the changes and, if asked for, every measure; then the factorial."""
    parts = [origin(result)]
    for fraction in dict.fromkeys(row["fraction"] for row in result.rows):
        rows = [row for row in result.rows if row["fraction"] == fraction]
        parts += [f"**{100 * fraction:g} % of the training images**", changes_table(rows)]
        if every:
            parts.append(measures_table(rows))
    return document(*parts, *result.extra["factorial"], result.extra["note"])


def factorial(found: dict[tuple[float, str], dict[str, list[float]]]) -> list[str]:
    """The interaction of the two uses on every fraction where all four arms are finished."""
    said = []
    for fraction in dict.fromkeys(key[0] for key in found):
        parts = [found.get((fraction, name), {}).get(HEADLINE) for name in FACTORIAL]
        if any(part is None or not np.isfinite(part).all() for part in parts):
            continue
        n = min(len(part) for part in parts if part is not None)
        effect = interaction(*(part[:n] for part in parts if part is not None))
        said.append(
            f"Interaction of sparse input and code critic (both x {BASELINE} / (sparse x ensemble), {100 * fraction:g} % of "
            f"the images, {HEADLINE}): {percent(effect._asdict()).replace('**', '')}."
        )
    return said


def run(options: Compare) -> None:
    """Train what is missing, then write and show the comparison."""
    console = Console()
    signals.continue_with()  # the same command; it resumes its trainings itself
    dataset = load(options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir)
    for fraction in options.fractions:
        images = len(share(dataset.train, fraction).label)
        check_batch("gan", options.model.gan.batch_size, images, steps=options.model.gan.steps)
    with console.status("counting parameters and operations"):
        arms = plan(options, dataset)
    out = options.out or Path("runs") / f"compare-{options.dataset}-seed{options.seed}"
    for arm in arms:
        for block in blocks(options):
            script, own = job(options, arm, *block, out)
            if outcome(own) is None and not options.tabulate:
                console.print(
                    f"[bold]{arm.name}, {100 * arm.fraction:g} % of the images, seeds {block[0]} to {sum(block) - 1}"
                )
                train(script, own, console)
    found = collect(options, arms, out)
    require(bool(found), "tabulate", options.tabulate, f"no arm in {out} is finished; leave it out to train them.")
    rows = rows_of(arms, found)
    spent = [arm for arm in arms if (arm.fraction, arm.name) in found]
    sizes = [sum(arm.parameters) for arm in spent]
    budget = (
        "as many steps" if options.equal == "steps" else "as many floating-point operations, the autoencoder's included"
    )
    n = max(row["seeds"] for row in rows)
    result = Result.here(
        f"comparison on {options.dataset}",
        f"python -m experiments.compare {shlex.join(sys.argv[1:])}".strip(),
        rows,
        note=(
            f"Up to {n} seed{'s' * (n > 1)}, {budget}; {min(sizes):,} to {max(sizes):,} parameters. Mean [bootstrap 95 % "
            "interval over seeds] of final weights against test images; means leave out failed seeds, which are counted, and "
            "changes take them for the worst of all. *Change*: ratio of geometric means paired by seed, its interval corrected "
            "(Holm) for all arms and fractions of this table; found (**better**, **worse**) where it excludes 0, absent where "
            "it lies within 5 %, else undecided. *Best* and *last evaluation*: Frechet distance of few samples to validation "
            "images during the training; the best is not the result."
        ),
        factorial=factorial(found),
        config=to_json_options(replace(options, results=None)),
    )
    path = options.results or out / "results.json"
    result.write(path, tables(result, every=False))
    write_bytes(path.with_name(f"{path.stem}-all.md"), tables(result, every=True).encode())
    panels: dict[str, dict[str, Effect]] = {}
    for row in rows:
        if row.metric == HEADLINE and row.get("change") is not None:
            panels.setdefault(f"{100 * row['fraction']:g} % of the images", {})[row.arm] = Effect(**row["change"])
    if panels:
        forest(panels, path.with_suffix(".png"), title=f"{HEADLINE} on {options.dataset}")
    console.print(Markdown(tables(result, every=False)))


def parse_options(arguments: Sequence[str] | None = None) -> Compare:
    """The command line as options."""
    return parse(Compare, arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
