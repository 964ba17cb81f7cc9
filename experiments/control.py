"""How well a generator obeys its sparse code: codes read back, single units on and off, and what else changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.data import load
from saegan_jax.errors import require, require_positive
from saegan_jax.evaluation.control import decoder_alone, measure_control, read_codes
from saegan_jax.evaluation.features import load_feature_network
from saegan_jax.evaluation.sample_quality import sample_quality
from saegan_jax.report.control import rows_of, tables
from saegan_jax.report.results import require_json
from saegan_jax.report.table import Result, seeds_text
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.control import check_reads_codes
from saegan_jax.runs.program import experiment_command, main
from saegan_jax.runs.restore import Restored, restore_run
from saegan_jax.training.busy import busy
from saegan_jax.training.members import members_of


@dataclass(frozen=True, kw_only=True)
class Control:
    """Measure how well the generators of runs of `saegan train saegan` obey the sparse codes that they read.

    Codes are those of test images. Every run gets a row: run folders of several seeds are ensembles. A second row is of the
    autoencoder's own decoder, asked the same: more than that a generator cannot be expected to obey.
    """

    runs: tuple[Path, ...]
    """Run folders, of one data set."""
    units: int = 64
    """The most used units, each turned on and off."""
    codes: int = 250
    """Codes of test images in which each unit is turned on and off."""
    seed: int = 0
    """Of the noise."""
    manual_dir: Path | None = None
    """Folder with the data set's own files, where it has such."""
    data_dir: Path | None = None
    """Folder of TFDS."""
    results: Path = Path("runs/control/results.json")
    """JSON to write, and a table (.md) beside it."""

    def __post_init__(self) -> None:
        require(len(self.runs) > 0, "runs", self.runs, "give at least one run folder.")
        check_options(self)
        require_positive(units=self.units, codes=self.codes)
        require_json(self.results)


def measure_run(
    options: Control, algorithm: Algorithm, restored: Restored, dataset: Any, network: Any
) -> list[dict[str, float]]:
    """Scores of what ``algorithm`` draws with the state of every member of one run."""
    scores = []
    for state in members_of(restored.state, restored.n_seeds):
        measured = measure_control(
            algorithm,
            state,
            read_codes(algorithm, state, dataset.test.image),
            n_units=options.units,
            n_codes=options.codes,
            key=jax.random.key(options.seed),
        )
        effects = list(measured.effects.values())
        found, alone = (np.array([one.auc for one in of.values()]) for of in (measured.effects, measured.alone))
        scores.append(
            {
                "code_r2": measured.r2,
                "auc": float(found.mean()),
                "auc_above_0.9": float((found >= 0.9).mean()),
                "auc_alone": float(alone.mean()),
                "auc_alone_above_0.9": float((alone >= 0.9).mean()),
                "others": float(np.mean([effect.others for effect in effects])),
                "pixels": float(np.mean([effect.pixels for effect in effects])),
                "precision": float(sample_quality(network, measured.images, dataset)["precision"]),
            }
        )
    return scores


def run(options: Control) -> None:
    """Restore, measure, write and show."""
    console = Console()
    restored = {path.resolve().name: restore_run(path) for path in options.runs}
    for one, path in zip(restored.values(), options.runs, strict=True):
        check_reads_codes(one, path)
    names = {one.options.dataset for one in restored.values()}
    require(len(names) == 1, "runs", sorted(names), "they are of several data sets; measure one data set at a time.")
    dataset = load(names.pop(), manual_dir=options.manual_dir, data_dir=options.data_dir)
    with busy(console, "training the feature network, or opening the cached one") as say:
        network = load_feature_network(dataset)
        scores = {}
        for name, one in restored.items():
            say(f"turning units on and off: {name}")
            scores[name] = measure_run(options, one.algorithm, one, dataset, network)
            decoder = decoder_alone(one.algorithm, one.settings.sae, image_shape=one.image_shape)
            scores[f"{name}, decoder"] = measure_run(options, decoder, one, dataset, network)
    precision = sample_quality(network, dataset.validation.image.astype(np.float32) / 255, dataset)["precision"]
    note = (
        f"{seeds_text(max(len(members) for members in scores.values()))}; codes of {len(dataset.test.label):,} test images; "
        f"the {options.units} most used units, each on and off in {options.codes} of these codes with the same noise. "
        "Real images: validation images against test images."
    )
    result = Result.here(
        f"control of generators by sparse codes, {dataset.name}",
        experiment_command("control"),
        rows_of(scores, {"precision": float(precision)}),
        note=note,
        config={"units": options.units, "codes": options.codes, "features": network.hash},
    )
    result.write(options.results, tables(result))
    console.print(Markdown(tables(result)))
    console.print(Text(f"{options.results} and its table are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Control:
    """The command line as options."""
    return tyro.cli(Control, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
