"""Many sparse autoencoders in one vmapped program per variant: a table, a picture of the frontier, a recommendation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.data import Dataset, load
from saegan_jax.errors import require, require_choice
from saegan_jax.report import frontier
from saegan_jax.report.results import require_json
from saegan_jax.report.sweep import closing_table, recommend, rows_of, tables
from saegan_jax.report.table import Result
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.parts import kept_or_made
from saegan_jax.runs.program import experiment_command, main
from saegan_jax.runs.sweep import SWEEPABLE, Sweep, asked_of, members_of_variant, run_variant
from saegan_jax.training.phase import check_batch
from saegan_jax.training.sweep import SWEPT


@dataclass(frozen=True, kw_only=True)
class SweepSAE:
    """Train every combination of variant, rho, beta, k and learning rate with several seeds, all members of a variant in one
    vmapped program, and score them on held-out images.

    Finished variants are kept in --out, so that the same command continues after a stop. A member that diverges is shown as
    failed and harms no other. The recommendation is made on validation images, the table on test images.
    """

    dataset: str = "mnist"
    """mnist, fashion_mnist, kmnist, digits, or any prepared TFDS image data set."""
    variants: tuple[str, ...] = SWEEPABLE
    """Which to train: any of the default ones."""
    rho: tuple[float, ...] = ()
    """Values of rho for the variants that have it (kl, rate_kl); empty for each variant's own."""
    beta: tuple[float, ...] = ()
    """Values of beta (kl, rate_kl, l1, jumprelu, gated)."""
    k: tuple[int, ...] = ()
    """Values of k (topk, batch_topk, matryoshka)."""
    learning_rate: tuple[float, ...] = ()
    """Values of the learning rate (all variants); empty for each variant's own."""
    seed: int = 0
    """First seed."""
    seeds: int = 5
    """Seeds of every combination."""
    want_l0: float = 20.0
    """Active units per example that the recommendation aims at."""
    probe_images: int = 10_000
    """Training images whose codes the linear probe is fitted to; 0 leaves the probe out."""
    members_per_vmap: int | None = None
    """Members computed together; by default what fits the machine."""
    sae: SAEConfig = field(default_factory=lambda: SAEConfig(d_sae=256, steps=2000))
    """Settings that all members share; the sweep overrides variant, the swept ones, and what the variant needs (see
    --variant-defaults)."""
    variant_defaults: bool = True
    """Give each variant the pre-bias, AuxK, decoder norm and learning rate that suited it; off: --sae.* for all alike."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    out: Path | None = None
    """Folder of the sweep; by default runs/sweep-<dataset>."""
    results: Path | None = None
    """JSON to write, table (.md) and picture (.png) beside it; by default results.json in --out."""

    def __post_init__(self) -> None:
        for variant in self.variants:
            require_choice("variants", variant, SWEEPABLE)
        check_options(self)
        require(self.want_l0 > 0, "want_l0", self.want_l0, "it must be above zero.")
        require(self.probe_images >= 0, "probe_images", self.probe_images, "it must be zero or above.")
        at_least_one = self.members_per_vmap is None or self.members_per_vmap >= 1
        fix = "compute at least one member at a time."
        require(at_least_one, "members_per_vmap", self.members_per_vmap, fix)
        require_json(self.results)

    @property
    def sweep(self) -> Sweep:
        """What is swept."""
        shared = {f.name: getattr(self, f.name) for f in fields(Sweep) if f.name != "axes"}
        return Sweep(axes={name: getattr(self, name) for name in SWEPT}, **shared)


def note_of(options: SweepSAE, dataset: Dataset) -> str:
    """What the numbers are of."""
    config = options.sae
    interval = " [bootstrap 95 % interval over seeds]" if options.seeds > 1 else ""
    return (
        f"{config.d_sae} units, {config.steps:,} steps of batch {config.batch_size}, {options.seeds} "
        f"seed{'s' * (options.seeds > 1)}; test images; mean{interval}; dead: never active on the "
        f"{len(dataset.test.label):,} test images; probe: logistic regression on the codes of "
        f"{min(options.probe_images, len(dataset.train.label)):,} training images; FVU of active: from the codes that count as "
        "active alone; seed match: Hungarian, absolute cosine, of the dictionaries of two seeds; coherence: mean over units of "
        "the largest cosine to another."
    )


def result_of(options: SweepSAE, dataset: Dataset, parts: Sequence[Mapping[str, Any]]) -> Result:
    """The published result of all variants."""
    rows = [row for part in parts for row in part["rows"]]
    return Result.here(
        f"sparse autoencoders on {dataset.name}",
        experiment_command("sweep_sae"),
        rows_of(rows),
        note=note_of(options, dataset),
        recommendation=recommend(rows, options.want_l0),
        config={part["variant"]: part["config"] for part in parts},
        training_seconds={part["variant"]: part["training_seconds"] for part in parts},
    )


def run(options: SweepSAE) -> None:
    """Train what is missing, then write and show table, picture and recommendation."""
    console, sweep = Console(), options.sweep
    out = options.out or Path("runs") / f"sweep-{options.dataset}"
    dataset = load(options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir)
    check_batch("sae", options.sae.batch_size, len(dataset.train.label), steps=options.sae.steps)
    shape = dataset.image_shape
    members = {variant: members_of_variant(sweep, variant, shape) for variant in options.variants}
    for variant in options.variants:  # a bad setting of the last one is reported before the first is trained
        autoencoder(members[variant][0].config, image_shape=shape)
    parts = []
    for variant, some in members.items():
        make = partial(run_variant, sweep, some, dataset, console)
        parts.append(kept_or_made(out / f"{variant}.json", asked_of(sweep, some, dataset), make, console))
    result = result_of(options, dataset, parts)
    path = options.results or out / "results.json"
    result.write(path, tables(result))
    drawn = [row.to_json() for row in result.rows]
    frontier(drawn, path.with_suffix(".png"), title=f"{result.name}, {options.sae.d_sae} units")
    console.print(closing_table(result))
    console.print(result.extra["note"], result.extra["recommendation"], sep="\n", markup=False)
    console.print(Text(f"{path}, its table and its picture are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> SweepSAE:
    """The command line as options."""
    return read_options(SweepSAE, arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
