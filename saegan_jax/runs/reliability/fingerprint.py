"""What a finished run left, as text that two equal runs share: arrays, metrics, alarms and the closing table."""

import json
from pathlib import Path
from typing import Any

from saegan_jax.runs.records import phases_of
from saegan_jax.training.checkpoint import read_checksum
from saegan_jax.training.writers import read_alarms, read_metrics

CLOCK = ("steps_per_second", "data_wait")
"""Fields of the metrics that depend on the time."""


def fingerprint(folder: Path) -> dict[str, Any]:
    """Checksums of the arrays of every phase's newest checkpoint as they are read back, rows, alarms and the closing table.

    Args:
      folder: of a finished run.

    Raises:
      ConfigError: metrics or alarms that cannot be read.
      OSError: no closing table.
    """
    rows = [{name: value for name, value in row.items() if name not in CLOCK} for row in read_metrics(folder)]
    return {
        "arrays": {phase: read_checksum(folder / "checkpoints" / phase) for phase in phases_of(folder)},
        "metrics": json.dumps(rows),
        "alarms": json.dumps(read_alarms(folder)),
        "summary": json.loads((folder / "summary.json").read_text())["rows"],
        "pictures": sorted(path.name for path in (folder / "samples").glob("*.png")),
    }


def differences(found: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    """Names of the parts in which two fingerprints differ."""
    return [name for name in whole if found.get(name) != whole[name]]
