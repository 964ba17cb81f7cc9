"""Whether the tests pass on every Python at hand, with the pinned and with the newest versions of what they need.

    python tests/matrix.py --pythons python3.11 python3.12 python3.13
    python tests/matrix.py --pythons python3.13 --with newest --tests tests/losses tests/metrics --workers 1

Each Python gets a fresh virtual environment, with ``constraints.txt`` or with the newest releases that it allows, and runs the
tests in it. ``tests/results/matrix.json`` keeps the newest outcome of each Python, set of versions and choice of tests, and is
written after each of them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tests" / "results" / "matrix.json"
WITH = ("pinned", "newest")
SHOWN = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
COUNTS = ("passed", "failed", "skipped")
SAY_VERSIONS = """
import json, platform, sys
from importlib import metadata
versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in sys.argv[1:]}
print(json.dumps(versions))
"""


def interpreter(name: str) -> str:
    """The path of a Python, given as such or as the name of a command.

    Raises:
      SystemExit: there is none.
    """
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"error: pythons: there is no {name!r}; give the path of an interpreter")
    return found


def environment(python: str, folder: Path, which: str) -> Path:
    """The Python of an environment in ``folder``, which is made where there is none."""
    inside = folder / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
        pins = ["-c", str(ROOT / "constraints.txt")] if which == "pinned" else []
        install = [inside, "-m", "pip", "install", "--quiet", *pins, "-e", f"{ROOT}[test]"]
        subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
    return inside


def versions(python: Path) -> dict[str, str]:
    """What an environment holds of :data:`SHOWN`."""
    program = [python, "-c", SAY_VERSIONS, *SHOWN]
    return json.loads(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


def outcome(report: Path) -> dict[str, Any]:
    """Counts and the names of what failed, from pytest's XML report."""
    cases = list(ET.parse(report).getroot().iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    names = sorted(f"{case.get('classname')}::{case.get('name')}" for case in failed)
    return {
        "passed": len(cases) - len(failed) - skipped, "failed": len(failed), "skipped": skipped, "failures": names
    }  # fmt: skip


def run_tests(python: Path, tests: Sequence[str], *, workers: str) -> dict[str, Any]:
    """Run tests of this tree in an environment."""
    with tempfile.TemporaryDirectory(prefix="matrix-") as name:
        report = Path(name) / "report.xml"
        program = [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-n",
            workers,
            f"--junitxml={report}",
            *tests,
        ]
        # The tree's own package, whatever the environment was made for.
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        start = time.perf_counter()
        done = subprocess.run(program, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths})
        seconds = round(time.perf_counter() - start)
        if not report.exists():
            raise SystemExit(f"error: pytest ended with {done.returncode} and left no report")
        return outcome(report) | {"seconds": seconds}


def table(results: Sequence[dict[str, Any]]) -> str:
    """The matrix as a Markdown table."""
    header = ["python", "versions", *SHOWN, "tests", *COUNTS]
    rows = [
        [r["versions"]["python"], r["with"], *(r["versions"][n] for n in SHOWN), r["tests"], *(r[n] for n in COUNTS)]
        for r in results
    ]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [header, ["---"] * len(header), *rows])


def kept(results: Sequence[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    """``results`` with ``new`` in the place of what had the same Python, set of versions and tests."""

    def place(result: dict[str, Any]) -> tuple[list[int], str, str]:
        return [int(part) for part in result["versions"]["python"].split(".")], result["with"], result["tests"]

    return sorted([*(r for r in results if place(r) != place(new)), new], key=place)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the environments, run the tests, write the matrix; returns how many tests failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", nargs="+", default=[sys.executable], help="commands or paths of interpreters")
    parser.add_argument("--with", nargs="+", dest="sets", choices=WITH, default=list(WITH), help="which versions")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="what pytest runs")
    parser.add_argument("--workers", default="auto", help="of pytest-xdist; 0 runs them in one process")
    parser.add_argument("--venvs", type=Path, help="keep the environments here, and use those that are here")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON to write")
    options = parser.parse_args(arguments)
    pythons = [interpreter(name) for name in options.pythons]
    results = json.loads(options.results.read_text()) if options.results.exists() else []
    failed = 0
    with ExitStack() as stack:
        folder = options.venvs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="venvs-")))
        for number, python in enumerate(pythons):
            for which in options.sets:
                # The number, since two interpreters may have one name.
                name = f"{number}-{which}" if options.venvs is None else f"{Path(python).resolve().parts[-3]}-{which}"
                inside = environment(python, folder / name, which)
                found = run_tests(inside, options.tests, workers=options.workers)
                result = {"versions": versions(inside), "with": which, "tests": " ".join(options.tests), **found}
                failed += found["failed"]
                results = kept(results, result)
                options.results.parent.mkdir(exist_ok=True)
                options.results.write_text(json.dumps(results, indent=1) + "\n")
                print(table(results), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
