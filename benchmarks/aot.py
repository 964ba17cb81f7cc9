"""What a step takes on TPUs that are not there, by their compiler: ``python -m benchmarks.aot --help``.

The times are estimates of the compiler's cost model, not timings.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from benchmarks.harness import results
from benchmarks.harness.errors import OptionError, UnavailableError
from benchmarks.harness.options import matching, require_count, require_out
from benchmarks.harness.rows import Rows
from benchmarks.harness.session import Part, command, work_through
from benchmarks.harness.timing import Say
from benchmarks.workloads.package import ConfigError, Forecast, compiler_versions, open_mesh, stay_on_host, topology
from benchmarks.workloads.planned import CASES, ONE, WORKS, Case, Planned

NAME = "aot_tpu"
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compile training steps for TPUs that are not there: do they fit, and what does the compiler expect of them?"""

    work: str = "*"
    """Shell pattern of the works to compile, for instance 'sae*'."""
    topology: str | None = None
    """A slice of TPUs such as v5e:2x4, v5p:2x2x1 or v6e:2x2; by default those of the published result."""
    mesh: str | None = None
    """Axes of the slice, as in data=8 or data=4,model=2; by default one chip, or those of the published result."""
    first: int | None = None
    """Of the published programs that match, only so many; each may take minutes to compile."""
    out: Path | None = None
    """JSON to write, its table beside it. Programs that it has already, of the same compiler and the same source, are not
    compiled again."""


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """The command line as options.

    Raises:
      OptionError: a value that cannot be used.
    """
    options = tyro.cli(Options, args=arguments)
    require_count(first=options.first)
    require_out(options.out)
    return options


def chosen_cases(options: Options, works: Mapping[str, Callable[[], Planned]], cases: Sequence[Case]) -> list[Case]:
    """The programs that the options ask for.

    Raises:
      OptionError: no work matches, or none of the published ones.
    """
    names = matching("--work", options.work, works)
    if options.topology is None and options.mesh is None:
        return [case for case in cases if case.work in names][: options.first]
    return [Case(name, options.topology or "v5e:2x4", options.mesh or ONE) for name in names]


def rows_of(case: Case, told: Forecast, *, seconds: float) -> list[dict[str, Any]]:
    """One row per metric of a program; of one that does not fit, that it does not."""
    rows = Rows(case.work, case.arm)
    if not told.too_large:
        rows.add("estimate", "ms a step, estimated", [told.ms])
        rows.add("share", "of the bfloat16 peak", [told.share])
        rows.add("flops", "GFLOP a step and chip", [told.flops / 1e9])
        rows.add("arguments", "MiB a chip", [told.arguments / MIB])
        rows.add("temporaries", "MiB a chip", [told.temporaries / MIB])
        rows.add("sent", "MiB a step and chip", [told.estimate.sent / MIB])
        rows.add("collectives", "a step", [sum(told.estimate.collectives.values())])
    rows.add("fits", "1 yes, 0 no", [float(not told.too_large)])
    rows.add("compile", "s", [seconds])
    return rows.rows


def compiled(case: Case, build: Callable[[], Planned], say: Say) -> Part:
    """One program's part of the result."""
    say("compiling")
    planned, began = build(), time.perf_counter()
    try:
        mesh = open_mesh(
            case.mesh,
            n_seeds=planned.n_seeds,
            batch_sizes={case.work: planned.batch_size},
            devices=topology("topology", case.slice),
        )
        told = planned.forecast(chip=case.slice.partition(":")[0], mesh=mesh)
    except ConfigError as error:
        raise UnavailableError(str(error)) from error
    notes = (f"does not fit: {told.too_large}",) if told.too_large else told.caveats
    return {
        "rows": rows_of(case, told, seconds=time.perf_counter() - began),
        "notes": [{"work": case.work, "arm": case.arm, "note": note} for note in notes],
    }


def source() -> str:
    """A hash of all modules that a program can be made from."""
    files = sorted([*(results.HERE.parent / "saegan_jax").rglob("*.py"), *(results.HERE / "workloads").glob("*.py")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def kept_parts(path: Path | None, versions: Mapping[str, str], code: str) -> dict[tuple[str, str], Part]:
    """By work and arm, what an earlier result of the same compiler and the same :func:`source` has.

    Raises:
      OptionError: another file is there.
    """
    if path is None or not path.exists():
        return {}
    old = results.read_result("--out", path)
    other = any(old["versions"].get(name) != number for name, number in versions.items())
    if other or old["settings"].get("source") != code:
        return {}
    arms = dict.fromkeys((row["work"], row["arm"]) for row in old["rows"])
    return {
        arm: {key: [one for one in old[key] if (one["work"], one["arm"]) == arm] for key in ("rows", "notes")}
        for arm in arms
    }


def run(
    options: Options,
    *,
    works: Mapping[str, Callable[[], Planned]] = WORKS,
    cases: Sequence[Case] = CASES,
) -> None:
    """Compile what the options ask for, and write what was found."""
    console, chosen = Console(), chosen_cases(options, works, cases)
    stay_on_host()
    try:
        topology("topology", options.topology or "v5e:2x4")
    except ConfigError as error:
        raise OptionError("--topology", error.value, error.fix) from error
    code = source()
    old = kept_parts(options.out, compiler_versions(), code)

    def job(case: Case) -> Callable[[Say], Part]:
        part = old.get((case.work, case.arm))
        return partial(compiled, case, works[case.work]) if part is None else lambda say: part

    outcome = work_through({f"{case.work}, {case.arm}": job(case) for case in chosen}, console)
    head = results.heading(
        "Training steps on TPUs, as compiled ahead of time",
        "benchmarks.aot",
        report="aot",
        settings={"estimated": True, "source": code},
        packages=(*results.PACKAGES, "libtpu"),
    )
    result = results.assemble(head, outcome, ("notes", "skipped"))
    whole = options == Options(out=options.out)
    results.deliver(result, outcome, console, out=options.out, name=NAME, whole=whole)


if __name__ == "__main__":
    command(lambda: run(parse_options()))
