"""`saegan pull`: weights from a model hub in a plain folder."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.text import Text

from saegan_jax.errors import ConfigError, require
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.hub import check_name, download, hub
from saegan_jax.training.pretrained import from_pretrained


@dataclass(frozen=True, kw_only=True)
class Pull:
    """Download what `saegan push --repo` uploaded, or an autoencoder of SAELens, and see that it can be read."""

    name: tyro.conf.Positional[str]
    """Name on the model hub, OWNER/NAME."""
    out: Path
    """Folder to write; new or empty."""

    def __post_init__(self) -> None:
        check_options(self)
        check_name("name", self.name)


def run(options: Pull) -> None:
    """Download, read."""
    empty = not options.out.exists() or (options.out.is_dir() and not any(options.out.iterdir()))
    require(empty, "out", str(options.out), "it is there and not empty; name a new folder.")
    hub("name", options.name)  # before anything is written
    out = options.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        # Whole before it has its name: half of it would be in the way of the next try.
        downloaded = Path(folder) / "weights"
        download(options.name, downloaded)
        try:
            model = from_pretrained(downloaded)
        except ConfigError as error:
            raise ConfigError("name", options.name, error.fix) from None
        if out.exists():
            out.rmdir()
        downloaded.rename(out)
    shape = "x".join(map(str, model.image_shape))
    Console().print(Text(f"{options.out}: {type(model).__name__} of {shape}, from {options.name}"), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Pull:
    """The command line as options."""
    return read_options(Pull, arguments)
