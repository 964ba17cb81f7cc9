"""The six ways to put the sparse autoencoder into the GAN, trained at equal steps and scored side by side."""

import json
import shlex
import sys
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from experiments import train_saegan
from experiments.common import main
from experiments.config import TrainSAEGAN, parse
from saegan_jax.algorithms.saegan import Discriminator, GeneratorInput
from saegan_jax.report.results import cell, origin, over_seeds, provenance, write_result
from saegan_jax.training.run_folder import read_config

INPUTS: tuple[GeneratorInput, ...] = ("gaussian", "sparse")
DISCRIMINATORS: tuple[Discriminator, ...] = ("pixels", "codes", "ensemble")
METRICS = {"Frechet / floor": "times the real-against-real floor", "class balance KL": "nats"}


@dataclass(frozen=True, kw_only=True)
class Placements(TrainSAEGAN):
    """Train all six combinations of generator input and discriminator, one run folder each, and tabulate them.

    --out is the folder of the six runs. Finished runs are kept as they are and interrupted ones continued, so that the
    same command completes the table after any stop. --generator-input and --discriminator have no effect.
    """

    results: Path | None = None
    """JSON to write, its Markdown table beside it; by default results.json in --out."""


def arms(options: Placements, out: Path) -> dict[str, TrainSAEGAN]:
    """The options of the six runs, by name, each in a folder of ``out``."""
    shared = {
        name: getattr(options, name) for name in TrainSAEGAN.__dataclass_fields__ if name not in ("out", "resume")
    }
    made = {}
    for generator_input, discriminator in product(INPUTS, DISCRIMINATORS):
        name = f"{generator_input}-{discriminator}"
        model = replace(options.model, generator_input=generator_input, discriminator=discriminator)
        folder = out / name
        resume = (folder / "config.json").exists()
        made[name] = TrainSAEGAN(**(shared | {"model": model, "out": folder, "resume": resume}))
    return made


def markdown(result: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    found = {(row["arm"], row["metric"]): row for row in result["rows"]}
    lines = [
        origin(result),
        "",
        "| generator input | discriminator | " + " | ".join(f"{m}, {unit}" for m, unit in METRICS.items()) + " |",
        "|---" * (2 + len(METRICS)) + "|",
    ]
    for generator_input, discriminator in product(INPUTS, DISCRIMINATORS):
        cells = [cell(found.get((f"{generator_input}-{discriminator}", metric))) for metric in METRICS]
        lines.append(f"| {generator_input} | {discriminator} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", result["note"], ""])


def run(options: Placements) -> None:
    """Train what is missing, then write and show the table."""
    console, rows = Console(), []
    steps, seeds = options.model.gan.steps, options.seeds
    out = options.out or Path("runs") / f"placements-{options.dataset}-seed{options.seed}"
    for name, arm in arms(options, out).items():
        console.print(f"[bold]{name}")
        train_saegan.run(arm)
        summary = json.loads((out / name / "summary.json").read_text())
        for metric, unit in METRICS.items():
            found = summary["rows"][metric]
            rows.append(
                {"arm": name, "metric": metric, "unit": unit, **over_seeds(found["values"]), "floor": found["floor"]}
            )
    result = {
        "name": f"placements on {options.dataset}",
        **provenance(f"python -m experiments.placements {shlex.join(sys.argv[1:])}".strip()),
        "note": (
            f"{steps:,} GAN steps of batch {options.model.gan.batch_size} in every arm, {seeds} seed{'s' * (seeds > 1)}"
            + ("; mean and bootstrap 95 % interval over seeds." if seeds > 1 else "; no interval.")
            + " Final weights, test images, never the best checkpoint."
        ),
        "config": read_config(out / f"{INPUTS[0]}-{DISCRIMINATORS[0]}")["options"],
        "rows": rows,
    }
    path = options.results or out / "results.json"
    write_result(path, result, markdown(result))
    console.print(Markdown(markdown(result)))


if __name__ == "__main__":
    main(lambda: run(parse(Placements)))
