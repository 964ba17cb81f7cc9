"""How autoencoders meet data unlike their training data: rotated, noisy, inverted, or other digits altogether."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data import Dataset, load
from saegan_jax.data.dataset import Split
from saegan_jax.errors import require
from saegan_jax.evaluation.shift import (
    MODELS,
    OTHER_SOURCE,
    UNSHIFTED,
    score_autoencoders,
    score_pca,
    shifted_sets,
    without_classes,
)
from saegan_jax.report import shift_curves
from saegan_jax.report.results import require_json
from saegan_jax.report.shift import LIVE, rows_of, tables
from saegan_jax.report.table import Result, Row, seeds_text
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import experiment_command, main, prefixed
from saegan_jax.training.busy import busy
from saegan_jax.training.phase import check_batch
from saegan_jax.training.run_folder import to_json

Model = Literal["topk", "batch_topk", "l1", "kl", "dense"]


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Train sparse autoencoders, a dense one of equal size and PCA on one distribution, and test them on shifted ones.

    Every autoencoder has the same number of units and steps. The dense one is the same ReLU network without any sparsity term;
    PCA has as many components as the TopK autoencoder has active units, and once more as many as all have units.
    """

    dataset: str = "mnist"
    """mnist, fashion_mnist, kmnist, digits, or any prepared TFDS image data set."""
    hold_out_classes: tuple[int, ...] = ()
    """Classes left out of the training images; the test images of these classes become one more shift."""
    models: tuple[Model, ...] = get_args(Model)
    """Autoencoders to train; PCA costs nothing and is always there."""
    seed: int = 0
    """First seed."""
    seeds: int = 5
    """Seeds of every autoencoder."""
    sae: SAEConfig = field(
        default_factory=lambda: SAEConfig(d_sae=256, k=20, steps=2000, learning_rate=3e-3, pre_bias="mean")
    )
    """Settings that all autoencoders share; variant and beta are each one's own."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    results: Path = Path("runs/shift/results.json")
    """JSON to write, table (.md) and picture (.png) beside it."""

    def __post_init__(self) -> None:
        check_options(self)
        require(
            min(self.hold_out_classes, default=0) >= 0,
            "hold_out_classes",
            self.hold_out_classes,
            "name labels, from 0.",
        )
        require_json(self.results)


def training_set(options: Shift, dataset: Dataset) -> Split:
    """The training images without the classes that are held out.

    Raises:
      ConfigError: no such class, fewer than two left, or fewer images than a batch.
    """
    held_out, n_classes = options.hold_out_classes, dataset.num_classes
    fix = f"{dataset.name} has the classes 0 to {n_classes - 1}."
    require(all(0 <= c < n_classes for c in held_out), "hold_out_classes", held_out, fix)
    train = without_classes(dataset.train, held_out)
    few = "leave at least two classes to train and probe on."
    require(len(np.unique(train.label)) > 1, "hold_out_classes", held_out, few)
    check_batch("sae", options.sae.batch_size, len(train.label), steps=options.sae.steps)
    return train


def note_of(options: Shift, train: Split, tests: Mapping[str, Split]) -> str:
    """What the numbers are of."""
    config = options.sae
    other = f" (another source: {len(tests[OTHER_SOURCE].label):,})" if OTHER_SOURCE in tests else ""
    return (
        f"{config.d_sae} units, {config.steps:,} steps of batch {config.batch_size}, {seeds_text(options.seeds)}; trained on "
        f"{len(train.label):,} images, tested on {len(tests[UNSHIFTED].label):,} test images under each shift{other}. A "
        f"feature lives where it is active in at least {LIVE:.1%} of the images. PCA has no seeds."
    )


def run(options: Shift) -> None:
    """Train, score, write and show."""
    console = Console()
    dataset = load(options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir)
    train = training_set(options, dataset)
    tests = shifted_sets(dataset, options.hold_out_classes)
    configs = {name: MODELS[name](options.sae, dataset.image_shape) for name in options.models}
    seeds = range(options.seed, options.seed + options.seeds)
    rows: list[Row] = []
    with busy(console, "starting") as say:
        for name, config in configs.items():
            scores = score_autoencoders(config, seeds, train, tests, prefixed(say, f"{name}: "))
            rows += rows_of(name, scores)
            console.print(f"{name}: done")
        for n in (options.sae.k, options.sae.d_sae):
            say(f"PCA of {n} components")
            rows += rows_of(f"PCA {n}", score_pca(n, train, tests))
    held = ", ".join(map(str, options.hold_out_classes))
    result = Result.here(
        f"autoencoders under shift, {dataset.name}" + (f", trained without classes {held}" if held else ""),
        experiment_command("shift"),
        rows,
        note=note_of(options, train, tests),
        config={name: to_json(config) for name, config in configs.items()},
    )
    path = options.results
    result.write(path, tables(result))
    shift_curves([row.to_json() for row in rows], path.with_suffix(".png"), title=result.name)
    console.print(Markdown(tables(result)))
    console.print(Text(f"{path}, its table and its picture are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Shift:
    """The command line as options."""
    return tyro.cli(Shift, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
