"""Which objective makes a CycleGAN keep labels: concepts that agree, with controls, and classifiers trained with labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.data.domains import load_domains
from saegan_jax.errors import require, require_choice, require_positive
from saegan_jax.report.labels import tables
from saegan_jax.report.results import require_json
from saegan_jax.report.table import Result, seeds_text
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.label_study import ARMS, Weights, base_options, study_rows, train_arm
from saegan_jax.runs.program import experiment_command, main
from saegan_jax.training.run_folder import to_json


@dataclass(frozen=True, kw_only=True)
class KeepLabels:
    """Train CycleGANs between MNIST and the enlarged digits, and count the labels that their translations keep.

    A run folder that is there already is continued, and a finished one is only scored.
    """

    arms: tuple[str, ...] = tuple(ARMS)
    """Of plain, concept, concept_random, concept_dense, semantic, semantic_both."""
    steps: int = 1500
    """Of every CycleGAN."""
    sae_steps: int = 1500
    """Of every autoencoder."""
    seed: int = 0
    """First seed."""
    seeds: int = 3
    """Members of every arm."""
    weights: Weights = field(default_factory=Weights)
    """Of the guides."""
    folder: Path = Path("runs/keep_labels")
    """Where the runs go, a folder for each arm."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    results: Path = Path("runs/keep_labels/results.json")
    """JSON to write, and a table (.md) beside it."""

    def __post_init__(self) -> None:
        check_options(self)
        require(len(self.arms) > 0, "arms", self.arms, "name at least one.")
        for arm in self.arms:
            require_choice("arms", arm, tuple(ARMS))
        require_positive(steps=self.steps, sae_steps=self.sae_steps)
        require_json(self.results)


def run(options: KeepLabels) -> None:
    """Train, score, write and show."""
    console, weights = Console(), options.weights
    domains = load_domains("mnist_digits", manual_dir=options.manual_dir, data_dir=options.data_dir)
    base = base_options(
        steps=options.steps,
        sae_steps=options.sae_steps,
        seed=options.seed,
        seeds=options.seeds,
        manual_dir=options.manual_dir,
        data_dir=options.data_dir,
    )
    for arm in options.arms:
        train_arm(base, arm, weights, options.folder)
    note = (
        f"{seeds_text(options.seeds)}; {options.steps:,} steps. A is MNIST, B the enlarged digits. Concept weight "
        f"{weights.concept:g}, distance {weights.distance}; semantic weight {weights.semantic:g}. Labels are used by the "
        "semantic arms alone: of A by semantic, of both domains by semantic_both. The classifiers that score are others than "
        "those that are trained against."
    )
    rows = study_rows(options.arms, options.folder, domains)
    command = experiment_command("keep_labels")
    result = Result.here("labels kept by CycleGANs, mnist_digits", command, rows, note=note, config=to_json(base))
    result.write(options.results, tables(result))
    console.print(Markdown(tables(result)))
    console.print(Text(f"{options.results} and its table are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> KeepLabels:
    """The command line as options."""
    return read_options(KeepLabels, arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
