"""Files with random damage, given to whatever reads files of others: no foreign traceback, no code, no write elsewhere."""

import gzip
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st
from PIL import Image

from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.data import idx
from saegan_jax.files import to_text
from saegan_jax.report.table import Result
from saegan_jax.runs.control import file_image
from saegan_jax.runs.reliability.fuzz_settings import examples, ours
from saegan_jax.runs.translate import read_images
from saegan_jax.training.interchange import CONFIG_FILE, WEIGHTS_FILE, export_sae, import_sae
from saegan_jax.training.run_folder import read_config
from saegan_jax.training.writers import read_metrics

FORBIDDEN = frozenset(
    {
        "pickle.find_class",
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "socket.connect",
        "ctypes.dlopen",
    }
)
"""What no file may bring about, by Python's audit events."""
CHANGING = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "shutil.move"})
WRITING = frozenset("wax+")


@dataclass(frozen=True, kw_only=True)
class Read:
    """One damaged file that was read.

    Attributes:
      kind: of file.
      outcome: ``taken`` or ``refused``.
      fault: what was wrong; empty where nothing was.
    """

    kind: str
    outcome: str
    fault: str


class _Watch:
    """Python's audit events while something is read; a hook cannot be taken away again."""

    def __init__(self) -> None:
        self.installed = self.watching = False
        self.seen: list[str] = []
        self.allowed = Path()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching:
            return
        if event in FORBIDDEN or (event in CHANGING and not self._inside(arguments[0])):
            self.seen.append(f"{event} {arguments[:1]}")
        elif event == "open" and WRITING & set(str(arguments[1] or "")) and not self._inside(arguments[0]):
            self.seen.append(f"writes {arguments[0]}")

    def _inside(self, path: Any) -> bool:
        if isinstance(path, int):
            return True
        compiled = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        allowed = [self.allowed, *([Path(compiled).absolute()] if compiled else [])]
        return any(Path(os.fsdecode(path)).absolute().is_relative_to(folder) for folder in allowed)


_WATCH = _Watch()


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """Yields what happens in the block that no file may bring about; writes in ``folder`` are allowed."""
    if not _WATCH.installed:
        sys.addaudithook(_WATCH)
        _WATCH.installed = True
    _WATCH.seen, _WATCH.allowed, _WATCH.watching = [], folder.absolute(), True
    try:
        yield _WATCH.seen
    finally:
        _WATCH.watching = False


def _idx_file() -> bytes:
    images = np.arange(4 * 28 * 28, dtype=np.uint8).reshape(4, 28, 28)
    header = bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in images.shape)
    return gzip.compress(header + images.tobytes(), mtime=0)


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def _arrays(compressed: bool) -> bytes:
    buffer = io.BytesIO()
    images = np.arange(128, dtype=np.uint8).reshape(2, 8, 8, 1)
    if compressed:
        np.savez_compressed(buffer, images=images)
    else:
        np.save(buffer, images)
    return buffer.getvalue()


def _exported(folder: Path) -> dict[str, bytes]:
    config = SAEConfig(d_sae=4, k=2, variant="topk")
    params = sae(config, image_shape=(2, 2, 1)).init(jax.random.key(0)).params
    export_sae(folder / "sound", config, params, image_shape=(2, 2, 1))
    return {name: (folder / "sound" / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE)}


@dataclass(frozen=True)
class Kind:
    """A kind of file: what a sound one holds, its name, and what reads it from a folder."""

    content: bytes
    name: str
    read: Callable[[Path], Any]
    beside: Mapping[str, bytes]


def kinds_of(folder: Path) -> dict[str, Kind]:
    """Every kind of file of others that is read; ``folder`` takes what they are made from."""
    sae_files, shape = _exported(folder), (8, 8, 1)
    result = {
        "name": "n", "command": "c", "commit": "none", "device": "d", "versions": {}, "rows": [{"arm": "a", "metric": "m"}],
    }  # fmt: skip
    config = json.dumps({"script": "sae", "options": {"seed": 0}}).encode()
    rows = "".join(to_text({"phase": "sae", "step": step, "loss": 0.5}) + "\n" for step in (5, 10)).encode()

    def plain(content: bytes, name: str, read: Callable[[Path], Any]) -> Kind:
        return Kind(content, name, read, {})

    return {
        "IDX": plain(_idx_file(), "x.gz", lambda f: idx.parse((f / "x.gz").read_bytes(), ndim=3, file="x.gz")),
        "PNG": plain(_png(), "x.png", lambda f: file_image(str(f / "x.png"), shape, "like")),
        "npy": plain(_arrays(False), "x.npy", lambda f: read_images(f / "x.npy", shape)),
        "npz": plain(_arrays(True), "x.npz", lambda f: read_images(f / "x.npz", shape)),
        "cfg.json": Kind(sae_files[CONFIG_FILE], CONFIG_FILE, import_sae, sae_files),
        "safetensors": Kind(sae_files[WEIGHTS_FILE], WEIGHTS_FILE, import_sae, sae_files),
        "config.json": plain(config, "config.json", read_config),
        "metrics.jsonl": plain(rows, "metrics.jsonl", read_metrics),
        "result": plain(json.dumps(result).encode(), "r.json", lambda f: Result.read(f / "r.json")),
    }


PICKLED = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."
"""A pickle that would run a command."""
SPECIAL = (b"", b"\x00" * 8, b"\xff" * 8, b"NaN", b"1e999", b"null", b"[]", b"{}", b"-1", PICKLED)


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """``content`` after up to three edits: a stretch replaced by other bytes, by special ones, or by nothing."""
    edit = st.tuples(
        st.integers(0, max(0, len(content) - 1)),
        st.integers(0, 16),
        st.one_of(st.sampled_from(SPECIAL), st.binary(max_size=8)),
    )
    whole = st.one_of(st.just(PICKLED), st.binary(max_size=64), st.integers(0, len(content)).map(lambda n: content[:n]))
    return st.one_of(st.lists(edit, min_size=1, max_size=3).map(lambda edits: _edited(content, edits)), whole)


def _edited(content: bytes, edits: Sequence[tuple[int, int, bytes]]) -> bytes:
    for place, length, new in edits:
        content = content[:place] + new + content[place + length :]
    return content


def judge(name: str, kind: Kind, content: bytes) -> Read:
    """Write the file into a folder of its own, and read it."""
    with tempfile.TemporaryDirectory(prefix="saegan-jax-file-") as made:
        folder = Path(made)
        for other, sound in kind.beside.items():
            (folder / other).write_bytes(sound)
        (folder / kind.name).write_bytes(content)
        outcome, fault = "taken", ""
        with watched(folder) as seen:
            try:
                kind.read(folder)
            except Exception as error:  # whatever comes: it is a finding unless it is an answer to the file
                outcome = "refused"
                fault = "" if ours(error) else f"{type(error).__name__}: {str(error)[:200]}"
    return Read(kind=name, outcome=outcome, fault="; ".join(filter(None, (fault, *seen))))


def draw_files(*, each: int, seed: int) -> Iterator[Read]:
    """``each`` damaged files of every kind, and the sound one first.

    Args:
      each: files of every kind.
      seed: of the draws.
    """
    with tempfile.TemporaryDirectory(prefix="saegan-jax-files-") as made:
        kinds = kinds_of(Path(made))
    for name, kind in kinds.items():
        sound = judge(name, kind, kind.content)
        yield sound if sound.outcome == "taken" else replace(sound, fault="a sound one is refused")
        for content in examples(damaged(kind.content), each, seed):
            yield judge(name, kind, content)
