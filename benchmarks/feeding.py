"""Claim: streaming from the host keeps at least 95 % of the on-device rate at 64x64x3 while compute-bound.

``python -m benchmarks.feeding`` times one training step by turns with its data on the device, streamed from a prepared data
set on disk (written once to a temporary folder, so that reading and decoding are real), and streamed from host memory; and
the reading alone. A small autoencoder's step is the hard case: it needs more images a second than a core can decode.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.harness import results
from benchmarks.harness.options import matching, parse
from benchmarks.harness.rows import Row, Rows, ratios, row
from benchmarks.harness.session import Part, command, work_through
from benchmarks.harness.timing import Say, Timing, alternate
from benchmarks.workloads.fed import CASES, DEVICE, Case, Notes, arms_of, prepare
from saegan_jax.data.stream import cpu_threads


@dataclass(frozen=True, kw_only=True)
class Options:
    """Time training steps whose data stream from the host against those whose data are on the device."""

    repeats: int = 5
    """Turns of each program."""
    seconds: float = 10.0
    """Least duration of one turn."""
    only: str = "*"
    """Shell pattern of the steps to time, for instance 'sae*'."""
    quick: bool = False
    """A smoke run: 2 turns of 0.2 s, short programs, few images."""
    out: Path | None = None
    """JSON to write; a complete run has benchmarks/results/feeding_<device>.json."""


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """The command line as options.

    Raises:
      OptionError: a value that cannot be used.
    """
    quick = {"repeats": 2, "seconds": 0.2}
    return parse(Options, arguments, counts=("repeats",), numbers=("seconds",), quick=quick)


def rows_of(work: str, case: Case, timings: Mapping[str, Timing], notes: Notes, repeats: int) -> list[Row]:
    """One row per arm and metric; ratios pair the turns of one repeat."""
    found = []
    for arm, (rates, others) in timings.items():
        rows = Rows(work, arm)
        rows.add("rate", "steps/s", rates)
        rows.add("images", "images/s", [rate * case.batch_size for rate in rates])
        if arm != DEVICE:
            rows.rows.append(row(work, arm, "ratio", "times", ratios(timings, arm, DEVICE), against=DEVICE))
        if arm in notes.waits:
            rows.add("data_wait", "share of the time", notes.waits[arm][-repeats:])
        rows.add("cpu", "CPU ms a step", [1e3 * used for used in notes.cpu[arm][-repeats:]])
        rows.add_load(others)
        found += rows.rows
    return found


def feed(name: str, build: Callable[[], Case], options: Options, n_images: int, say: Say) -> Part:
    """Prepare, compile and time one case."""
    case = build()
    if options.quick:
        case = case._replace(chunk=max(1, case.chunk // 10))
    with tempfile.TemporaryDirectory(prefix="feeding-") as folder:
        say(f"writing {n_images} images")
        source = prepare(case, n_images, Path(folder))
        kind = "PNG" if case.stored == "png" else "raw bytes"
        stored = f"{len(source):,} of {'x'.join(map(str, case.image_shape))} as {kind}"
        notes = Notes({}, {})
        say("compiling")
        arms = arms_of(case, source, notes)
        timings = alternate(arms, repeats=options.repeats, seconds=options.seconds, say=say)
    return {"rows": rows_of(name, case, timings, notes, options.repeats), "stored": [stored]}


def run(options: Options, *, cases: Mapping[str, Callable[[], Case]] = CASES, n_images: int | None = None) -> None:
    """Time the cases that the options ask for, on so many images, and write what was found."""
    console = Console()
    n_images = n_images or (512 if options.quick else 4096)
    chosen = matching("--only", options.only, cases)
    jobs = {name: partial(feed, name, build, options, n_images) for name, build in chosen.items()}
    outcome = work_through(jobs, console)
    settings = {
        "repeats": options.repeats,
        "seconds": options.seconds,
        "n_images": n_images,
        "threads": cpu_threads(),
        "stored": "; ".join(outcome.parts.get("stored", [])),
    }
    packages = ("jax", "jaxlib", "grain", "tensorflow-datasets", "array_record", "numpy", "pillow")
    head = results.heading(
        "Training fed from the host", "benchmarks.feeding", report="feeding", settings=settings, packages=packages
    )
    result = results.assemble(head, outcome)
    name = results.default_name("feeding")
    whole = options.only == "*" and not options.quick
    results.deliver(result, outcome, console, out=options.out, name=name, whole=whole)


if __name__ == "__main__":
    command(lambda: run(parse_options()))
