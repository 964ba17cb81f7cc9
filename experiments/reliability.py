"""Prove by counts that nothing is lost and nothing is silent: trainings killed, stopped, damaged, poisoned, fuzzed, soaked."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax import signals
from saegan_jax.report.results import require_json
from saegan_jax.report.table import Result
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import experiment_command, main
from saegan_jax.runs.reliability import rows
from saegan_jax.runs.reliability.parts import PARTS, Asked
from saegan_jax.training.busy import busy

Part = Literal["kills", "damage", "non-finite", "fuzz", "soak"]


@dataclass(frozen=True, kw_only=True)
class Reliability(Asked):
    """Disturb tiny trainings of every system in one way, many times, and count what is lost or silent."""

    part: tyro.conf.Positional[Part]
    """kills: SIGKILL, SIGTERM and SIGINT at random moments. damage: files, disks, folders, two processes. non-finite: NaN and
    infinities in data, gradients, parameters. fuzz: settings and files drawn at random. soak: a long training."""
    results: Path | None = None
    """JSON to write, its Markdown beside it; by default runs/reliability_<part>.json."""

    def __post_init__(self) -> None:
        check_options(self)
        super().__post_init__()
        require_json(self.results)


def run(options: Reliability) -> None:
    """Disturb, count, write and show."""
    console = Console()
    signals.continue_with()  # the same command, from its beginning
    # Processes that are killed share no accelerator; this one has imported JAX and read the variable already.
    jax.config.update("jax_platforms", os.environ.setdefault("JAX_PLATFORMS", "cpu"))
    with busy(console, "the first training") as say:
        found = PARTS[options.part](options, say)
    extra = {"part": options.part, "note": found.note, "faults": rows.faults_of(found.things)}
    result = Result.here(f"reliability, {options.part}", experiment_command("reliability"), found.rows, **extra)
    path = options.results or Path("runs") / f"reliability_{options.part.replace('-', '_')}.json"
    result.write(path, rows.tables(result))
    console.print(Markdown(rows.tables(result)))
    console.print(Text(f"{path} and its table are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Reliability:
    """The command line as options."""
    return tyro.cli(Reliability, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
