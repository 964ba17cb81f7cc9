"""How a step's cost grows with batch, width, dictionary and seeds, to the memory: ``python -m benchmarks.scaling --help``.

One axis at a time around the works that ``benchmarks.run`` times, ours only. Beside every measured time are the two floors of
:mod:`benchmarks.bounds`, which say what the time bends towards: while neither is near, a step pays for operations that run
below the machine's rates, mostly small ones; then its operations or its bytes hold it.
"""

import io
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import tyro
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks import measure
from benchmarks.bounds import RESULTS, Cost, Machine, Scanned, array_bytes, available_bytes, floors, measure_machine
from benchmarks.measure import Arm
from benchmarks.tables import BUSY, by_work, number, percent
from benchmarks.work import images
from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.gan import GANConfig, gan
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.report.results import commit, cores, device, versions, write_result
from saegan_jax.training.files import write_bytes

Axis = Literal["batch", "width", "d_sae", "seeds"]
AXES: tuple[Axis, ...] = ("batch", "width", "d_sae", "seeds")
SHAPE = (28, 28, 1)
SAE = SAEConfig(variant="kl", d_sae=128, decoder_norm=0.0, batch_size=256, steps=1_000_000)
TOPK = SAEConfig(variant="topk", d_sae=1024, k=25, decoder_norm=0.0, batch_size=256, steps=1_000_000)
DCGAN = GANConfig(
    network="dcgan", width=32, batch_size=64, loss="non_saturating", r1_gamma=0.0, r2_gamma=0.0, beta1=0.5
)
FREE_SHARE = 0.8  # of the free memory; what a program is predicted to take is without the allocator's own


class Point(NamedTuple):
    """One program: what trains, how many examples a step, how many seeds (None: one, without vmap), steps in a call."""

    algorithm: Algorithm
    batch_size: int
    members: int | None
    steps: int


class Series(NamedTuple):
    """One axis of one work.

    Attributes:
      name: as in the results.
      axis: what grows.
      values: of the axis, growing; no last one.
      point: the program at a value.
    """

    name: str
    axis: Axis
    values: Callable[[], Iterable[int]]
    point: Callable[[int], Point]


def _doubling(first: int, factor: int = 2) -> Callable[[], Iterable[int]]:
    return lambda: (first * factor**i for i in range(40))


def _steps(at_default: int, relative: float) -> int:
    """Steps in a call: fewer where each is larger."""
    return int(min(1000, max(1, at_default / relative)))


def _sae(config: SAEConfig, members: int | None = None, *, steps: int) -> Point:
    return Point(sae(config, image_shape=SHAPE), config.batch_size, members, steps)


def _gan(config: GANConfig, members: int | None = None, *, steps: int) -> Point:
    return Point(gan(config, image_shape=SHAPE), config.batch_size, members, steps)


SERIES = (
    Series(
        "SAE 784-128, batch",
        "batch",
        _doubling(8, 4),
        lambda v: _sae(replace(SAE, batch_size=v), steps=_steps(100, v / 256)),
    ),
    Series(
        "DCGAN 28x28 width 32, batch",
        "batch",
        _doubling(4),
        lambda v: _gan(replace(DCGAN, batch_size=v), steps=_steps(8, v / 64)),
    ),
    Series(
        "DCGAN 28x28 batch 64, width",
        "width",
        _doubling(4),
        lambda v: _gan(replace(DCGAN, width=v), steps=_steps(8, (v / 32) ** 2)),
    ),
    Series(
        "TopK SAE batch 256, d_sae",
        "d_sae",
        _doubling(64, 4),
        lambda v: _sae(replace(TOPK, d_sae=v), steps=_steps(12, v / 1024)),
    ),
    Series(
        "SAE 784-128 batch 256, seeds",
        "seeds",
        _doubling(1),
        lambda v: _sae(SAE, v if v > 1 else None, steps=_steps(100, v)),
    ),
    Series(
        "DCGAN 28x28 width 32 batch 64, seeds",
        "seeds",
        _doubling(1),
        lambda v: _gan(DCGAN, v if v > 1 else None, steps=_steps(8, v)),
    ),
)


class Measured(NamedTuple):
    """A point that ran: its program, what that costs a step, and the seconds that a call took."""

    value: int
    point: Point
    scan: Scanned
    cost: Cost | None
    seconds: float


def climb(
    series: Series,
    *,
    memory: float,
    budget: float,
    turn: float,
    repeats: int,
    most: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Measured], list[dict[str, Any]]]:
    """Compile and try one value after another until the next would not fit into the memory or the time.

    Args:
      series: what to grow.
      memory: bytes that a program may take; what it takes is predicted by XLA before it is run.
      budget: seconds for the series, compiling and timing together.
      turn: seconds of one turn.
      repeats: turns of each point.
      most: points, at most.
      say: told what is being done.

    Returns:
      The points that ran once, and the one that did not: ``work``, ``value``, ``predicted_bytes`` (or None), ``limit``
      (memory or time), ``reason``.
    """
    began = time.perf_counter()
    ran: list[Measured] = []
    reserved = 0.0  # of the budget, for the turns
    for value in series.values():
        if most is not None and len(ran) == most:
            return ran, []
        say(f"{series.name}: {value:,}")

        def stop(
            limit: str, reason: str, predicted: int | None = None, value: int = value
        ) -> tuple[list[Measured], list[Any]]:
            return ran, [
                {"work": series.name, "value": value, "predicted_bytes": predicted, "limit": limit, "reason": reason}
            ]

        left = budget - (time.perf_counter() - began) - reserved
        if left <= 0:
            return stop("time", f"the {budget:g} s for this series were used up")
        point = series.point(value)
        pixels = images(max(10_000, point.batch_size), SHAPE)
        scan = Scanned(point.algorithm, pixels, batch_size=point.batch_size, steps=point.steps, members=point.members)
        spent = scan.cost()
        if spent is not None and spent.peak_bytes > memory:
            gib = 2**30
            return stop(
                "memory",
                f"{spent.peak_bytes / gib:.3g} GiB predicted, {memory / gib:.3g} GiB allowed",
                spent.peak_bytes,
            )
        if ran and spent is not None and (last := ran[-1]).cost is not None and last.cost.flops > 0:
            calls = [
                s.flops * scanned.steps * scanned.members for s, scanned in ((spent, scan), (last.cost, last.scan))
            ]
            expected = last.seconds * calls[0] / calls[1]
            left = budget - (time.perf_counter() - began) - reserved
            if 2 * expected * (repeats + 1) > left:
                return stop(
                    "time",
                    f"{2 * expected * (repeats + 1):.3g} s predicted, {max(left, 0):.3g} s of the series' {budget:g} s left",
                    spent.peak_bytes,
                )
        try:
            scan.run(1)
            took = measure.stopwatch(lambda scan=scan: scan.run(1))[1]  # type: ignore[misc]
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            scan.release()
            return stop(
                "memory", "out of memory in spite of the prediction", None if spent is None else spent.peak_bytes
            )
        scan.release()
        ran.append(Measured(value, point, scan, spent, took))
        reserved += repeats * (max(turn, took) + took)
    return ran, []


def turns(
    measured: Sequence[Measured], *, repeats: int, seconds: float, say: Callable[[str], None] = lambda _: None
) -> list[measure.Timing]:
    """Time the points by turns, each with the memory to itself; one timing per point."""
    timings = [measure.Timing([], []) for _ in measured]
    for repeat in range(repeats):
        for one, timing in zip(measured, timings, strict=True):
            say(f"{one.value:,}: turn {repeat + 1} of {repeats}")
            arm = Arm(str(one.value), one.scan.run, one.scan.steps * one.scan.members)
            got = measure.alternate([arm], repeats=1, seconds=seconds)[arm.name]
            one.scan.release()
            timing.rates.extend(got.rates)
            timing.others.extend(got.others)
    return timings


def rows_of(series: Series, one: Measured, timing: measure.Timing, machine: Machine) -> list[dict[str, Any]]:
    """One row per metric of a point; its arm is the value of the axis."""
    rows: list[dict[str, Any]] = []

    def add(metric: str, unit: str, values: Sequence[float]) -> None:
        rows.append(
            {"work": series.name, "arm": str(one.value), "metric": metric, "unit": unit, **measure.summary(values)}
        )

    add("rate", "steps/s", timing.rates)
    add("images", "images/s", [rate * one.point.batch_size for rate in timing.rates])
    add("step", "ms a step", [1e3 / rate for rate in timing.rates])
    if one.cost is not None:
        compute_s, memory_s = floors(one.cost, machine)
        add("throughput", "GFLOP/s", [rate * one.cost.flops / 1e9 for rate in timing.rates])
        add("share", "of the product rate", [rate * compute_s for rate in timing.rates])
        add("floor_compute", "ms a step", [1e3 * compute_s])
        add("floor_memory", "ms a step", [1e3 * memory_s])
        add("flops", "MFLOP a step", [one.cost.flops / 1e6])
        add("peak_memory", "MiB", [one.cost.peak_bytes / 2**20])
    add("compile", "s", [one.scan.compile_s])
    if not any(map(math.isnan, timing.others)):
        add("other load", "cores", timing.others)
    return rows


def held_by(step: float, compute: float, memory: float) -> str:
    """What holds a step, by its time and its two floors: the larger floor, if it is at least half of the time."""
    if max(compute, memory) < step / 2:
        return "neither"
    if compute >= memory:
        return "operations"
    return "memory" if memory <= step else "memory, partly from a cache"


def markdown(result: Mapping[str, Any]) -> str:
    """The result as Markdown: one table per series."""
    settings, machine = result["settings"], result["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        f"# {result['name']}",
        "",
        f"`{result['command']}` on {result['device']}; {packages}; commit {result['commit']}.",
        f"{settings['repeats']} repeats by turns of at least {settings['seconds']} s; medians. Measured here: "
        f"{machine['flops_per_s'] / 1e9:,.4g} GFLOP/s in the best float32 matrix product, {machine['bytes_per_s'] / 1e9:.3g} "
        f"GB/s from and to memory (two arrays of {settings['array_bytes'] / 2**20:,.0f} MiB).",
        "",
        "Times are of one step of one seed. A step is held by the larger of its two floors where that is at least half of its "
        "time; where neither is, its operations run below both rates, for being small or of another kind than large products "
        "and copies: `python -m benchmarks.bounds` shows which.",
    ]
    titles = (
        "steps/s",
        "images/s",
        "ms a step",
        "GFLOP/s",
        "of the product rate",
        "floor: operations",
        "floor: memory",
    )
    for work, arms in by_work(result).items():
        axis = work.rsplit(", ", 1)[-1]
        heads = (axis, *titles, "peak, MiB", "held by")
        lines += ["", f"## {work}", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        for value, found in arms.items():
            median = {metric: row["median"] for metric, row in found.items()}
            cells = [number(median[m]) for m in ("rate", "images", "step")]
            if "share" in median:
                bounds = median["floor_compute"], median["floor_memory"]
                cells += [number(median["throughput"]), percent(median["share"]), *map(number, bounds)]
                cells += [number(median["peak_memory"]), held_by(median["step"], *bounds)]
            else:
                cells += [""] * 6
            lines.append(f"| {int(value):,} | " + " | ".join(cells) + " |")
        for row in result["not_run"]:
            if row["work"] == work:
                lines += ["", f"Not run: {axis} {row['value']:,}: {row['reason']}."]
    busy = max((row["median"] for row in result["rows"] if row["metric"] == "other load"), default=0.0)
    notes = ["The memory floor counts every byte that instructions read and write as coming from main memory."]
    if busy > BUSY:
        notes.append(f"**The machine was busy**: other processes used up to {busy:.2g} cores (median of a point).")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def figure(result: Mapping[str, Any], *, columns: int = 2) -> bytes:
    """A PNG with one panel per series: the time of a step and its two floors against the axis, both logarithmic."""
    works = by_work(result)
    columns = min(columns, max(1, len(works)))
    rows = math.ceil(len(works) / columns)
    drawing = Figure(figsize=(5.2 * columns, 3.4 * rows + 0.6), dpi=110, layout="constrained")
    for index, (work, arms) in enumerate(works.items()):
        axes = drawing.add_subplot(rows, columns, index + 1)

        def line(metric: str, arms: Mapping[str, Any] = arms) -> tuple[list[int], list[float]]:
            have = {int(value): found[metric]["median"] for value, found in arms.items() if metric in found}
            return list(have), list(have.values())

        step = {int(value): found["step"] for value, found in arms.items()}
        axes.plot(*line("floor_compute"), color="C3", linestyle="--", linewidth=1.2, label="floor: operations")
        axes.plot(*line("floor_memory"), color="C2", linestyle=":", linewidth=1.6, label="floor: memory")
        axes.plot(*line("step"), color="C0", marker="o", markersize=4, label="measured")
        axes.vlines(list(step), [r["low"] for r in step.values()], [r["high"] for r in step.values()], color="C0")
        beyond = [row for row in result["not_run"] if row["work"] == work and row["limit"] == "memory"]
        for row in beyond:
            axes.axvline(row["value"], color="0.5", linewidth=1.0)
            text = (
                "out of memory"
                if row["predicted_bytes"] is None
                else f"{row['predicted_bytes'] / 2**30:.3g} GiB: not run"
            )
            axes.text(
                row["value"], 0.02, text, rotation=90, fontsize=7, ha="right", transform=axes.get_xaxis_transform()
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        values = [*step, *(row["value"] for row in beyond)]
        axes.set_xticks(values, [f"{value:,}" for value in values], fontsize=7, rotation=45 if len(values) > 7 else 0)
        axes.minorticks_off()
        low, high = axes.get_ylim()
        nice = [m * 10.0**e for e in range(-9, 10) for m in ((1, 2, 5) if high / low < 200 else (1,))]
        ticks = [y for y in nice if low <= y <= high]
        axes.set_yticks(ticks, [f"{y:g}" for y in ticks])
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title(work, fontsize=9, loc="left", parse_math=False)
        axes.set_xlabel(work.rsplit(", ", 1)[-1], fontsize=8)
        axes.set_ylabel("ms a step (of one seed)", fontsize=8)
        axes.grid(alpha=0.25)
    if drawing.axes:
        handles, labels = drawing.axes[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    drawing.suptitle(f"{result['name']}, {result['device']}", fontsize=10, parse_math=False)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    return buffer.getvalue()


def main(
    *,
    axes: Annotated[tuple[Axis, ...], tyro.conf.arg(help="What to grow, one at a time.")] = AXES,
    repeats: Annotated[int, tyro.conf.arg(help="Turns of each point.")] = 3,
    seconds: Annotated[float, tyro.conf.arg(help="Least duration of one turn.")] = 0.3,
    budget: Annotated[
        float, tyro.conf.arg(help="Seconds for each series, compiling included; then it stops growing.")
    ] = 60.0,
    memory: Annotated[
        float | None, tyro.conf.arg(help="GiB that a program may take; by default 0.8 of what is free.")
    ] = None,
    quick: Annotated[bool, tyro.conf.arg(help="A smoke run: two points of each series, one turn of 0.02 s.")] = False,
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            help="JSON to write, table and picture beside it; a complete run has benchmarks/results/scaling_<device>.json."
        ),
    ] = None,
) -> None:
    """Measure how the cost of a step grows with batch, width, dictionary and number of seeds."""
    console = Console()
    if repeats < 1 or not seconds > 0 or not budget > 0 or not (memory is None or memory > 0) or not axes:
        sys.exit("--axes must name one, and --repeats, --seconds, --budget and --memory must be positive.")
    if quick:
        repeats, seconds = 1, 0.02
    rows: list[Any] = []
    not_run: list[Any] = []
    allowed = FREE_SHARE * available_bytes() if memory is None else memory * 2**30
    result: dict[str, Any] = {}
    with console.status("measuring the machine") as status:
        machine = measure_machine(20 * seconds, say=status.update)
        for series in SERIES:
            if series.axis not in axes:
                continue
            found, beyond = climb(
                series,
                memory=allowed,
                budget=budget,
                turn=1.5 * seconds,
                repeats=repeats,
                most=2 if quick else None,
                say=status.update,
            )
            for one, timing in zip(
                found, turns(found, repeats=repeats, seconds=seconds, say=status.update), strict=True
            ):
                rows += rows_of(series, one, timing, machine)
            not_run += beyond
            result = {
                "name": "Cost of a step as work grows",
                "report": "scaling",
                "command": f"python -m benchmarks.scaling {shlex.join(sys.argv[1:])}".strip(),
                "commit": commit(Path(__file__).parent),
                "device": device(),
                "versions": versions("jax", "jaxlib", "flax", "optax", "numpy"),
                "settings": {
                    "repeats": repeats, "seconds": seconds, "budget": budget, "memory_bytes": allowed, "threads": cores(),
                    "dtype": "float32", "quick": quick, "array_bytes": array_bytes(),
                },
                "machine": machine._asdict(),
                "not_run": not_run,
                "rows": rows,
            }  # fmt: skip
            if out is not None:  # a long run may be interrupted
                write_result(out, result, markdown(result))
    text = markdown(result)
    console.print(text, markup=False, soft_wrap=True)
    busy = any(row["metric"] == "other load" and row["median"] > BUSY for row in rows)
    if busy:
        console.print("Other processes kept the machine busy; run again when it is quiet before using these numbers.")
    if out is None and set(axes) == set(AXES) and not quick:
        out = RESULTS / f"scaling_{jax.default_backend()}.json"
        if busy:
            console.print(f"{out} was left as it is; name another file with --out to keep these numbers.", markup=False)
            out = None
    if out is not None:
        write_result(out, result, text)
        write_bytes(out.with_suffix(".png"), figure(result))
        console.print(f"Wrote {out}, its .md and its .png.", markup=False)


if __name__ == "__main__":
    tyro.cli(main)
