"""What the options of every command have in common: local paths, possible seeds, nothing empty, and what fits the memory."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from saegan_jax.errors import require
from saegan_jax.files import is_remote, is_utf8, why_not_writable
from saegan_jax.training.memory import check_members
from saegan_jax.training.systems import abstract_system

MOST_SEEDS = 4096
"""Members of one program; more are a slip of the keyboard."""
WRITTEN = ("out", "results")
INTERVALS = ("log_every", "save_every", "picture_every", "evaluate_every")
COUNTED_FROM_0 = ("step", "member", "label", "layer")


def check_options(options: Any) -> None:
    """Check the fields of an options' dataclass by their names and types; its groups of settings check themselves.

    Raises:
      ConfigError: a path on another machine; a path to write that is the current folder, below a file, or where this user may
        not write; a text or list that is empty, where the default is not; a number that is not finite; a seed below 0 or beyond
        32 bits; no seeds or too many; an interval below 1; a step, member, label or layer below 0.
    """
    for field in dataclasses.fields(options):
        name, value = field.name, getattr(options, field.name)
        if isinstance(value, str | tuple):
            empty = not value or "" in value if isinstance(value, tuple) else not value
            other = "" if field.default is dataclasses.MISSING else ", or leave it out"
            require(not empty or field.default == value, name, value, f"it is empty; name one{other}.")
        for item in value if isinstance(value, tuple) else (value,):
            _check_item(name, item)
    seeds = getattr(options, "seeds", 1)
    require(1 <= seeds <= MOST_SEEDS, "seeds", seeds, f"train at least one and at most {MOST_SEEDS}.")
    seed = getattr(options, "seed", 0)
    require(0 <= seed < 2**31 - seeds, "seed", seed, "it must be a number from 0 to 2^31.")


def _check_item(name: str, value: Any) -> None:
    if isinstance(value, Path):
        fix = "files are read and written on this machine only; copy them here, or mount that storage and name its folder."
        require(not is_remote(value), name, str(value), fix)
        require(is_utf8(value), name, str(value), "its name is not UTF-8; rename it.")
        if name in WRITTEN:
            require(value != Path(), name, str(value), "it is the current folder; name another.")
            refused = why_not_writable(value)
            require(not refused, name, str(value), f"{refused}; name another place.")
    elif isinstance(value, float):
        require(math.isfinite(value), name, value, "it must be a finite number.")
    elif name in INTERVALS:
        require(value >= 1, name, value, "it must be at least one step.")
    elif name in COUNTED_FROM_0 and value is not None:
        require(value >= 0, name, value, "they are counted from 0.")


def require_writable(out: Path, *, suffix: str) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Raises:
      ConfigError: another ending than ``suffix``; a folder; a place below a file, or in a folder that must not be written.
    """
    require(out.suffix == suffix, "out", str(out), f"give it a name that ends in {suffix}.")
    require(not out.is_dir(), "out", str(out), f"it is a folder; name a file in it, such as {out / f'report{suffix}'}.")
    refused = why_not_writable(out)
    require(not refused, "out", str(out), f"{refused}; name another place.")


def require_folder(out: Path) -> None:
    """Refuse a file where a folder is to be written, before anything is computed for it."""
    require(not out.is_file(), "out", str(out), "it is a file; name a folder.")


def require_place(out: Path | None) -> None:
    """Refuse the current folder, into which an output that is not named goes, where nothing can be written into it."""
    refused = why_not_writable(Path()) if out is None else ""
    require(not refused, "out", "", f"{refused}; name it.")


def check_memory(
    settings: Any,
    *,
    image_shape: tuple[int, int, int],
    n_seeds: int,
    batch_size: int = 0,
    n_classes: int = 0,
    mesh: Mesh | None = None,
) -> None:
    """Refuse what is larger than the device's memory, before anything is written or compiled.

    Args:
      settings: of a system in the registry.
      image_shape: ``(height, width, channels)``.
      n_seeds: members.
      batch_size: the largest of the training's phases.
      n_classes: of the data.
      mesh: the devices that share it.

    Raises:
      ConfigError: it is larger; also an image size that the networks cannot make.
    """
    _, state = abstract_system(settings, image_shape=image_shape, n_seeds=1, n_classes=n_classes)
    batch = batch_size * math.prod(image_shape) * np.dtype(np.float32).itemsize
    check_members(
        type(settings).__name__, state, batch=batch, n_seeds=n_seeds, shares={} if mesh is None else mesh.shape
    )
