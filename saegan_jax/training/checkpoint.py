"""Orbax in one file: background saves of whole states, restored to the bit."""

import gc
import logging
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from saegan_jax.errors import ConfigError, require

# Orbax reports every save and load at level INFO through absl's logger, and each array it skips at WARNING.
logging.getLogger("absl").setLevel(logging.ERROR)


def layout(state: Any) -> dict[str, str]:
    """Path of every leaf -> its dtype and shape, as text: what two states must share to be interchangeable."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def layout_difference(saved: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """One line for every leaf in which two layouts differ."""
    lines = []
    for path in sorted(saved.keys() | wanted.keys()):
        have, want = saved.get(path, "nothing"), wanted.get(path, "nothing")
        if have != want:
            lines.append(f"{path}: the checkpoint has {have}, this configuration needs {want}")
    return lines


def abstract(state: Any) -> Any:
    """Shapes, dtypes and placements of ``state`` (arrays or shapes), on the default device where it has none."""
    default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def leaf(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None) or default)

    return jax.tree.map(leaf, state)


def checksum(state: Any) -> str:
    """CRC-32 of the bytes of all leaves in order, hexadecimal; Orbax keeps none of the arrays themselves."""
    crc = 0
    for leaf in jax.tree.leaves(state):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        crc = zlib.crc32(np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes(), crc)
    return f"{crc:08x}"


@contextmanager
def _quiet_reads() -> Iterator[None]:
    """Without a traceback for every array of a damaged checkpoint, from asyncio or the interpreter: one reason is enough."""
    logger, hook = logging.getLogger("asyncio"), sys.unraisablehook
    before, logger.disabled = logger.disabled, True
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        gc.collect()  # the tracebacks come when the failed reads are collected
        logger.disabled, sys.unraisablehook = before, hook


def _ignore_late_reads() -> None:
    """Let reads that were under way when another failed end without a word, whenever that is: their loop is closed."""
    hook: Any = sys.unraisablehook
    if getattr(hook, "ignores_late_reads", False):
        return

    def ignore(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    ignore.ignores_late_reads = True  # type: ignore[attr-defined]
    sys.unraisablehook = ignore


class Checkpoints:
    """The checkpoints of one training: the newest ``keep``, each the whole state and the run's configuration.

    A context manager: leaving it waits for the save in progress. Not for use from several threads. With ``read_only``
    it changes nothing on disk, not even what a training in progress has begun to write there.

    Raises:
      ConfigError: ``read_only`` and no such directory.
    """

    def __init__(self, directory: Path, *, keep: int = 2, read_only: bool = False) -> None:
        self.directory = directory.absolute()
        self.damaged: list[tuple[int, str]] = []
        fix = "there is no such folder, so nothing has been saved yet; train further, or name another run."
        require(not read_only or self.directory.is_dir(), "checkpoints", str(directory), fix)
        self._keep, self._read_only = keep, read_only
        self._open()

    def _open(self) -> None:
        self._checkpointer = ocp.training.Checkpointer(
            self.directory,
            preservation_policy=ocp.training.preservation_policies.LatestN(self._keep),
            cleanup_tmp_directories=not self._read_only,  # left by a kill, or being written by a training right now
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first."""
        return sorted(c.step for c in self._checkpointer.checkpoints)

    def save(self, step: int, state: Any, config: dict[str, Any]) -> None:
        """Save in the background; the state's buffers may be donated as soon as this returns."""
        record = {"run": config, "layout": layout(state), "crc32": checksum(state)}
        self._checkpointer.save_checkpointables_async(step, {"state": state, "config": record}, force=True)

    def restore(self, like: Any, *, step: int | None = None) -> tuple[int, Any] | None:
        """The newest checkpoint that can be read, or the one of ``step``; None where there is none.

        Args:
          like: a state of the same structure, arrays or ``jax.eval_shape``'s result; its shardings are the targets.
          step: take exactly this one.

        Returns:
          ``(step, state)``. Checkpoints that could not be read are listed in ``damaged``, with the reason, and left as
          they are.

        Raises:
          ConfigError: no such step, or a checkpoint of another architecture, with the list of differences.
        """
        steps = self.steps
        if step is not None and step not in steps:
            fix = f"{self.directory} holds steps {', '.join(map(str, steps)) or 'none'}; choose one of them."
            raise ConfigError("step", step, fix)
        for candidate in reversed(steps) if step is None else [step]:
            with _quiet_reads():
                try:
                    return candidate, self._load(candidate, like)
                except ConfigError:
                    raise
                except Exception as error:  # whatever a damaged folder makes Orbax raise: the older ones may be whole
                    self.damaged.append((candidate, _reason(error)))
            _ignore_late_reads()
        return None

    def _load(self, step: int, like: Any) -> Any:
        record = self._checkpointer.load_checkpointables(step, {"config": None})["config"]
        difference = layout_difference(record["layout"], layout(like))
        if difference:
            shown = "; ".join(difference[:4]) + (f"; and {len(difference) - 4} more" if len(difference) > 4 else "")
            fix = f"it is of another architecture ({shown}). Use the configuration it was trained with, or another folder."
            raise ConfigError("checkpoint", str(self.directory / str(step)), fix)
        state = self._checkpointer.load_checkpointables(step, {"state": abstract(like)})["state"]
        if checksum(state) != record["crc32"]:
            raise ValueError(f"its CRC-32 is {checksum(state)}, recorded is {record['crc32']}")
        return state

    def set_aside_damaged(self) -> None:
        """Rename the damaged checkpoints, contents untouched, so that the run can pass their steps again."""
        for step, _ in self.damaged:
            folder = self.directory / str(step)
            if folder.exists():
                aside = self.directory.parent / f"{self.directory.name}-damaged-{step}"
                number = 1
                while aside.exists():
                    number += 1
                    aside = self.directory.parent / f"{self.directory.name}-damaged-{step}-{number}"
                folder.rename(aside)
        if self.damaged:
            self._checkpointer.close()
            self._open()


def _reason(error: BaseException) -> str:
    """The root of what went wrong, on one line: Orbax wraps it in what it tried next."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
