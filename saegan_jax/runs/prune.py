"""Deleting old checkpoints of runs that no process holds, and never one that the run may need."""

import importlib.util
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from saegan_jax.errors import ConfigError, require
from saegan_jax.runs.records import complete_steps, phases_of, run_config, size_of, size_text
from saegan_jax.runs.restore import check_checkpoint
from saegan_jax.training.run_folder import lock_run

CONDEMNED = ".deleted-"
"""Begins the name of a checkpoint that is being deleted: half of one must never be taken for a checkpoint."""


class Old(NamedTuple):
    """A checkpoint that is to be deleted, or what an interrupted deletion has left of one."""

    path: Path
    name: str
    size: int


class Plan(NamedTuple):
    """What of a run is deleted and what stays, as text."""

    run: Path
    old: tuple[Old, ...]
    kept: tuple[str, ...]


def plan(run: Path, *, keep: int) -> Plan:
    """The checkpoints of a run that are to be deleted: all but the newest ``keep`` complete ones of each phase.

    The newest one of a phase is read before, with its checksum. Where that fails all of the phase stay, since the run would
    go on from an older one.

    Raises:
      ConfigError: no run, or one that this version cannot read.
    """
    run_config(run)
    parent = run / "checkpoints"
    old = [Old(path, path.name, size_of(path)) for path in sorted(parent.glob(f"{CONDEMNED}*"))]
    kept: list[str] = []
    for phase in phases_of(run):
        steps = complete_steps(run, phase)
        outdated = steps[:-keep]
        reason = check_checkpoint(run, phase, steps[-1]) if outdated else ""
        if reason:
            outdated = []
            kept.append(f"all of {phase}, whose newest cannot be read ({reason})")
        else:
            kept += [f"{phase}/{step}" for step in steps[-keep:]]
        paths = [(parent / phase / str(step), f"{phase}/{step}") for step in outdated]
        old += [Old(path, name, size_of(path)) for path, name in paths]
    return Plan(run, tuple(old), tuple(kept))


def delete(old: Old) -> None:
    """Delete a checkpoint: renamed first, so that a kill in between leaves no half of it under its name."""
    path = old.path
    if not path.name.startswith(CONDEMNED):
        path = path.rename(path.parent.parent / f"{CONDEMNED}{path.parent.name}-{path.name}")
    shutil.rmtree(path)


def prune(runs: Sequence[Path], console: Console, *, keep: int, dry_run: bool) -> None:
    """Delete the old checkpoints of all runs, once it is known that none of them is in use; say what was deleted.

    Raises:
      ConfigError: one of them is no run, or a living process holds it; nothing has been deleted then.
    """
    fix = "this system has no file locks, so that a training in progress would not be noticed; delete them yourself."
    require(importlib.util.find_spec("fcntl") is not None, "runs", [str(run) for run in runs], fix)
    unique = list({run.resolve(): run for run in runs}.values())
    with ExitStack() as stack:
        for run in unique:
            run_config(run)
            hold(stack, run)
        for found in [plan(run, keep=keep) for run in unique]:
            freed = 0
            for old in found.old:
                if not dry_run:
                    delete(old)
                freed += old.size
            did = "would delete" if dry_run else "deleted"
            names = ", ".join(old.name for old in found.old)
            what = f"{did} {names} ({size_text(freed)})" if names else "nothing to delete"
            text = f"{found.run}: {what}; kept {', '.join(found.kept) or 'nothing, since there is no checkpoint'}"
            console.print(Text(text), soft_wrap=True)


def hold(stack: ExitStack, run: Path) -> None:
    """Keep every training out of a run until the stack is closed.

    Raises:
      ConfigError: one is in it.
    """
    try:
        stack.enter_context(lock_run(run))
    except ConfigError:
        fix = "a process is training in it; nothing was deleted. Wait for its end, or leave this run out."
        raise ConfigError("run", str(run), fix) from None
