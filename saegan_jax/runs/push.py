"""`saegan push`: the weights of a run in a plain folder with a model card, and on a model hub."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.text import Text

from saegan_jax.algorithms.base import cannot_sample
from saegan_jax.errors import require
from saegan_jax.files import write_bytes
from saegan_jax.report.card import Card, model_card
from saegan_jax.report.results import versions
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options, require_folder
from saegan_jax.runs.export import one_member, write_autoencoder
from saegan_jax.runs.hub import CARD, check_name, hub, upload
from saegan_jax.runs.records import complete_steps, read_scores, run_config
from saegan_jax.runs.restore import Restored, restore_run
from saegan_jax.training.generators import GENERATOR_CONFIG, export_generator
from saegan_jax.training.interchange import CONFIG_FILE
from saegan_jax.training.run_folder import flat

LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True, kw_only=True)
class Push:
    """Write the weights of a run into a plain folder, with a model card, for others to use; `--repo` uploads them too."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    out: Path
    """Folder to write; made if it does not exist."""
    part: Literal["auto", "sae", "generator"] = "auto"
    """The autoencoder, or the generator's averaged weights; auto is the generator where the run trained one."""
    step: int | None = None
    """Checkpoint to read; by default the newest complete one."""
    member: int = 0
    """Member of an ensemble, counted from 0."""
    licence: str = "unknown"
    """Licence of the weights, an identifier in small letters such as apache-2.0 or cc-by-4.0."""
    command: str | None = None
    """Command that trained the run, which the card repeats as it is given."""
    repo: str | None = None
    """Name on the model hub to upload to, OWNER/NAME; needs the extra `hub` and a login."""
    private: bool = True
    """A repository that is made by this command is seen by its owner alone."""
    overwrite: bool = False
    """Replace an export of the same part that is there."""

    def __post_init__(self) -> None:
        check_options(self)
        require_folder(self.out)
        fix = "it is an identifier of small letters, digits, '-' and '.', such as apache-2.0."
        require(LICENCE.fullmatch(self.licence) is not None, "licence", self.licence, fix)
        fix = "it is one line, the command that trained the run."
        require(self.command is None or self.command.isprintable(), "command", self.command, fix)
        if self.repo is not None:
            check_name("repo", self.repo)


def part_of(options: Push, restored: Restored) -> str:
    """``sae`` or ``generator``.

    Raises:
      ConfigError: a generator of a run that draws no samples.
    """
    # Others leave a generator, and some an autoencoder too.
    chosen = "sae" if restored.training.phase == "sae" else "generator"
    part = chosen if options.part == "auto" else options.part
    fix = "it draws no samples, so that there is no generator to share."
    require(part == "sae" or restored.algorithm.sample is not cannot_sample, "run", str(options.run), fix)
    return part


def write_part(options: Push, restored: Restored, part: str) -> str:
    """Write the weights; returns what they are in one phrase."""
    if part == "sae":
        config = write_autoencoder(
            options.run, options.out, restored, member=options.member, overwrite=options.overwrite
        )
        return f"{config.variant} sparse autoencoder of {config.d_sae} units"
    export_generator(
        options.out,
        restored.settings,
        one_member(restored, options.member),
        image_shape=restored.image_shape,
        n_classes=restored.n_classes,
        overwrite=options.overwrite,
    )
    return f"generator of a {type(restored.settings).__name__.removesuffix('Config')}, the weights that samples are drawn with"


def run(options: Push) -> None:
    """Restore, write, upload."""
    if options.repo is not None:
        hub("repo", options.repo)  # before anything is written
    config = run_config(options.run)
    restored = restore_run(options.run, step=options.step, member=options.member)
    *_, scored = complete_steps(options.run, restored.training.phase)
    scores = read_scores(options.run) if restored.step == scored else {}  # they are of the last step
    part = part_of(options, restored)
    other = GENERATOR_CONFIG if part == "sae" else CONFIG_FILE
    fix = f"it holds the other part of a run ({other}); name another folder."
    require(not (options.out / other).exists(), "out", str(options.out), fix)
    what = write_part(options, restored, part)
    card = Card(
        title=options.run.resolve().name,
        part=part,
        what=what,
        licence=options.licence,
        dataset=restored.options.dataset or str(config["options"].get("domains", "")),
        seed=restored.options.seed + options.member,
        member=options.member,
        members=restored.n_seeds,
        step=restored.step,
        shape=restored.image_shape,
        settings=flat(config["options"]),
        scores={name: vars(score) for name, score in scores.items()},
        trained_with=str(config.get("version", "unknown")),
        versions=versions("saegan_jax", "jax", "flax", "numpy"),
        command=options.command,
    )
    write_bytes(options.out / CARD, model_card(card).encode())
    console = Console()
    console.print(Text(f"{options.out}: {what}, step {restored.step}, and its card {CARD}"), soft_wrap=True)
    if options.repo is not None:
        upload(options.out, options.repo, private=options.private)
        console.print(Text(f"uploaded to {options.repo}"), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Push:
    """The command line as options."""
    return read_options(Push, arguments)
