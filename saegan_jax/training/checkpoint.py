"""Orbax in one file: background saves of whole states, restored to the bit."""

import gc
import logging
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from saegan_jax.errors import ConfigError, require

# Orbax reports every save and load at level INFO through absl's logger, and each array it skips at WARNING.
logging.getLogger("absl").setLevel(logging.ERROR)


FORMAT = 1
"""Of what a checkpoint's record holds; one more whenever an older checkpoint can no longer be taken for a newer one."""

PATTERNS = "*?[\\"
"""Characters that Orbax and TensorStore do not take literally in the path of a checkpoint."""


def require_literal_path(folder: Path) -> None:
    """Raise :class:`ConfigError` for a folder from which checkpoints could not be read back.

    Orbax looks for the parts of a save with a glob of the whole path, in which ``[1]`` matches ``1``: it finds none, and
    reports a complete checkpoint without its arrays. TensorStore takes a backslash for a slash.
    """
    path = folder.absolute()
    bad = [character for character in PATTERNS if character in str(path)]
    fix = f"its path holds {' and '.join(bad)}, and checkpoints there could not be read again; name another folder."
    require(not bad, "out", str(path), fix)
    fix = "a folder named gs: is taken for a bucket of Google Cloud Storage; name another folder."
    require("gs:" not in path.parts, "out", str(path), fix)


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


def abstract(state: Any, *, on_host: bool = False) -> Any:
    """Shapes, dtypes and placements of ``state`` (arrays or shapes), on the default device where it has none.

    Args:
      state: a pytree.
      on_host: place everything in the host's memory instead, where JAX has it as a device.
    """
    try:
        device = jax.local_devices(backend="cpu" if on_host else None)[0]
    except RuntimeError:  # JAX was told to use the accelerator alone
        device, on_host = jax.local_devices()[0], False
    default = jax.sharding.SingleDeviceSharding(device)

    def leaf(x: Any) -> jax.ShapeDtypeStruct:
        sharding = default if on_host else getattr(x, "sharding", None) or default
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(leaf, state)


def checksum(state: Any) -> str:
    """CRC-32 of the bytes of all leaves in order, hexadecimal; Orbax keeps none of the arrays themselves."""
    crc = 0
    for leaf in jax.tree.leaves(state):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        crc = zlib.crc32(np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes(), crc)
    return f"{crc:08x}"


def read_checksum(directory: Path) -> tuple[int, str]:
    """Step of the newest checkpoint, and a CRC-32 of its arrays as they lie on disk, whatever they belong to.

    The arrays come in the order of their names there, so that it compares with others of this function alone.

    Raises:
      ConfigError: no such directory.
      ValueError: no checkpoint in it.
    """
    with Checkpoints(directory, read_only=True) as checkpoints:
        return checkpoints.newest_on_disk()


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
      ConfigError: ``read_only`` and no such directory; or one whose checkpoints could not be read back.
    """

    def __init__(self, directory: Path, *, keep: int = 2, read_only: bool = False) -> None:
        self.directory = directory.absolute()
        self.damaged: list[tuple[int, str]] = []
        fix = "there is no such folder, so nothing has been saved yet; train further, or name another run."
        require(not read_only or self.directory.is_dir(), "checkpoints", str(directory), fix)
        if not read_only:
            require_literal_path(directory)
        self._keep, self._read_only = keep, read_only
        self._readable = False  # whether a checkpoint has been read from here
        self._saving: Any = None
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
        self._close()

    def _close(self) -> None:
        try:
            self._finish_save()
        finally:
            self._checkpointer.close()

    def _finish_save(self) -> None:
        """Wait for the save in progress, which ends the thread and the event loop that Orbax gave it."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    @property
    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first."""
        return sorted(c.step for c in self._checkpointer.checkpoints)

    def newest_on_disk(self) -> tuple[int, str]:
        """See :func:`read_checksum`."""
        if not self.steps:
            raise ValueError(f"{self.directory} holds no complete checkpoint.")
        step = self.steps[-1]
        with _quiet_reads(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the arrays' own placement is taken: it is what is wanted
            return step, checksum(self._checkpointer.load_checkpointables(step, {"state": None})["state"])

    def save(self, step: int, state: Any, config: dict[str, Any]) -> None:
        """Save in the background; the state's buffers may be donated as soon as this returns.

        The first checkpoint of a training is read back before, so that one that cannot be read is not found days later.

        Raises:
          ConfigError: the first checkpoint cannot be read back.
        """
        self._finish_save()
        record = {
            "format": FORMAT, "step": step, "run": config, "layout": layout(state), "crc32": checksum(state),
        }  # fmt: skip
        self._saving = self._checkpointer.save_checkpointables_async(
            step, {"state": state, "config": record}, force=True
        )
        if not self._readable:
            self._finish_save()
            self._read_back(step, state)

    def _read_back(self, step: int, state: Any) -> None:
        """Read the first checkpoint: into the host's memory, since a second state may be too much for the device's."""
        with _quiet_reads(), suppress(Exception):
            self._load(step, state, on_host=True)
            return
        if self._attempt(step, state) is None:
            reason = self.damaged.pop()[1]
            fix = f"its first checkpoint, of step {step}, cannot be read back ({reason}); name another folder."
            raise ConfigError("checkpoints", str(self.directory), fix)

    def restore(self, like: Any, *, step: int | None = None) -> tuple[int, Any] | None:
        """The newest checkpoint that can be read, or the one of ``step``; None where there is none.

        Args:
          like: a state of the same structure, arrays or ``jax.eval_shape``'s result; its shardings are the targets.
          step: take exactly this one.

        Returns:
          ``(step, state)``. Checkpoints that could not be read are listed in ``damaged``, with the reason, and left as
          they are.

        Raises:
          ConfigError: no such step; a checkpoint of another architecture, with the list of differences, or of another
            version's format; or there are checkpoints and none of them can be read.
        """
        self._finish_save()
        steps, before = self.steps, len(self.damaged)
        if step is not None and step not in steps:
            fix = f"{self.directory} holds steps {', '.join(map(str, steps)) or 'none'}; choose one of them."
            raise ConfigError("step", step, fix)
        refusal: ConfigError | None = None
        for candidate in reversed(steps) if step is None else [step]:
            try:
                state = self._attempt(candidate, like)
            except ConfigError as error:
                # All checkpoints of a run are of one architecture: where an older one fits, this one's record is damaged.
                refusal, state = refusal or error, None
                self.damaged.append((candidate, f"its record does not fit the run: {error.fix}"))
            if state is not None:
                return candidate, state
        if refusal is not None:
            del self.damaged[before:]
            raise refusal
        tried = self.damaged[before:]
        if tried:  # never begin anew without a word where there was a training
            reasons = "; ".join(f"step {damaged}: {reason}" for damaged, reason in tried)
            what = "none of its checkpoints can" if step is None else "this checkpoint cannot"
            fix = f"{what} be read ({reasons}). It is left as it is; put back a copy, or name another folder to begin anew."
            raise ConfigError("checkpoints", str(self.directory), fix)
        return None

    def _attempt(self, step: int, like: Any) -> Any:
        """The state of ``step``, or None for a damaged one, which is noted."""
        with _quiet_reads():
            try:
                return self._load(step, like)
            except ConfigError:
                raise
            except Exception as error:  # whatever a damaged folder makes Orbax raise: the older ones may be whole
                self.damaged.append((step, _reason(error)))
        _ignore_late_reads()
        return None

    def _load(self, step: int, like: Any, *, on_host: bool = False) -> Any:
        record = self._checkpointer.load_checkpointables(step, {"config": None})["config"]
        self._check_format(step, int(record.get("format", 0)))
        if int(record["step"]) != step:
            raise ValueError(f"it is the checkpoint of step {record['step']}, in the folder of step {step}")
        difference = layout_difference(record["layout"], layout(like))
        if difference:
            shown = "; ".join(difference[:4]) + (f"; and {len(difference) - 4} more" if len(difference) > 4 else "")
            fix = f"it is of another architecture ({shown}). Use the configuration it was trained with, or another folder."
            raise ConfigError("checkpoint", str(self.directory / str(step)), fix)
        target = abstract(like, on_host=on_host)
        state = self._checkpointer.load_checkpointables(step, {"state": target})["state"]
        if checksum(state) != record["crc32"]:
            raise ValueError(f"its CRC-32 is {checksum(state)}, recorded is {record['crc32']}")
        self._readable = True
        return state

    def _check_format(self, step: int, found: int) -> None:
        age = "an older" if found < FORMAT else "a newer"
        fix = (
            f"written by {age} version (format {found}, this is format {FORMAT}); train again or use the version in its "
            "config.json."
        )
        require(found == FORMAT, "checkpoint", str(self.directory / str(step)), fix)

    def set_aside_damaged(self) -> None:
        """Rename the damaged checkpoints, contents untouched, so that the run can pass their steps again."""
        for step, _ in self.damaged:
            if (folder := self.directory / str(step)).exists():
                folder.rename(self._aside(step))
        if self.damaged:
            self._close()
            self._open()

    def _aside(self, step: int) -> Path:
        """A free name beside the directory."""
        aside, number = self.directory.parent / f"{self.directory.name}-damaged-{step}", 1
        while aside.exists():
            number += 1
            aside = self.directory.parent / f"{self.directory.name}-damaged-{step}-{number}"
        return aside


def _reason(error: BaseException) -> str:
    """The root of what went wrong, on one line: Orbax wraps it in what it tried next."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
