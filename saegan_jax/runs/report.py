"""One HTML page of a run, or of a published result, to be opened in a browser."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.text import Text

from saegan_jax.data import Dataset, load
from saegan_jax.data.registry import VECTORS
from saegan_jax.errors import require
from saegan_jax.files import write_bytes
from saegan_jax.report.result_page import result_html
from saegan_jax.report.table import Result
from saegan_jax.runs.checks import check_options, require_writable
from saegan_jax.runs.page import FEATURES, Subject, write_page
from saegan_jax.runs.restore import Restored, autoencoder_of, restore_run
from saegan_jax.training.busy import busy
from saegan_jax.training.members import members_of
from saegan_jax.training.memory import data_budget
from saegan_jax.training.run_folder import read_config

MOST_FEATURES = 5000


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write one HTML page of a run, or of a result file of a study. It needs no network and no server: open it in a browser.

    Of a run: samples over the training, scores beside their floors, curves, alarms, configuration, interpolations, samples
    beside the nearest training images, and for every feature of the autoencoder its atom, the images it is most active on, its
    class, its nearest features and, where the generator reads codes, what turning it up and down does. The data set is read.

    Of a result, such as experiments/results/compare_digits.json: intervals and every seed's values.
    """

    run: tyro.conf.Positional[Path]
    """Run folder, or the JSON file of a result."""
    out: Path | None = None
    """HTML file to write; by default report.html in the run folder, or <result>.html in the current folder."""
    features: int = FEATURES
    """Features to show at most: the densest."""
    step: int | None = None
    """Checkpoint to read; by default the newest complete one."""
    member: int = 0
    """Member of an ensemble whose images and features are shown, counted from 0."""
    seed: int = 0
    """Seed of the generated images."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, where the run was trained on them and they are not prepared yet."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""

    def __post_init__(self) -> None:
        check_options(self)
        fix = f"show at least one and at most {MOST_FEATURES}, of which a browser can still make a page."
        require(1 <= self.features <= MOST_FEATURES, "features", self.features, fix)


def run(options: Report) -> None:
    """Read, draw, write."""
    of_result = options.run.is_file()
    out = options.out or (Path(f"{options.run.stem}.html") if of_result else options.run / "report.html")
    if not of_result:
        read_config(options.run)  # that of no run is a mistake in the run, not in what is written
    require_writable(out, suffix=".html")
    if of_result:
        result = Result.read(options.run)
        require(bool(result.rows), "result", str(options.run), "it has no rows: there is nothing to show.")
        write_bytes(out, result_html(result).encode())
    else:
        with busy(Console(), "writing the page"):
            write_page(read_subject(options), out, features=options.features, seed=options.seed)
    Console().print(Text(f"{out}: {out.stat().st_size / 1e6:.1f} MB, to be opened in a browser"), soft_wrap=True)


def read_subject(options: Report) -> Subject:
    """The run as it lies on disk, and its data.

    Raises:
      ConfigError: no run, no checkpoint, no such step or member.
    """
    restored = restore_run(options.run, step=options.step, member=options.member)
    state = members_of(restored.state, restored.n_seeds)[options.member]
    name = restored.options.dataset
    fix = "it was trained on vectors, of which there are no pictures; its numbers are in summary.json and curves.png."
    require(not name.startswith(VECTORS), "run", str(options.run), fix)
    return Subject(
        folder=options.run,
        config=read_config(options.run),
        step=restored.step,
        member=options.member,
        algorithm=restored.algorithm,
        state=state,
        sae=autoencoder_of(restored, state),
        dataset=load_trained_on(restored, options) if name else None,
    )


def load_trained_on(restored: Restored, options: Report) -> Dataset:
    """The images that the run was trained on, read as then; of more than fit in memory a sample."""
    return load(
        restored.options.dataset,
        in_memory=data_budget(),
        manual_dir=options.manual_dir,
        data_dir=options.data_dir,
        **restored.options.image_files,
    )


def parse_options(arguments: Sequence[str] | None = None) -> Report:
    """The command line as options."""
    return tyro.cli(Report, args=arguments)
