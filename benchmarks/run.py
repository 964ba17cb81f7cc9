"""Time training steps here and in other frameworks, by turns in one run: ``python -m benchmarks.run --help``."""

import contextlib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.harness import results, timing
from benchmarks.harness.changes import changes
from benchmarks.harness.machine import MATRIX_PRODUCTS, measure_machine, xla_product
from benchmarks.harness.options import matching, parse
from benchmarks.harness.program.cost import Machine
from benchmarks.harness.rows import Row, step_rows
from benchmarks.harness.session import Part, command, say_line, survey, work_through
from benchmarks.harness.timing import Say
from benchmarks.peers.checked import Checked, checked
from benchmarks.peers.registry import PEERS, not_installed, prepare, products
from benchmarks.workloads.images import images_for
from benchmarks.workloads.registry import WORKS
from benchmarks.workloads.work import Work, ours

PRODUCTS = "matrix_products"
LARGEST_DATA = 128 * 2**20  # bytes of uint8 images; peers keep float32 copies of them


@dataclass(frozen=True, kw_only=True)
class Options:
    """Time training steps here and in PyTorch, Keras and Flax, by turns in one run."""

    repeats: int = 10
    """Turns of each program."""
    seconds: float = 2.0
    """Least duration of one turn."""
    only: str = "*"
    """Shell pattern of the works to time, for instance 'sae*'."""
    quick: bool = False
    """A smoke run: 2 turns of 0.05 s, short scans, few images, no torch.compile."""
    peers: bool = True
    """Time PyTorch, Keras and a plain Flax loop, where installed."""
    seeds: int = 8
    """Members of the ensemble."""
    out: Path | None = None
    """JSON to write, table and plot beside it; a complete run has benchmarks/results/steps_<device>.json."""
    compare: Path | None = None
    """An earlier result; what changed since is printed."""
    table: Path | None = None
    """Time nothing; write table and plot of this JSON again."""

    @property
    def n_images(self) -> int:
        """uint8 images in memory, at most."""
        return 2_000 if self.quick else 55_000


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """The command line as options.

    Raises:
      OptionError: a value that cannot be used.
    """
    quick = {"repeats": 2, "seconds": 0.05}
    return parse(Options, arguments, counts=("repeats", "seeds"), numbers=("seconds",), quick=quick)


def time_products(options: Options, machine: Machine, say: Say) -> Part:
    """Matrix products in XLA and, where installed, in PyTorch."""
    rows: list[Row] = []
    for shape in MATRIX_PRODUCTS:
        arms = [xla_product(shape), *(products(shape) if options.peers else ())]
        timings = timing.alternate(arms, repeats=options.repeats, seconds=options.seconds, say=say)
        rows += step_rows(PRODUCTS, arms, timings, unit="products/s", machine=machine)
    return {"rows": rows}


def time_work(name: str, build: Callable[[], Work], options: Options, machine: Machine, say: Say) -> Part:
    """Check the peers of one work, compile ours, and time all by turns."""
    work = build()
    if options.quick:
        work = work._replace(chunk=max(1, work.chunk // 50))
    shape, batch_size = work.image_shape, work.batch_size
    pixels = images_for(shape, batch_size=batch_size, wanted=options.n_images, most_bytes=LARGEST_DATA)
    with contextlib.ExitStack() as closing:
        theirs = Checked([], [], [], [])
        if options.peers:
            theirs = checked(work, pixels, say, quick=options.quick, closing=closing)
        say("compiling ours")
        arms = [*ours(work, pixels, seeds=options.seeds), *theirs.arms]
        timings = timing.alternate(arms, repeats=options.repeats, seconds=options.seconds, say=say)
    return {
        "rows": step_rows(name, arms, timings, unit="steps/s", batch_size=batch_size, machine=machine),
        "agreement": theirs.agreement,
        "not_compared": theirs.not_compared,
        "skipped": theirs.skipped,
        "images": [(name, len(pixels))],
    }


def _settings(options: Options, images: Sequence[tuple[str, int]]) -> dict[str, Any]:
    return {
        "repeats": options.repeats,
        "seconds": options.seconds,
        "n_images": options.n_images,
        "n_images_of": dict(images),
        "seeds": options.seeds,
        "quick": options.quick,
    }


def run(
    options: Options,
    *,
    works: Mapping[str, Callable[[], Work]] = WORKS,
    measure: Callable[..., Machine] = measure_machine,
) -> None:
    """Check, compile and time every work that the options ask for, and write what was found."""
    console = Console()
    if options.table is not None:
        results.rewrite("--table", options.table, console)
        return
    chosen = matching("--only", options.only, works, also=[PRODUCTS])
    old = None if options.compare is None else results.read_result("--compare", options.compare)
    absent = {name: why for name in PEERS if (why := not_installed(name))} if options.peers else {}
    for reason in dict.fromkeys(absent.values()):
        say_line(console, f"Left out: {reason}")
    if options.peers:
        prepare()
    machine = survey(options.seconds, console, measure)
    jobs = {name: partial(time_work, name, build, options, machine) for name, build in chosen.items()}
    if fnmatch.fnmatch(PRODUCTS, options.only):
        jobs = {PRODUCTS: partial(time_products, options, machine), **jobs}
    outcome = work_through(jobs, console)
    packages = (*results.PACKAGES, *(("torch", "keras", "tensorflow") if options.peers else ()))
    head = results.heading(
        "Training steps per second",
        "benchmarks.run",
        settings=_settings(options, outcome.parts.get("images", [])),
        machine=machine,
        packages=packages,
    )
    result = results.assemble(head, outcome, ("agreement", "not_compared", "skipped"))
    result["skipped"] = [{"work": "all", "arm": name, "reason": why} for name, why in absent.items()] + result[
        "skipped"
    ]
    since = None if old is None else changes(result, old)
    whole = options.only == "*" and options.peers and not options.quick
    name = results.default_name("steps")
    results.deliver(result, outcome, console, out=options.out, name=name, whole=whole, changes=since)


if __name__ == "__main__":
    command(lambda: run(parse_options()))
