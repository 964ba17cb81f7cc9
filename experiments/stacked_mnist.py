"""Stacked MNIST: of a thousand known modes, how many a GAN finds, and how evenly."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.markdown import Markdown

from saegan_jax import signals
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.data import Dataset, load
from saegan_jax.errors import require
from saegan_jax.evaluation.features import FeatureNetwork, load_feature_network
from saegan_jax.report.modes import STACKED_METRICS, tables
from saegan_jax.report.results import require_json
from saegan_jax.report.table import Result, Row
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.modes.case import Case, rows_of, train_case
from saegan_jax.runs.modes.stacked import PROTOCOLS, RECIPE, ProtocolName, stacked_case
from saegan_jax.runs.program import experiment_command, main
from saegan_jax.training.run_folder import to_json


@dataclass(frozen=True, kw_only=True)
class StackedMNIST:
    """Train a GAN on stacks of MNIST digits by published protocols, all seeds in one program, beside the published rows.

    A stopped command continues where it was. Each channel of a sample is classified by itself; a mode is a combination of
    classes and counts when at least one sample has it; the reverse KL is that of the modes against equal shares.
    """

    protocols: tuple[ProtocolName, ...] = ("quarter", "half")
    """quarter, half: Unrolled GAN's tiny networks. veegan: 128,000 fixed stacks, DCGAN. four: stacks of four, 10,000 modes. The
    latter two are for an accelerator, and have settings of their own."""
    gan: GANConfig = field(default_factory=lambda: RECIPE)
    """The GAN; network, widths and d_noise are the protocol's unless --own-networks."""
    own_networks: bool = False
    """Take network, widths and d_noise from --gan too; the rows are then no comparison with the published ones."""
    seed: int = 0
    """First seed."""
    seeds: int = 3
    """Members of each protocol, trained at once."""
    log_every: int = 250
    """Steps between two rows of metrics."""
    evaluate_every: int = 2000
    """Steps between two scores, pictures and checkpoints; a multiple of log_every."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    out: Path = Path("runs/stacked_mnist")
    """Folder of the runs, one a protocol."""
    results: Path | None = None
    """JSON to write, its Markdown beside it; by default results.json in --out."""

    def __post_init__(self) -> None:
        check_options(self)
        require(
            len(self.protocols) > 0, "protocols", self.protocols, f"name some of {', '.join(get_args(ProtocolName))}."
        )
        require(
            len({PROTOCOLS[name].networks["network"] for name in self.protocols}) == 1,
            "protocols",
            self.protocols,
            "the tiny networks and the DCGANs want different settings; name them in two commands.",
        )
        require(
            not self.gan.conditional, "gan.conditional", True, "modes are to be found, not asked for; leave it out."
        )
        require_json(self.results)


def case_of(options: StackedMNIST, name: ProtocolName, dataset: Dataset, network: FeatureNetwork) -> Case:
    """One protocol, its networks those that it fixes unless the options have their own."""
    config = options.gan if options.own_networks else replace(options.gan, **PROTOCOLS[name].networks)
    return stacked_case(name, config, dataset, network, seeds=options.seeds, folder=options.out / name)


def note_of(options: StackedMNIST, network: FeatureNetwork) -> str:
    """What the numbers are of."""
    protocols = {name: PROTOCOLS[name] for name in options.protocols}
    abouts = "; ".join(f"*{name}*: {one.about}, {one.samples:,} samples" for name, one in protocols.items())
    return (
        f"{abouts}. {options.seeds} seeds in one program, {options.gan.steps:,} steps of batch {options.gan.batch_size}; mean "
        f"[bootstrap 95 % interval over seeds]; classes by the MNIST classifier {network.hash[:8]}, accuracy "
        f"{network.accuracy:.4f}. *Best evaluation*: each seed's best value of each measure among its evaluations; the final "
        "state is the result."
    )


def run(options: StackedMNIST) -> None:
    """Train what is missing, then write and show the table."""
    console, seeds = Console(), options.seeds
    signals.continue_with()  # the same command; it resumes its trainings itself
    rows: list[Row] = []
    dataset = load("mnist", manual_dir=options.manual_dir, data_dir=options.data_dir)
    network = load_feature_network(dataset)
    for name in options.protocols:
        console.print(f"[bold]{name}")
        case = case_of(options, name, dataset, network)
        train_case(
            case, seed=options.seed, seeds=seeds, log_every=options.log_every, evaluate_every=options.evaluate_every
        )
        rows += rows_of(case, STACKED_METRICS)
    settings = {"gan": to_json(options.gan), "seeds": options.seeds, "own_networks": options.own_networks}
    note, command = note_of(options, network), experiment_command("stacked_mnist")
    result = Result.here("Stacked MNIST", command, rows, note=note, config=settings)
    result.write(options.results or options.out / "results.json", tables(result, STACKED_METRICS))
    console.print(Markdown(tables(result, STACKED_METRICS)))


def parse_options(arguments: Sequence[str] | None = None) -> StackedMNIST:
    """The command line as options; the GAN's defaults are those that suit the networks of the protocols."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--protocols", nargs="*", default=[])
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    chosen, _ = first.parse_known_args(arguments)
    known = [name for name in chosen.protocols if name in PROTOCOLS]  # an unknown one is tyro's to refuse
    recipe = PROTOCOLS[known[0]].recipe if known else RECIPE
    protocols = tuple(name for name, one in PROTOCOLS.items() if one.recipe == recipe)
    return read_options(StackedMNIST, arguments, default=StackedMNIST(protocols=protocols, gan=recipe))


if __name__ == "__main__":
    main(lambda: run(parse_options()))
