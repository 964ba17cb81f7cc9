"""A run folder and the configuration it belongs to."""

import dataclasses
import json
import os
import time
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from saegan_jax.errors import ConfigError, require
from saegan_jax.files import create_json, separate_non_finite, unfinished, why_not_writable
from saegan_jax.training.checkpoint import require_literal_path

Config = TypeVar("Config")
LOCK_ATTEMPTS, LOCK_PAUSE = 3, 0.05  # and seconds between two


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass of settings as plain JSON values.

    Raises:
      ConfigError: a setting that is not a finite number.
    """
    plain, bad = separate_non_finite(dataclasses.asdict(config))
    for name, value in bad.items():
        raise ConfigError(name, float(value), "it must be a finite number.")
    return json.loads(json.dumps(plain, allow_nan=False))


def from_json(kind: type[Config], values: dict[str, Any]) -> Config:
    """The dataclass of settings that :func:`to_json` wrote, validated again.

    Raises:
      ConfigError: a setting that ``kind`` does not have.
    """
    hints = typing.get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        require(name in hints, name, value, f"{kind.__name__} has no such setting; was it written by another version?")
        if dataclasses.is_dataclass(hints[name]):
            value = from_json(hints[name], value)
        arguments[name] = tuple(value) if isinstance(value, list) else value
    return kind(**arguments)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one dict, whose names are like ``options.gan.steps``."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a run folder.

    Raises:
      ConfigError: no such file, or one that is not JSON.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError("run", str(folder), "there is no config.json in it; give the folder of a run.") from None
    except ValueError as error:  # no JSON, or no text at all
        raise ConfigError("run", str(folder), f"its config.json is damaged ({error}).") from None
    require(isinstance(config, dict), "run", str(folder), "its config.json is not that of a run.")
    return config


class Longer(NamedTuple):
    """Whether a finished run may go on for more steps.

    Attributes:
      name: the setting that may grow, such as ``options.gan.steps``: the steps of the last phase.
      why_not: why it may not; empty where it may.
    """

    name: str
    why_not: str


def check_folder(folder: Path, config: dict[str, Any], *, resume: bool, longer: Longer | None = None) -> bool:
    """Refuse a folder that this configuration must not write to; writes nothing itself.

    Args:
      folder: of the run.
      config: its configuration.
      resume: continue the run that is there.
      longer: whether it may have been a shorter one; by default not.

    Returns:
      Whether the run that is there is the same but for fewer steps.

    Raises:
      ConfigError: it holds another configuration, or a run while ``resume`` is off, or none while it is on, or other files;
        or it cannot be written, or checkpoints could not be read back from such a path.
    """
    require_literal_path(folder)
    refused = why_not_writable(folder)
    require(not os.path.isfile(folder), "out", str(folder), "it is a file; name a folder.")
    require(not refused, "out", str(folder), f"{refused}; name another place.")
    # What a process was killed in writing before there was a run is nothing that could be lost.
    empty = not folder.exists() or (folder.is_dir() and len(list(folder.iterdir())) == len(unfinished(folder)))
    if empty:
        require(
            not resume, "resume", resume, f"{folder} holds no run to continue; leave --resume out, or name its --out."
        )
        return False
    require(
        (folder / "config.json").exists(), "out", str(folder), "it holds files that are no run; name another --out."
    )
    saved, wanted = flat(read_config(folder)), flat(config)
    # Another version of this package may continue a run; what it must share is the configuration.
    names = (saved.keys() | wanted.keys()) - {"version"}
    differences = [
        f"{name}: {saved.get(name, 'unset')!r} there, {wanted.get(name, 'unset')!r} here"
        for name in sorted(names, key=lambda name: (name.count("."), name))  # another script says it all: first
        if saved.get(name) != wanted.get(name)
    ]
    differing = [name for name in names if saved.get(name) != wanted.get(name)]
    grows = longer is not None and differing == [longer.name] and saved[longer.name] < wanted[longer.name]
    if differences and not (grows and longer is not None and not longer.why_not):
        shown = "; ".join(differences[:5]) + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
        fix = f"it holds a run of another configuration ({shown}). Name another --out."
        if all(name.endswith(".steps") for name in differing):
            reason = (
                longer.why_not if grows and longer is not None else "only the last phase of a run may become longer"
            )
            fix = (
                f"it holds a run of another length ({shown}), and it cannot go on to this one: {reason}. Name another --out, "
                "and train it whole."
            )
        raise ConfigError("out", str(folder), fix)
    require(
        resume, "out", str(folder), "it holds this run already; add --resume to continue it, or name another --out."
    )
    return grows


def open_folder(folder: Path, config: dict[str, Any]) -> None:
    """Make the folder and write its ``config.json``, unless it is there; of several processes at once one writes it."""
    create_json(folder / "config.json", config)


def tidy(folder: Path) -> None:
    """Remove files that a process was killed in writing; only for who holds the folder, see :func:`lock_run`."""
    for path in unfinished(folder):
        path.unlink(missing_ok=True)


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Keep an opened folder for this process while the block runs: two trainings in one would mix their checkpoints.

    A lock on ``config.json``, which the system releases however the process ends. Systems without such locks go without.

    Raises:
      ConfigError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / "config.json").open() as file:
        for attempt in range(LOCK_ATTEMPTS):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt + 1 == LOCK_ATTEMPTS:
                    fix = "another process is training in it; wait for its end, or name another --out."
                    raise ConfigError("out", str(folder), fix) from None
                time.sleep(LOCK_PAUSE)  # it may only be is_locked, which tests the lock for an instant
        yield


def is_locked(folder: Path) -> bool:
    """Whether a living process holds the run, see :func:`lock_run`; False where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return False
    with (folder / "config.json").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
