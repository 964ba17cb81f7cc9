"""Two-dimensional mixtures of Gaussians: how many modes a GAN finds, how well, and how evenly."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.markdown import Markdown

from saegan_jax import signals
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.data.mixtures import MixtureName
from saegan_jax.errors import require_choice
from saegan_jax.report.modes import MIXTURE_METRICS, tables
from saegan_jax.report.results import require_json
from saegan_jax.report.table import Result, Row
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.modes.case import rows_of, train_case
from saegan_jax.runs.modes.mixtures import RECIPE, SAMPLES, mixture_case
from saegan_jax.runs.program import experiment_command, main
from saegan_jax.training.run_folder import to_json


@dataclass(frozen=True, kw_only=True)
class Gaussians:
    """Train a GAN on a ring of 8 and a grid of 25 Gaussians, all seeds in one program, beside PacGAN's published table.

    A stopped command continues where it was. 2,500 samples of the averaged weights are scored: high quality is within three
    sigma of a centre (a perfect generator has 98.89 %), a mode counts when it has a high-quality sample, and the reverse KL is
    that of the nearest centres of all samples against equal shares.
    """

    mixtures: tuple[MixtureName, ...] = get_args(MixtureName)
    """Which."""
    gan: GANConfig = field(default_factory=lambda: RECIPE)
    """The GAN; r1_gamma and r2_gamma count in the plane's units divided by 1.25 (ring) and 5 (grid)."""
    seed: int = 0
    """First seed."""
    seeds: int = 10
    """Members of each mixture, trained at once."""
    log_every: int = 500
    """Steps between two rows of metrics."""
    evaluate_every: int = 4000
    """Steps between two scores, pictures and checkpoints; a multiple of log_every."""
    out: Path = Path("runs/gaussians")
    """Folder of the runs, one a mixture."""
    results: Path | None = None
    """JSON to write, its Markdown beside it; by default results.json in --out."""

    def __post_init__(self) -> None:
        check_options(self)
        require_choice("gan.network", self.gan.network, ("mlp",))
        require_json(self.results)


def run(options: Gaussians) -> None:
    """Train what is missing, then write and show the table."""
    console, seeds = Console(), options.seeds
    signals.continue_with()  # the same command; it resumes its trainings itself
    rows: list[Row] = []
    cases = [mixture_case(name, options.gan, seeds=seeds, folder=options.out / name) for name in options.mixtures]
    for case in cases:
        console.print(f"[bold]{case.name}")
        train_case(
            case, seed=options.seed, seeds=seeds, log_every=options.log_every, evaluate_every=options.evaluate_every
        )
        rows += rows_of(case, MIXTURE_METRICS)
    result = Result.here(
        "mixtures of Gaussians",
        experiment_command("gaussians"),
        rows,
        note=(
            f"{seeds} seeds in one program, {options.gan.steps:,} steps of batch {options.gan.batch_size}, {SAMPLES:,} "
            "samples; mean [bootstrap 95 % interval over seeds]. Published rows: ten trials, from the PacGAN paper. *Best "
            "evaluation*: each seed's best value of each measure among its evaluations; the final state is the result."
        ),
        config={"gan": to_json(options.gan), "seeds": seeds},
    )
    result.write(options.results or options.out / "results.json", tables(result, MIXTURE_METRICS))
    console.print(Markdown(tables(result, MIXTURE_METRICS)))


def parse_options(arguments: Sequence[str] | None = None) -> Gaussians:
    """The command line as options."""
    return read_options(Gaussians, arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
