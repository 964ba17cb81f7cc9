"""Which form of the same work is faster on this device: ``python -m benchmarks.forms --help``."""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from benchmarks.harness import results
from benchmarks.harness.errors import UnavailableError
from benchmarks.harness.machine import ACCELERATOR_SHAPES, CPU_SHAPES, xla_product
from benchmarks.harness.options import matching, parse
from benchmarks.harness.program.cost import cost
from benchmarks.harness.rows import Row, ratios, row, step_rows
from benchmarks.harness.session import Part, command, work_through
from benchmarks.harness.timing import Arm, Say, Timing, alternate
from benchmarks.workloads.forms import CONTRASTS, WORKS, Contrast
from benchmarks.workloads.planned import Planned
from benchmarks.workloads.selection import WIDTH, rows_here

PRODUCTS = "products"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Time forms of the same work by turns: convolutions, the choice of TopK, precisions, one seed against eight."""

    only: str = "*"
    """Shell pattern of the contrasts to time, for instance 'convolutions*'."""
    repeats: int = 5
    """Turns of each form."""
    seconds: float = 1.0
    """Least duration of one turn."""
    quick: bool = False
    """A smoke run: 2 turns of 0.05 s, one step a program."""
    out: Path | None = None
    """JSON to write, table and plot beside it; a complete run has benchmarks/results/forms_<device>.json."""


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """The command line as options.

    Raises:
      OptionError: a value that cannot be used.
    """
    quick = {"repeats": 2, "seconds": 0.05}
    return parse(Options, arguments, counts=("repeats",), numbers=("seconds",), quick=quick)


def rows_of(name: str, arms: Sequence[Arm], timings: Mapping[str, Timing], *, unit: str) -> list[Row]:
    """One row per form and metric; ratios pair the turns of one repeat with those of the first form."""
    first = arms[0].name
    against = [
        row(name, arm.name, "ratio", "times", ratios(timings, arm.name, first), against=first) for arm in arms[1:]
    ]
    return [*step_rows(name, arms, timings, unit=unit), *against]


def time_products(options: Options, say: Say) -> Part:
    """Matrix products at JAX's default precision, exactly in float32, and in bfloat16."""
    cpu = jax.default_backend() == "cpu"
    shapes = CPU_SHAPES[:1] if options.quick else CPU_SHAPES if cpu else ACCELERATOR_SHAPES
    kinds: tuple[tuple[str, str | None], ...] = (("float32", None), ("float32", "highest"), ("bfloat16", None))
    arms = [xla_product(shape, dtype, precision=precision) for shape in shapes for dtype, precision in kinds]
    timings = alternate(arms, repeats=options.repeats, seconds=options.seconds, say=say)
    return {"rows": step_rows(PRODUCTS, arms, timings, unit="products/s")}


def _arm(name: str, planned: Planned, *, steps: int) -> Arm:
    """A form, compiled.

    Raises:
      UnavailableError: it needs something trained.
    """
    if planned.program is None:
        raise UnavailableError(f"{name} cannot be run without something trained.")
    program = planned.program(steps=steps)
    whole = cost(program.compiled)
    return Arm(
        name,
        program.run,
        steps * planned.n_seeds,
        compile_s=program.compile_s,
        peak_bytes=None if whole is None else whole.peak_bytes,
        role="ours",
        members=planned.n_seeds,
    )


def time_contrast(
    name: str, contrast: Contrast, works: Mapping[str, Callable[[], Planned]], options: Options, say: Say
) -> Part:
    """Compile the forms of one contrast and time them by turns.

    Raises:
      UnavailableError: it is for accelerators.
    """
    cpu = jax.default_backend() == "cpu"
    if contrast.large and cpu:
        raise UnavailableError("it needs an accelerator: a step takes minutes on a CPU.")
    steps = 1 if options.quick or cpu else contrast.steps
    arms, skipped = [], []
    for form in contrast.works:
        say(f"compiling {form}")
        try:
            arms.append(_arm(form, works[form](), steps=steps))
        except jax.errors.JaxRuntimeError as error:  # too large, or not to be compiled for this device
            skipped.append({"work": name, "arm": form, "reason": _first_line(error)})
    try:
        timings = alternate(arms, repeats=options.repeats, seconds=options.seconds, say=say)
    except jax.errors.JaxRuntimeError as error:
        raise UnavailableError(_first_line(error)) from error
    return {"rows": rows_of(name, arms, timings, unit=contrast.unit) if arms else [], "skipped": skipped}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def run(
    options: Options,
    *,
    contrasts: Mapping[str, Contrast] = CONTRASTS,
    works: Mapping[str, Callable[[], Planned]] = WORKS,
) -> None:
    """Time the contrasts that the options ask for, and write what was found."""
    console = Console()
    config: Any = jax.config  # whose options JAX defines as it goes
    chosen = matching("--only", options.only, contrasts, also=[PRODUCTS])
    jobs = {name: partial(time_contrast, name, one, works, options) for name, one in chosen.items()}
    if fnmatch.fnmatch(PRODUCTS, options.only):
        jobs = {PRODUCTS: partial(time_products, options), **jobs}
    outcome = work_through(jobs, console)
    settings = {
        "repeats": options.repeats,
        "seconds": options.seconds,
        "precision": str(config.jax_default_matmul_precision or "default"),
        "chosen_among": [rows_here(), WIDTH],
        "quick": options.quick,
    }
    head = results.heading("Forms of the same work", "benchmarks.forms", report="forms", settings=settings)
    result = results.assemble(head, outcome, ("skipped",))
    whole = options == Options(out=options.out)
    results.deliver(result, outcome, console, out=options.out, name=results.default_name("forms"), whole=whole)


if __name__ == "__main__":
    command(lambda: run(parse_options()))
