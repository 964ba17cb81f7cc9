"""Trainings as processes of their own, forked from one that has imported everything and has not touched a device."""

import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from saegan_jax.runs.registry import TRAININGS

TIMEOUT = 300.0  # seconds after which a process counts as hung
POLL = 0.005  # seconds between two looks at a file

COMMON = "--log-every 5 --save-every 10 --picture-every 40 --no-evaluate"
SAE = "--sae.steps 80 --sae.d-sae 8 --sae.batch-size 16"
GAN = "--gan.steps 80 --gan.hidden 8 --gan.d-noise 4 --gan.batch-size 16"
CHEAP = "--gan.loss hinge --gan.r1-gamma 0 --gan.r2-gamma 0"
CYCLEGAN = (
    "--cyclegan.steps 40 --cyclegan.width 2 --cyclegan.stages 1 --cyclegan.blocks 1 --cyclegan.no-mixing "
    "--cyclegan.d-width 2 --cyclegan.d-stages 1 --cyclegan.batch-size 2 --cyclegan.history 4"
)
TINY: dict[str, tuple[str, ...]] = {
    "sae": (COMMON, SAE),
    "gan": (COMMON, GAN, CHEAP),
    "saegan": (COMMON, SAE, GAN, CHEAP),
    "energy": (COMMON, "--sae.d-sae 8 --gan.steps 80 --gan.hidden 8 --gan.d-noise 4 --gan.batch-size 16"),
    "vae": (COMMON, "--vae.steps 80 --vae.hidden 8 --vae.d-latent 4 --vae.batch-size 16"),
    "cyclegan": (COMMON, CYCLEGAN),
}
"""A training of every system that lasts a few seconds, most of which it compiles: options of ``saegan train``."""

TICKS: tuple[Any, ...] = ("xtick.bottom", "xtick.labelbottom", "ytick.left", "ytick.labelleft")
"""Left out of the pictures, of which they take most of the time."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["saegan_jax.runs.program", __name__, *(training.module for training in TRAININGS.values())]
)


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
      code: its exit code, negative after a signal that it did not handle; None where it had to be ended after a timeout.
      seconds: from its start, or from the signal that it was sent.
      text: what it wrote to stdout and stderr.
    """

    code: int | None
    seconds: float
    text: str


def tiny(system: str, *more: object) -> list[str]:
    """Options of a tiny training of ``system``; later ones win."""
    return [*" ".join(TINY[system]).split(), *map(str, more)]


def _command(system: str, arguments: Sequence[str], log: Path, cached: bool, nice: int, listening: Any) -> None:
    """What the process does: ``saegan train SYSTEM ARGUMENTS``, with all output in ``log``."""
    os.nice(nice)
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.argv = [f"saegan train {system}", *arguments]
    sys.orig_argv[:] = ["python", "saegan", "train", system, *arguments]
    from saegan_jax import signals

    signals.listen_while_importing()
    listening.set()
    import jax
    import matplotlib

    from saegan_jax.runs.program import main

    matplotlib.rcParams.update(dict.fromkeys(TICKS, False))

    jax.config.update("jax_enable_compilation_cache", cached)
    module = importlib.import_module(TRAININGS[system].module)
    main(lambda: module.run(module.parse_options(list(arguments))))


class Process:
    """A running ``saegan train``.

    Args:
      system: what to train.
      arguments: its options.
      log: file that takes what it writes; made anew.
      cached: may take compiled programs from JAX's cache.
      nice: how much others come first.
    """

    def __init__(self, system: str, arguments: Sequence[str], log: Path, *, cached: bool = True, nice: int = 0) -> None:
        log.write_bytes(b"")
        self.log = log
        listening = _CONTEXT.Event()
        job = (system, tuple(arguments), log, cached, nice, listening)
        self._process: BaseProcess = _CONTEXT.Process(target=_command, args=job)
        self._process.start()
        # Until its first line is run a process answers signals as the system does, and nothing can be lost.
        listening.wait(TIMEOUT)
        self._began = time.monotonic()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.exitcode is None

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    def text(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def wait_until(self, seconds: float) -> bool:
        """Wait until so many seconds after its start; whether it still runs."""
        self._process.join(max(0.0, self._began + seconds - time.monotonic()))
        return self.running

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self._began

    def wait_for(self, path: Path) -> bool:
        """Wait until it has made a file that is not empty; whether it still runs."""
        while self.running and not (path.exists() and path.stat().st_size):
            time.sleep(POLL)
        return self.running

    def end_by(self, number: int) -> Ended:
        """Send a signal, and wait for the end."""
        self._began = time.monotonic()
        if self.running:
            os.kill(self.pid, number)
        return self.wait()

    def wait(self) -> Ended:
        """Wait for the end; after :data:`TIMEOUT` it is made."""
        self._process.join(TIMEOUT)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
        return Ended(code, time.monotonic() - self._began, self.text())


def train(system: str, arguments: Sequence[str], log: Path) -> Ended:
    """Run ``saegan train`` to its end."""
    return Process(system, arguments, log).wait()
