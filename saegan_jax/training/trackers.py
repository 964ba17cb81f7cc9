"""Experiment trackers: the numbers of a run in another package too, beside its own files; none is used unless it is named.

The package is imported only where it is asked for, and has the user's login, servers and offline mode by its own environment
variables. What fails before anything is compiled is refused; what fails later is said once, and the training goes on.
"""

import contextlib
import importlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from saegan_jax.errors import ConfigError, require_choice
from saegan_jax.files import write_json

NONE = "none"
IDENTITY = "tracker.json"
"""File of a run folder: under which id each tracker knows the run."""
PROJECT = "saegan_jax"


class Session(NamedTuple):
    """A tracked run.

    Attributes:
      log: ``log(values, step)``, numbers and pictures by name; of what has no step None.
      image: ``image(path)``, a PNG as a value of ``log``.
      alert: ``alert(title, text)``.
      finish: nothing is logged any more.
    """

    log: Callable[[dict[str, Any], int | None], Any]
    image: Callable[[str], Any]
    alert: Callable[[str, str], Any]
    finish: Callable[[], Any]


def _wandb(module: Any, name: str, run_id: str, config: dict[str, Any]) -> Session:
    run = module.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=run_id,
        name=name,
        config=config,
        resume="allow",
        settings=module.Settings(console="off", silent=True),  # the screen is that of the training
    )
    # Its own steps must grow, but every phase has steps of its own, and a resumed run logs some of them again.
    run.define_metric("*", step_metric="step")

    def log(values: dict[str, Any], step: int | None) -> None:
        run.log(values if step is None else {"step": step, **values})

    return Session(log, module.Image, lambda title, text: run.alert(title=title, text=text), run.finish)


def _trackio(module: Any, name: str, run_id: str, config: dict[str, Any]) -> Session:
    project = os.environ.get("TRACKIO_PROJECT", PROJECT)
    # It knows a run by its name.
    run = module.init(project=project, name=f"{name}-{run_id}", config=config, resume="allow", embed=False)
    return Session(
        lambda values, step: run.log(values, step=step),
        module.Image,
        lambda title, text: run.alert(title=title, text=text),
        run.finish,
    )


TRACKERS: dict[str, Callable[[Any, str, str, dict[str, Any]], Session]] = {"wandb": _wandb, "trackio": _trackio}
"""By the name of the package: ``start(module, name, run_id, config)``."""


def import_tracker(name: str) -> Any:
    """The package; None for no tracker.

    Raises:
      ConfigError: it is none that is known, or it is not installed.
    """
    require_choice("tracker", name, (NONE, *TRACKERS))
    if name == NONE:
        return None
    try:
        return importlib.import_module(name)
    except ImportError as error:
        fix = f"it needs the package {name} ({error}); pip install {name}, or leave --tracker out."
        raise ConfigError("tracker", name, fix) from None


def run_id(folder: Path, name: str) -> str:
    """The id that ``folder`` keeps for a tracker, or a new one."""
    try:
        return str(json.loads((folder / IDENTITY).read_text())[name])
    except (OSError, ValueError, KeyError, TypeError):  # a new run, or one that was not tracked before
        return secrets.token_hex(4)


class Tracked:
    """A run in a tracker; of a failure ``warn`` is told once, and no more is tracked.

    Values are numbers, or one number per seed.
    """

    def __init__(self, name: str, session: Session, identity: str, warn: Callable[[str], None]) -> None:
        self.name, self.identity = name, identity
        self._session: Session | None = session
        self._warn = warn

    def keep_id(self, folder: Path) -> None:
        """Write the id into the run folder, for a resumed run."""
        try:
            known = json.loads((folder / IDENTITY).read_text())
        except (OSError, ValueError):
            known = {}
        write_json(folder / IDENTITY, (known if isinstance(known, dict) else {}) | {self.name: self.identity})

    def scalars(self, phase: str, step: int, values: Mapping[str, float | list[float]]) -> None:
        """One row of the metrics."""
        self._try(lambda session: session.log(_by_seed(phase, values), step))

    def picture(self, phase: str, step: int, path: Path) -> None:
        """A picture of samples."""
        self._try(lambda session: session.log({f"{phase}/samples": session.image(str(path))}, step))

    def alarm(self, phase: str, event: Mapping[str, Any]) -> None:
        """A beginning of an alarm as an alert, and 1; its end as 0."""
        begins, member = event["state"] == "begins", event.get("member")
        of = "" if member is None else f", seed {member}"
        value = {f"{event['kind']}{'' if member is None else f'/seed_{member}'}": float(begins)}
        self._try(lambda session: session.log(_by_seed(f"{phase}-alarms", value), event["step"]))
        if begins:
            self._try(lambda session: session.alert(f"{phase}: {event['kind']}{of}", f"from step {event['step']}"))

    def table(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """The closing table: every row's value, or one per seed, and its floor where it has one."""
        values = {name: row["values"] if len(row["values"]) > 1 else row["values"][0] for name, row in rows.items()}
        floors = {f"{name} floor": row["floor"] for name, row in rows.items() if row["floor"] is not None}
        self._try(lambda session: session.log(_by_seed("result", values | floors), None))

    def finish(self) -> None:
        """The end of the run, or of this part of it."""
        self._try(lambda session: session.finish())
        self._session = None

    def _try(self, act: Callable[[Session], Any]) -> None:
        if self._session is None:
            return
        try:
            with contextlib.redirect_stdout(sys.stderr):  # where some of them talk: stdout is for the result
                act(self._session)
        except Exception as error:  # of a server, a disk, a network, a login: none is worth the training
            self._session = None
            said = " ".join(str(error).split())
            self._warn(f"{self.name} failed ({type(error).__name__}: {said}) and is left out; the training goes on.")


def _by_seed(prefix: str, values: Mapping[str, float | list[float]]) -> dict[str, float]:
    """``prefix/name``, or ``prefix/name/seed_i`` for each."""
    found: dict[str, float] = {}
    for name, value in values.items():
        several = {f"/seed_{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {"": value}
        found |= {f"{prefix}/{name}{suffix}": v for suffix, v in several.items()}
    return found


def start_tracking(name: str, folder: Path, config: dict[str, Any], warn: Callable[[str], None]) -> Tracked | None:
    """Begin, or go on with, the tracked run of a run folder; None for no tracker. Writes nothing into the folder.

    Raises:
      ConfigError: the tracker cannot be imported, or refuses, for instance for want of a login.
    """
    module = import_tracker(name)
    if module is None:
        return None
    identity = run_id(folder, name)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            session = TRACKERS[name](module, folder.resolve().name, identity, config)
    except Exception as error:  # a package of somebody else, which raises what it likes
        said = " ".join(str(error).split())
        fix = f"it cannot start ({type(error).__name__}: {said}); see to its login, use its offline mode, or leave it out."
        raise ConfigError("tracker", name, fix) from None
    return Tracked(name, session, identity, warn)
