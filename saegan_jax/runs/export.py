"""Write a trained sparse autoencoder as safetensors and cfg.json, which other tools read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.text import Text

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data.normalisation import Normalisation, from_json
from saegan_jax.data.registry import VECTORS
from saegan_jax.errors import ConfigError
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options, require_folder
from saegan_jax.runs.restore import Restored, autoencoder_of, restore_run
from saegan_jax.training.interchange import architecture, export_sae


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write the sparse autoencoder of a run of train_sae or train_saegan as sae_weights.safetensors and cfg.json."""

    run: Path
    """Run folder."""
    out: Path
    """Folder to write; made if it does not exist."""
    step: int | None = None
    """Checkpoint to read; by default the newest complete one."""
    member: int = 0
    """Member of an ensemble, counted from 0."""
    overwrite: bool = False
    """Replace an export that is there."""

    def __post_init__(self) -> None:
        check_options(self)
        require_folder(self.out)


def read_normalisation(run: Path, d: int) -> Normalisation:
    """That of a run on vectors of width ``d``."""
    try:
        stored = json.loads((run / "data.json").read_text())["normalisation"]
    except (OSError, ValueError, KeyError) as error:
        fix = f"its data.json, which holds the scale of its inputs, cannot be read ({type(error).__name__}: {error})."
        raise ConfigError("run", str(run), fix) from None
    return from_json(stored, d)


def write_autoencoder(run: Path, out: Path, restored: Restored, *, member: int, overwrite: bool) -> SAEConfig:
    """Write the autoencoder of one member of a restored run to ``out``; returns its settings.

    Raises:
      ConfigError: a run that leaves none; and what :func:`export_sae` refuses.
    """
    found = autoencoder_of(restored, one_member(restored, member))
    if found is None:
        what = type(restored.settings).__name__.removesuffix("Config")
        fix = f"it is a {what}, without a sparse autoencoder of its own to export; give a run of train_sae or train_saegan."
        raise ConfigError("run", str(run), fix)
    config, params = found
    vectors = restored.options.dataset.startswith(VECTORS)
    export_sae(
        out,
        config,
        params,
        image_shape=restored.image_shape,
        overwrite=overwrite,
        normalisation=read_normalisation(run, restored.image_shape[2]) if vectors else None,
    )
    return config


def one_member(restored: Restored, member: int) -> Any:
    """The state of one member of a run."""
    return jax.tree.map(lambda leaf: leaf[member], restored.state) if restored.n_seeds > 1 else restored.state


def run(options: Export) -> None:
    """Restore, export."""
    restored = restore_run(options.run, step=options.step, member=options.member)
    config = write_autoencoder(options.run, options.out, restored, member=options.member, overwrite=options.overwrite)
    what = f"{config.variant} autoencoder of {config.d_sae} units, step {restored.step}"
    text = f"{options.out}: {what}, architecture {architecture(config)!r}"
    Console().print(Text(text), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Export:
    """The command line as options."""
    return read_options(Export, arguments)
