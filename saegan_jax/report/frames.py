"""The pictures that a training left, in order, as data of a page."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saegan_jax.report.sprites import data_uri

_NAME = re.compile(r"(?:(?P<name>.+)-)?(?P<step>\d{7,})(?:-(?P<member>member\d+))?")
MOST = 60  # pictures of one series


def picture_series(folder: Path, *, most_bytes: int) -> list[dict[str, Any]]:
    """The pictures under ``folder``, by what they show, each series in order of the step.

    Args:
      folder: with files named ``<phase>-<step>.png``, ``<step>.png`` or ``<step>-member<i>.png``; others are left out.
      most_bytes: of all PNGs; of more, equally spaced ones are taken, the first and the last among them.

    Returns:
      ``[{"name", "left_out", "pictures": [{"step", "src"}]}]``.
    """
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.glob("*.png")):
        if match := _NAME.fullmatch(path.stem):
            name = " ".join(part for part in (match["name"], match["member"]) if part) or "samples"
            found.setdefault(name, {})[int(match["step"])] = path
    series = []
    for name, by_step in found.items():
        steps = sorted(by_step)
        kept = within([by_step[step].stat().st_size for step in steps], most=most_bytes // len(found))
        pictures = [{"step": steps[i], "src": data_uri(by_step[steps[i]].read_bytes())} for i in kept]
        series.append({"name": name, "left_out": len(steps) - len(kept), "pictures": pictures})
    return series


def within(sizes: Sequence[int], *, most: int) -> list[int]:
    """Which of pictures of these sizes to keep: as many equally spaced ones as fit, at most 60; the last one always."""
    for count in range(min(len(sizes), MOST), 1, -1):
        kept = [round(i * (len(sizes) - 1) / (count - 1)) for i in range(count)]
        if sum(sizes[i] for i in kept) <= most:
            return kept
    return [len(sizes) - 1] if sizes else []
