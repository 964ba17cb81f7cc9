"""What a run folder tells without restoring anything: what it trains, how far it is, and its headline scores."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saegan_jax.errors import ConfigError, require
from saegan_jax.files import from_text
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.stats import over_seeds
from saegan_jax.training.checkpoint import Checkpoints
from saegan_jax.training.run_folder import is_locked, read_config
from saegan_jax.training.writers import METRICS, read_alarms

HEADLINES = ("Frechet / floor", "memorisation", "SAE FVU", "SAE L0")
"""Rows of a closing table that a listing shows."""
DAMAGED = "-damaged-"  # in the names of folders with checkpoints that were set aside
TAIL = 1 << 16  # bytes at the end of the metrics in which the last row is looked for
AGES = (("d", 86400), ("h", 3600), ("min", 60))


@dataclass(frozen=True, kw_only=True)
class Score:
    """One row of a closing table.

    Attributes:
      values: one for every member.
      floor: what real data score; None where there is no such value.
      unit, note: as in the table.
    """

    values: tuple[float, ...]
    floor: float | None
    unit: str
    note: str

    def __str__(self) -> str:
        """The mean, of several members with its interval, and the floor."""
        found = over_seeds(self.values)
        interval = "" if found.low is None else f" [{found.low:.3g}, {found.high:.3g}]"
        return f"{found.mean:.3g}{interval}" + ("" if self.floor is None else f" (floor {self.floor:.3g})")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run.

    Attributes:
      folder: of the run.
      training: name of the training, as in ``saegan train NAME``.
      dataset: as in ``--dataset``; of a path its last part.
      state: ``finished`` (scored), ``running`` (a living process holds it), ``failed`` (no member is finite), ``trained`` (all
        steps are done, and the scores are missing), or ``stopped``.
      phase, step, steps: where the training is, which for one that does not run is where it goes on; ``steps`` is None where
        the configuration does not tell.
      scores: the closing table, by row; empty before the end.
      written: seconds since the epoch.
      size: bytes of all files.
    """

    folder: Path
    training: str
    dataset: str
    state: str
    phase: str
    step: int
    steps: int | None
    scores: dict[str, Score]
    written: float
    size: int


def run_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run folder.

    Raises:
      ConfigError: no run, or one whose ``config.json`` cannot be read.
    """
    config = read_config(folder)
    fix = "its config.json is not that of a run."
    require(isinstance(config.get("options"), dict) and "script" in config, "run", str(folder), fix)
    return config


def find_runs(root: Path) -> list[Path]:
    """Folders of runs below ``root``, or ``root`` itself, in order of their names; one whose configuration is damaged too.

    Raises:
      ConfigError: no such folder, or none below it.
    """
    require(root.is_dir(), "folder", str(root), "there is no such folder; name the one that holds your runs.")
    found: list[Path] = []
    for path, folders, files in os.walk(root):
        if "config.json" in files and _looks_like_run(Path(path), folders, files):
            found.append(Path(path))
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    fix = "there is no run in it or below it; name another folder, or begin one with `saegan train`."
    require(bool(found), "folder", str(root), fix)
    return found


def _looks_like_run(folder: Path, folders: list[str], files: list[str]) -> bool:
    """Other tools write files of this name too."""
    try:
        run_config(folder)
    except ConfigError:
        return "checkpoints" in folders or METRICS in files
    return True


def phases_of(folder: Path) -> list[str]:
    """Phases of which a run has a folder of checkpoints, the damaged ones left out."""
    parent = folder / "checkpoints"
    if not parent.is_dir():
        return []
    names = (path.name for path in parent.iterdir() if path.is_dir())
    return sorted(name for name in names if DAMAGED not in name and not name.startswith("."))


def complete_steps(folder: Path, phase: str) -> list[int]:
    """Steps of the complete checkpoints of a phase, oldest first."""
    if not (folder / "checkpoints" / phase).is_dir():
        return []
    with Checkpoints(folder / "checkpoints" / phase, read_only=True) as checkpoints:
        return checkpoints.steps


def size_of(folder: Path) -> int:
    """Bytes of all files below; what another process deletes meanwhile does not count."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                continue
    return total


def read_scores(folder: Path) -> dict[str, Score]:
    """The closing table of a run; empty where there is none yet.

    Raises:
      ConfigError: a damaged ``summary.json``.
    """
    return read_summary(folder).get("rows", {})


def read_summary(folder: Path) -> dict[str, Any]:
    """The ``summary.json`` of a run, its rows as :class:`Score`; empty where there is none yet.

    Raises:
      ConfigError: a damaged one.
    """
    path = folder / "summary.json"
    if not path.exists():
        return {}
    try:
        found = from_text(path.read_bytes())
        rows = {
            name: Score(values=tuple(row["values"]), floor=row["floor"], unit=row["unit"], note=row["note"])
            for name, row in found["rows"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fix = f"its summary.json is damaged ({type(error).__name__}: {error})."
        raise ConfigError("run", str(folder), fix) from None
    return {**found, "rows": rows}


def read_record(folder: Path) -> Record:
    """Everything that a listing shows of a run.

    Raises:
      ConfigError: no run, or one with a damaged file.
      OSError: a file may not be read, or the run is deleted meanwhile.
    """
    config = run_config(folder)
    scores, last = read_scores(folder), _last_row(folder / METRICS)
    training, options = str(config["script"]), config["options"]
    final = TRAININGS[training].phase if training in TRAININGS else ""
    phase = str(last.get("phase", "")).removesuffix("-scores") or final
    running, steps = is_locked(folder), _steps_of(options, phase)
    saved = complete_steps(folder, phase) if phase and not running else []
    step = int(last.get("step", 0)) if running else max(saved, default=0)
    at_end = phase == (final or phase) and step == steps
    failed = not running and not at_end and _has_failed(folder, int(options.get("seeds", 1)))
    # Of a run that was made longer the scores are those of the shorter one.
    ended = ("finished" if scores else "trained") if at_end else "failed" if failed else "stopped"
    others = [path for path in (folder / METRICS, folder / "summary.json") if path.exists()]
    return Record(
        folder=folder,
        training=training,
        dataset=_data_of(options),
        state="running" if running else ended,
        phase=phase,
        step=step,
        steps=steps,
        scores=scores,
        written=max(path.stat().st_mtime for path in (folder / "config.json", *others)),
        size=size_of(folder),
    )


def _data_of(options: dict[str, Any]) -> str:
    name = str(options.get("dataset") or options.get("domains") or "")
    kind, colon, path = name.partition(":")
    return f"{kind}:{Path(path).name}" if colon and "/" in path else name


def _steps_of(options: dict[str, Any], phase: str) -> int | None:
    """The length of a phase: its settings are those of the options, or of the system in them, that have its name."""
    for group in (options, *(value for value in options.values() if isinstance(value, dict))):
        settings = group.get(phase)
        if isinstance(settings, dict) and isinstance(settings.get("steps"), int):
            return settings["steps"]
    return None


def _has_failed(folder: Path, n_seeds: int) -> bool:
    """Whether of every member an alarm of numbers that are not finite has begun and not ended."""
    broken: set[tuple[str, int]] = set()
    for event in read_alarms(folder):
        if str(event["kind"]).startswith("non-finite"):
            change = broken.add if event["state"] == "begins" else broken.discard
            change((event["kind"], event["member"]))
    return len({member for _, member in broken}) >= n_seeds


def _last_row(path: Path) -> dict[str, Any]:
    """The last whole row of the metrics; empty where there is none."""
    if not path.exists():
        return {}
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            row = from_text(line)
        except ValueError:  # cut short by a kill
            continue
        if isinstance(row, dict) and "step" in row:
            return row
    return {}


def age(written: float, *, now: float | None = None) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = max(0.0, (time.time() if now is None else now) - written)
    for unit, length in AGES:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size_text(size: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
