"""Whether codes of MNIST and the enlarged digits agree where labels do, which concept consistency supposes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data.domains import load_domains
from saegan_jax.errors import require
from saegan_jax.report.labels import code_tables
from saegan_jax.report.results import require_json
from saegan_jax.report.table import Result, seeds_text
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import experiment_command, main
from saegan_jax.runs.shared_codes import KEYS, QUERIES, code_rows, encoders, pixel_rows, trained_members
from saegan_jax.runs.train.cyclegan import MNIST
from saegan_jax.training.run_folder import to_json


@dataclass(frozen=True, kw_only=True)
class SharedCodes:
    """Train autoencoders on both domains, and look for the nearest image of the other domain by its code."""

    seed: int = 0
    """First seed."""
    seeds: int = 3
    """Autoencoders of every arm."""
    sae: SAEConfig = field(default_factory=lambda: replace(MNIST.sae, steps=1500))
    """Settings of the autoencoders; of the dense ones k is d_sae, so that all positive units are kept."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    results: Path = Path("runs/shared_codes/results.json")
    """JSON to write, and a table (.md) beside it."""

    def __post_init__(self) -> None:
        check_options(self)
        fix = "half of it comes from each domain; make it even."
        require(self.sae.batch_size % 2 == 0, "sae.batch_size", self.sae.batch_size, fix)
        require(
            self.sae.patch_size == 0,
            "sae.patch_size",
            self.sae.patch_size,
            "one code an image is compared; set it to 0.",
        )
        require_json(self.results)


def run(options: SharedCodes) -> None:
    """Train, compare, write and show."""
    console = Console()
    domains = load_domains("mnist_digits", manual_dir=options.manual_dir, data_dir=options.data_dir)
    rows = pixel_rows(domains)
    for arm, (config, train) in encoders(options.sae).items():
        members = trained_members(config, domains, train=train, seed=options.seed, seeds=options.seeds)
        rows += code_rows(arm, config, members, domains)
        console.print(f"{arm}: done")
    note = (
        f"{seeds_text(options.seeds)}; autoencoders of {options.sae.steps:,} steps on images of both domains. A is MNIST, B "
        f"the enlarged digits. At most {QUERIES:,} validation images of one domain, {KEYS:,} training images of the other; "
        "cosine of codes centred in each domain. No labels are used but to score."
    )
    command, name = experiment_command("shared_codes"), "labels told across domains by codes, mnist_digits"
    result = Result.here(name, command, rows, note=note, config=to_json(options.sae))
    result.write(options.results, code_tables(result))
    console.print(Markdown(code_tables(result)))
    console.print(Text(f"{options.results} and its table are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> SharedCodes:
    """The command line as options."""
    return tyro.cli(SharedCodes, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
