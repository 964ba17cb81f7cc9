"""Where a published result was measured: commit, device, versions."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from saegan_jax.errors import require
from saegan_jax.files import write_bytes, write_json


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device() -> str:
    """The accelerator's name, or the processor's with the cores that may be used."""
    first = jax.devices()[0]
    if first.platform != "cpu":
        return f"{jax.device_count()} x {first.device_kind}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"CPU, {cores()} cores, {name}"


def commit(folder: Path) -> str:
    """The commit checked out in ``folder``, marked ``+changes`` where its files differ from it; "none" outside a checkout."""

    def git(*arguments: str) -> str:
        done = subprocess.run(("git", *arguments), cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--verify", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "none"


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of the installed ones among ``packages``."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def provenance(command: str) -> dict[str, Any]:
    """What a published result says of its origin: command, commit, device, versions."""
    return {
        "command": command,
        "commit": commit(Path(__file__).parent),
        "device": device(),
        "versions": versions("saegan_jax", "jax", "flax", "optax", "numpy"),
    }


def require_json(results: Path | None) -> None:
    """Refuse a name for a result that would not show what the file is; None is for a default.

    Raises:
      ConfigError: it does not end in ``.json``.
    """
    fix = "give it a name that ends in .json."
    require(results is None or results.suffix == ".json", "results", str(results), fix)


def write_result(path: Path, result: dict[str, Any], table: str) -> None:
    """Write a published result as JSON and, beside it, its Markdown."""
    write_json(path, result)
    write_bytes(path.with_suffix(".md"), table.encode())
