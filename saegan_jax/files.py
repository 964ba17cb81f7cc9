"""Files that are either the old version or the new one, never half of it, and JSON that every reader takes."""

import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

UNFINISHED = ".unfinished"
"""How the names of files end that are being written."""

NON_FINITE = "non_finite"
"""Field of a JSON object that names those of its numbers that were not finite, and says what they were."""


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an address such as ``gs://bucket/run``; a ``Path`` shortens it to ``gs:/bucket/run``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path)) is not None


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Whether the name of a path is text that checkpoints can be written under."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def why_not_writable(path: Path) -> str:
    """Why nothing can be written at ``path``, a file or a folder that need not be there; empty where it can."""
    # Those of os.path answer below a folder that may not be searched, where those of pathlib raise.
    above = path if os.path.isdir(path) else next(f for f in path.absolute().parents if os.path.lexists(f))
    if not os.path.isdir(above):
        return f"{above} is a file, and nothing can be written below it"
    if os.access(above, os.W_OK | os.X_OK) and (not os.path.exists(path) or os.access(path, os.W_OK)):
        return ""
    read_only = os.statvfs(above).f_flag & os.ST_RDONLY
    return f"{above} is on a read-only file system" if read_only else f"you may not write in {above}"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, or leave the old one in place."""
    _put(path, content, os.replace)


def create_json(path: Path, value: Any) -> bool:
    """Write a whole file of JSON unless there is one, which is left as it is; whether it was written.

    Of several processes that call it at once one creates the file.
    """
    try:
        _put(path, (to_text(value, indent=2) + "\n").encode(), _link)
    except FileExistsError:
        return False
    return True


def _link(temporary: str, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, where the last of several processes would win
        if path.exists():
            raise FileExistsError(str(path)) from None
        os.replace(temporary, path)


def _put(path: Path, content: bytes, place: Callable[[str, Path], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)  # mkstemp makes private files
        place(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def unfinished(folder: Path) -> list[Path]:
    """Files in ``folder`` that a process was killed in writing; those of a process that still writes look the same."""
    return [path for path in folder.iterdir() if path.name.startswith(".") and path.name.endswith(UNFINISHED)]


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; see :func:`write_bytes` and :func:`to_text`."""
    write_bytes(path, (to_text(value, indent=2) + "\n").encode())


def to_text(value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON, which has no NaN and no infinity: each is written as null.

    The field :data:`NON_FINITE` of the outermost object then maps its place to what it was, such as
    ``{"rows[2].loss": "nan"}``; :func:`from_text` puts it back.

    Raises:
      ValueError: a number that is not finite in a value that is no object, which cannot have such a field.
    """
    plain, found = separate_non_finite(value)
    if found and not isinstance(value, Mapping):
        places = ", ".join(f"{place or 'the value'} is {number}" for place, number in found.items())
        raise ValueError(f"{places}: JSON has no such number, and only an object can say so; write a dict.")
    return json.dumps(plain | {NON_FINITE: found} if found else plain, indent=indent, allow_nan=False)


def from_text(text: str | bytes) -> Any:
    """The value that :func:`to_text` wrote, numbers that are not finite among them; also that of other JSON.

    Raises:
      ValueError: no JSON.
    """
    value = json.loads(text)
    found = value.pop(NON_FINITE, None) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        return value
    return _replaced(value, lambda leaf, place: float(found[place]) if leaf is None and place in found else leaf)


def separate_non_finite(value: Any) -> tuple[Any, dict[str, str]]:
    """``value`` with None for every number that is not finite, and what those numbers were, by their place."""
    found: dict[str, str] = {}

    def leaf(number: Any, place: str) -> Any:
        if not isinstance(number, float) or math.isfinite(number):
            return number
        found[place] = str(float(number))
        return None

    return _replaced(value, leaf), found


def _replaced(value: Any, leaf: Callable[[Any, str], Any], place: str = "") -> Any:
    """Nested dicts, lists and tuples with ``leaf(value, place)`` for everything else; a place is like ``rows[2].loss``."""
    if isinstance(value, Mapping):
        return {key: _replaced(item, leaf, f"{place}.{key}" if place else str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(item, leaf, f"{place}[{i}]") for i, item in enumerate(value)]
    return leaf(value, place)
