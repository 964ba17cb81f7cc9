"""Do sparse codes tell the factors of the shapes apart better than dense ones? DCI and MIG of every variant, with controls."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.data.shapes import shapes_with_factors
from saegan_jax.errors import require_choice
from saegan_jax.report.disentangle import rows_of, tables
from saegan_jax.report.results import require_json
from saegan_jax.report.table import Result, seeds_text
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.disentangle import ARMS, BASELINES, Study, asked_of, chance, run_arm
from saegan_jax.runs.parts import kept_or_made
from saegan_jax.runs.program import experiment_command, main


@dataclass(frozen=True, kw_only=True)
class Disentangle:
    """Score the codes of every variant on the shapes, whose factors are known, beside PCA, a dense autoencoder, an untrained
    sparse one and a Gaussian VAE, all with as many codes and several seeds.

    Finished arms are kept in --out, so that the same command continues after a stop. Penalties are chosen by L0 on validation
    images; no factor is used but to score.
    """

    arms: tuple[str, ...] = tuple(ARMS)
    """Which to score: any of the default ones. Changes are shown against the dense autoencoder and PCA where they are named."""
    study: Study = field(default_factory=Study)
    """Sizes, steps and seeds."""
    out: Path = Path("runs/disentangle")
    """Folder of the finished arms."""
    results: Path | None = None
    """JSON to write, its Markdown beside it; by default results.json in --out."""

    def __post_init__(self) -> None:
        check_options(self)
        for arm in self.arms:
            require_choice("arms", arm, tuple(ARMS))
        require_json(self.results)


def note_of(study: Study, n_test: int) -> str:
    """What the numbers are of."""
    return (
        f"{seeds_text(study.seeds)}. Shapes, 32x32x3; {study.d} codes in every arm; {study.steps:,} steps of batch "
        f"{study.batch_size}. TopK kinds have k = {study.k}; other penalties, but that of wta, were chosen for an L0 near it "
        "on validation images, without factors, with a seed of their own. Forests are fitted to the codes of "
        f"{study.fitted:,} training images and scored on {n_test:,} test images; PCA's codes are the same for every seed and "
        "only its forests differ. "
        "The VAE has a hidden layer and so more weights. Changes are paired by seed; their intervals hold for all arms of a "
        "column together (Holm)."
    )


def run(options: Disentangle) -> None:
    """Train and score what is missing, then write and show the tables."""
    console, study = Console(), options.study
    shapes = shapes_with_factors()
    parts = {}
    for arm in options.arms:
        path = options.out / f"{arm.replace(' ', '_')}.json"
        parts[arm] = kept_or_made(path, asked_of(study), partial(run_arm, arm, study, shapes, console), console)
    rows = rows_of(
        {arm: part["values"] for arm, part in parts.items()},
        {arm: part["settings"] for arm, part in parts.items()},
        baselines=BASELINES,
        chance=chance(shapes),
    )
    command = experiment_command("disentangle")
    result = Result.here(
        "disentanglement of codes of the shapes", command, rows, note=note_of(study, len(shapes.factors["test"]))
    )
    path = options.results or options.out / "results.json"
    result.write(path, tables(result))
    console.print(Markdown(tables(result)))
    console.print(Text(f"{path} and its table are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Disentangle:
    """The command line as options."""
    return read_options(Disentangle, arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
