"""Planted defects that the audit of generators should find: at which sample size, beside distances, and its false alarms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.data import Dataset, load
from saegan_jax.errors import require, require_choice
from saegan_jax.evaluation.audit import AuditSettings
from saegan_jax.evaluation.audit.benches import make_bench, run_trials
from saegan_jax.evaluation.audit.defects import DEFECTS, NULL, Trial
from saegan_jax.evaluation.features import FeatureNetwork, load_feature_network
from saegan_jax.report.audit_defects import defect_curves, rows_of, tables
from saegan_jax.report.results import require_json
from saegan_jax.report.table import Result
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.parts import kept_or_made
from saegan_jax.runs.program import experiment_command, main, prefixed
from saegan_jax.training.busy import busy
from saegan_jax.training.run_folder import to_json

ASKED = ("dataset", "defects", "sizes", "train", "pool", "draws", "splits")
"""Options that a seed's kept trials must share."""


@dataclass(frozen=True, kw_only=True)
class AuditDefects:
    """Plant known defects into real images, and count how often the audit and three metrics find them.

    Every seed trains an autoencoder on images of its own and draws reals and fakes from others. The metrics find a defect
    where they leave the interval that holds 95 % of their values between reals and reals, at the same sample size.
    """

    dataset: str = "mnist"
    """mnist, fashion_mnist, kmnist, digits, or any prepared image data set."""
    defects: tuple[str, ...] = ("a class dropped", "a class halved", "5 % copied", "a bar in 10 %")
    """Of saegan_jax.evaluation.audit.defects.DEFECTS."""
    sizes: tuple[int, ...] = (250, 500, 1000, 2000, 4000)
    """Numbers of reals, and of fakes."""
    train: int = 10_000
    """Images that each autoencoder is trained on."""
    pool: int = 20_000
    """Other images, from which reals and fakes are drawn."""
    seeds: int = 5
    """Autoencoders."""
    draws: int = 4
    """Trials of each defect, size and seed."""
    splits: int = 20
    """Comparisons of reals with reals, of each size and seed."""
    seed: int = 0
    """First seed."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    out: Path = Path("runs/audit_defects")
    """Folder of what each finished seed gave; the same command goes on from there."""
    results: Path = Path("runs/audit_defects/results.json")
    """JSON to write, table (.md) and picture (.png) beside it."""

    def __post_init__(self) -> None:
        check_options(self)
        for name in self.defects:
            require_choice("defects", name, tuple(DEFECTS))
        require(min(self.sizes) >= 100, "sizes", self.sizes, "an audit needs at least 100 images of each.")
        for name in ("train", "pool", "draws", "splits"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "it is a count of at least 1.")
        fix = f"reals and fakes of {max(self.sizes)} images each, of which a class is left out, need twice as many and more."
        require(self.pool >= 2.5 * max(self.sizes), "pool", self.pool, fix)
        require_json(self.results)


def asked_of(options: AuditDefects, seed: int) -> dict[str, Any]:
    """What a seed's kept trials were asked with, as JSON values."""
    values = {name: getattr(options, name) for name in ASKED}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()} | {"seed": seed}


def part_of(
    options: AuditDefects, dataset: Dataset, network: FeatureNetwork, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """All trials of one autoencoder, by size and defect."""
    bench = make_bench(
        dataset.train, network, options.defects, n_train=options.train, n_pool=options.pool, seed=seed, say=say
    )
    trials = {}
    for n in options.sizes:
        say(f"samples of {n}")
        counts = {NULL: options.splits} | dict.fromkeys(options.defects, options.draws)
        trials[str(n)] = {
            name: [one._asdict() for one in found] for name, found in run_trials(bench, counts, n=n, seed=seed).items()
        }
    return {"trials": trials, "sae": to_json(bench.trained.config)}


def run(options: AuditDefects) -> None:
    """Train, plant, count, write and show."""
    console = Console()
    dataset: Dataset = load(options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir)
    have = len(dataset.train.label)
    fix = f"{dataset.name} has {have} training images, and train={options.train} and pool={options.pool} want more."
    require(options.train + options.pool <= have, "pool", options.pool, fix)
    trials: dict[tuple[str, int], list[Trial]] = {}
    with busy(console, "the feature network") as tell:
        network = load_feature_network(dataset)
        for seed in range(options.seed, options.seed + options.seeds):
            say = prefixed(tell, f"seed {seed}: ")
            make = partial(part_of, options, dataset, network, seed, say)
            asked = asked_of(options, seed) | {"features": network.hash}
            part = kept_or_made(options.out / f"seed-{seed}.json", asked, make, console)
            for n, by_defect in part["trials"].items():
                for name, found in by_defect.items():
                    trials.setdefault((name, int(n)), []).extend(Trial(**one) for one in found)
    note = (
        f"{options.train:,} images train each of {options.seeds} autoencoders; reals and fakes are drawn from {options.pool:,} "
        f"others. {options.seeds * options.splits} comparisons of reals with reals and {options.seeds * options.draws} trials "
        "of each defect at each size; shares with their exact (Clopper-Pearson) 95 % interval, as if trials were independent."
    )
    result = Result.here(
        f"planted defects, {dataset.name}",
        experiment_command("audit_defects"),
        rows_of(trials),
        note=note,
        config={"sae": part["sae"], "audit": to_json(AuditSettings()), "features": network.hash},
    )
    result.write(options.results, tables(result))
    defect_curves(result.rows, options.results.with_suffix(".png"), title=result.name)
    console.print(Markdown(tables(result)))
    console.print(Text(f"{options.results}, its table and its picture are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> AuditDefects:
    """The command line as options."""
    return tyro.cli(AuditDefects, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
