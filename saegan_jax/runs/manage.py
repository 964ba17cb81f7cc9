"""`saegan runs`: list the runs below a folder, compare two of them, delete old checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from saegan_jax.errors import closest, require
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.listing import compare_runs, list_runs, listing_console
from saegan_jax.runs.program import program_name
from saegan_jax.runs.prune import prune


@dataclass(frozen=True, kw_only=True)
class ListRuns:
    """List the runs below a folder: training, data set, state, step, headline scores, age and size.

    Further actions: `saegan runs compare A B` and `saegan runs prune RUN...`, each with a --help of its own.
    """

    folder: tyro.conf.Positional[Path] = Path("runs")
    """Where to look; runs in subfolders are found too."""

    def __post_init__(self) -> None:
        check_options(self)

    def act(self, console: Console) -> None:
        """List."""
        list_runs(self.folder, console)


@dataclass(frozen=True, kw_only=True)
class CompareRuns:
    """Print the settings in which two runs differ, and their scores side by side."""

    run: tyro.conf.Positional[Path]
    """Run folder, A."""
    other: tyro.conf.Positional[Path]
    """Run folder, B."""

    def __post_init__(self) -> None:
        check_options(self)

    def act(self, console: Console) -> None:
        """Compare."""
        compare_runs(self.run, self.other, console)


@dataclass(frozen=True, kw_only=True)
class PruneRuns:
    """Delete old checkpoints of runs that no process holds; the newest one of each phase always stays."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders."""
    keep: int = 1
    """Complete checkpoints of each phase that stay, the newest ones."""
    dry_run: bool = False
    """Say what would be deleted, and delete nothing."""

    def __post_init__(self) -> None:
        check_options(self)
        require(self.keep >= 1, "keep", self.keep, "the newest checkpoint of a phase always stays; use 1 or more.")

    def act(self, console: Console) -> None:
        """Delete."""
        prune(self.runs, console, keep=self.keep, dry_run=self.dry_run)


ACTIONS: dict[str, type[CompareRuns] | type[PruneRuns]] = {"compare": CompareRuns, "prune": PruneRuns}
"""What the first word may ask for; without one of them the runs are listed."""


def run(options: ListRuns | CompareRuns | PruneRuns) -> None:
    """Do what is asked."""
    options.act(listing_console())


def parse_options(arguments: Sequence[str] | None = None) -> ListRuns | CompareRuns | PruneRuns:
    """The command line as options: the action first; without one the runs are listed."""
    words = list(arguments or ())
    if words and not words[0].startswith("-") and not Path(words[0]).exists():
        hint = "" if words[0] in ACTIONS else closest(words[0], ACTIONS)
        require(not hint, "action", words[0], f"{hint}It is no folder either, whose runs could be listed.")
    if words and words[0] in ACTIONS:
        return read_options(ACTIONS[words[0]], words[1:], program=f"{program_name()} {words[0]}")
    return read_options(ListRuns, words)
