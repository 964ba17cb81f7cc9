"""Published results on sparse autoencoders, rerun: self-taught learning, k-sparse, winner-take-all, dictionary recovery."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.data import load
from saegan_jax.errors import require
from saegan_jax.report.papers import tables
from saegan_jax.report.results import require_json
from saegan_jax.report.table import Result, Row, seeds_text
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.papers import ACTIVE, STUDIES, Rerun, Study, asked_of, run_study
from saegan_jax.runs.parts import kept_or_made
from saegan_jax.runs.program import experiment_command, main


@dataclass(frozen=True, kw_only=True)
class PaperTables:
    """Rerun published results on sparse autoencoders, each with several seeds, and write them beside the published numbers.

    Finished tables are kept in --out, so that the same command continues after a stop. Everything is fitted on training
    images and chosen on validation images; the test images are scored once.
    """

    tables: tuple[Study, ...] = get_args(Study)
    """ufldl: self-taught learning. k_sparse: TopK + logistic regression. fc_wta: winner-take-all + linear SVM. recovery: true
    atoms found again in synthetic sparse mixtures."""
    atoms: tuple[int, ...] = (32, 64, 128, 256, 512)
    """recovery: how many true atoms, in 64 dimensions."""
    seed: int = 0
    """First seed."""
    seeds: int = 3
    """Seeds of every row."""
    steps: int | None = None
    """Training steps of every autoencoder, in place of each table's own; for a quick look."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    out: Path = Path("runs/paper_tables")
    """Folder of the finished tables."""
    results: Path | None = None
    """JSON to write, its Markdown beside it; by default results.json in --out."""

    def __post_init__(self) -> None:
        check_options(self)
        require(self.steps is None or self.steps >= 1, "steps", self.steps, "take at least one step.")
        require(min(self.atoms, default=0) >= 8, "atoms", self.atoms, "at least 8, of which 4 are active on average.")
        require_json(self.results)

    @property
    def rerun(self) -> Rerun:
        """How often and how long."""
        return Rerun(**{f.name: getattr(self, f.name) for f in fields(Rerun)})


def run(options: PaperTables) -> None:
    """Train what is missing, then write and show the table."""
    console, rerun = Console(), options.rerun
    reads_images = any(STUDIES[study].reads_images for study in options.tables)
    name = "mnist" if reads_images else "digits"
    dataset = load(name, manual_dir=options.manual_dir, data_dir=options.data_dir)
    rows: list[Row] = []
    for study in options.tables:
        make = partial(run_study, study, rerun, dataset, console)
        part = kept_or_made(options.out / f"{study}.json", asked_of(rerun, study), make, console)
        rows += [Row.from_json(row) for row in part["rows"]]
    result = Result.here(
        "published results on sparse autoencoders, rerun",
        experiment_command("paper_tables"),
        rows,
        note=(
            f"{seeds_text(options.seeds)}. MNIST: fitted on 55,000 training images, chosen on 5,000 validation images, scored "
            f"on the test images once. recovery: {ACTIVE:g} of the atoms active on average, magnitudes 0.5 to 1.5, noise 0.01, "
            "as many units as atoms, Hungarian match with sign; chance: a random dictionary of that size."
        ),
    )
    path = options.results or options.out / "results.json"
    result.write(path, tables(result))
    console.print(Markdown(tables(result)))
    console.print(Text(f"{path} and its table are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> PaperTables:
    """The command line as options."""
    return read_options(PaperTables, arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
