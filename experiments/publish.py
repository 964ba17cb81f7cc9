"""Turn a finished run's summary into a published result: JSON with provenance, and the Markdown table made from it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from saegan_jax.errors import ConfigError, require
from saegan_jax.report.table import Result, Row, document, each, origin, pivot, present_name
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import main
from saegan_jax.training.run_folder import read_config


@dataclass(frozen=True, kw_only=True)
class Publish:
    """Write the closing table of a run as a result that can be committed."""

    run: Path
    """Run folder, of a finished run."""
    command: str
    """The command that made the run."""
    out: Path
    """JSON to write; its Markdown goes beside it."""

    def __post_init__(self) -> None:
        check_options(self)
        require(bool(self.command), "command", self.command, "give the command that made the run.")
        require(self.out.suffix == ".json", "out", str(self.out), "give it a name that ends in .json.")


def tables(result: Result) -> str:
    """One line for each measure."""
    n = len(result.rows[0].values)
    seeds = f"mean over {n} seeds [bootstrap 95 % interval]" if n > 1 else "one seed"
    columns = {"value": result.rows[0].arm, "unit": each("unit"), "beside": each("note")}
    table = pivot(result.rows, index="metric", corner="measure", columns=columns, by="arm")
    return document(f"{origin(result).removesuffix('.')}; {seeds}.", table)


def publish(options: Publish) -> None:
    """Read, convert, write."""
    config = read_config(options.run)
    try:
        rows = json.loads((options.run / "summary.json").read_text())["rows"]
    except FileNotFoundError:
        raise ConfigError("run", str(options.run), "it has no summary.json yet; let it finish first.") from None
    name = f"{config['script']} on {config['options']['dataset']}"
    published = [
        Row.of(
            config["script"], present_name(metric), row["values"],
            unit=row["unit"], floor=row["floor"], note=row["note"],
        )
        for metric, row in rows.items()
    ]  # fmt: skip
    result = Result.here(name, options.command, published, config=config["options"])
    result.write(options.out, tables(result))
    Console().print(Text(f"{options.out} and {options.out.with_suffix('.md').name}: {name}"), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Publish:
    """The command line as options."""
    return read_options(Publish, arguments)


if __name__ == "__main__":
    main(lambda: publish(parse_options()))
