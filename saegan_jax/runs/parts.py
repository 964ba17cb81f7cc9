"""Studies made in parts: a finished part is kept in a file, so that the same command continues after a stop."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from saegan_jax.errors import require
from saegan_jax.files import write_json


def kept_or_made(
    path: Path, asked: dict[str, Any], make: Callable[[], dict[str, Any]], console: Console
) -> dict[str, Any]:
    """What ``path`` holds, or what ``make`` gives, which is then written there beside the settings that it was ``asked`` with.

    Raises:
      ConfigError: a file of other settings.
    """
    if not path.exists():
        part = {"asked": asked, **make()}
        write_json(path, part)
        return part
    part = json.loads(path.read_text())
    fix = f"its {path.name} is of other settings; name another --out, or remove the file to make it again."
    require(part["asked"] == asked, "out", str(path.parent), fix)
    console.print(f"{path.stem}: kept from {path}", markup=False)
    return part
