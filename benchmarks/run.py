"""Time training steps here and in other frameworks, by turns in one run: ``python -m benchmarks.run --help``."""

import contextlib
import fnmatch
import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown

from benchmarks import measure, work_gan, work_sae
from benchmarks.bounds import Cost, Machine, floors, measure_machine
from benchmarks.compare import changes
from benchmarks.measure import Arm
from benchmarks.plots import figure
from benchmarks.tables import BUSY, markdown, summary
from benchmarks.work import (
    BF16,
    COMPILED,
    EAGER,
    KERAS_JAX,
    KERAS_TENSORFLOW,
    PEERS,
    DisagreementError,
    UnavailableError,
    Work,
    agree,
    images,
    not_installed,
    ours,
)
from saegan_jax.report.results import commit, cores, device, versions, write_result
from saegan_jax.training.files import write_bytes

RESULTS = Path(__file__).parent / "results"
WORKS: dict[str, Callable[[], Work]] = {**work_sae.WORKS, **work_gan.WORKS}
PRODUCTS = "matrix_products"
PACKAGES = ("torch", "keras", "tensorflow")
LARGEST_DATA = 128 * 2**20  # bytes of uint8 images


def rows_of(
    work: str,
    arms: list[Arm],
    timings: Mapping[str, measure.Timing],
    *,
    unit: str,
    batch_size: int | None = None,
    machine: Machine | None = None,
) -> list[dict[str, Any]]:
    """One row per arm and metric; the ratios are against the fastest float32 peer, repeat by repeat.

    Args:
      work: their work.
      arms, timings: what was timed.
      unit: of the rates.
      batch_size: images a step, for images a second.
      machine: for the share of its rate of products that is reached, and for the floors of ours.
    """
    theirs = [arm.name for arm in arms if arm.name in PEERS and arm.name != BF16]
    fastest = max(theirs, key=lambda name: float(np.median(timings[name].rates)), default=None)
    rows = []

    def add(arm: Arm, metric: str, unit: str, values: Sequence[float], **extra: Any) -> None:
        if BF16 in (arm.name, extra.get("against")) or " bf16 " in arm.name:
            extra["dtype"] = "bfloat16"
        rows.append({"work": work, "arm": arm.name, "metric": metric, "unit": unit, **measure.summary(values), **extra})

    def ratios(arm: Arm, against: str) -> list[float]:
        return [a / b for a, b in zip(timings[arm.name].rates, timings[against].rates, strict=True)]

    for arm in arms:
        ours_too = arm.name.startswith("ours,")
        rates, others = timings[arm.name]
        add(arm, "rate", unit, rates)
        if batch_size is not None:
            add(arm, "images", "images/s", [rate * batch_size for rate in rates])
        if "ours, scan" in timings and ours_too and arm.name.endswith("seeds"):
            add(arm, "aggregate", "times", ratios(arm, "ours, scan"), against="ours, scan")
        if fastest and arm.name != fastest:
            add(arm, "speedup", "times", ratios(arm, fastest), against=fastest)
        if ours_too and BF16 in timings:
            add(arm, "speedup_bf16", "times", ratios(arm, BF16), against=BF16)
        if arm.flops is not None:
            add(arm, "flops", "MFLOP a step", [arm.flops / 1e6])
            add(arm, "throughput", "GFLOP/s", [rate * arm.flops / 1e9 for rate in rates])
            if machine is not None:
                add(arm, "share", "of the product rate", [rate * arm.flops / machine.flops_per_s for rate in rates])
        if ours_too and machine is not None and arm.flops is not None and arm.bytes is not None:
            floor_compute, floor_memory = floors(Cost(arm.flops, arm.bytes, 0), machine)
            add(arm, "floor_compute", "ms a step", [1e3 * floor_compute])
            add(arm, "floor_memory", "ms a step", [1e3 * floor_memory])
        if arm.compile_s is not None:
            add(arm, "compile", "s", [arm.compile_s])
        if arm.peak_bytes is not None:
            add(arm, "peak_memory", "MiB", [arm.peak_bytes / 2**20])
        if not any(map(math.isnan, others)):
            add(arm, "other load", "cores", others)
    return rows


class Peers(NamedTuple):
    """The peers of one work.

    Attributes:
      arms: those that compute what we compute.
      agreement: rows of :func:`benchmarks.work.agree`.
      not_compared: by arm, the quantities that it does not keep.
      skipped: by arm, why it is left out.
    """

    arms: list[Arm]
    agreement: list[dict[str, Any]]
    not_compared: list[dict[str, Any]]
    skipped: list[dict[str, Any]]


def peers_of(
    work: Work, pixels: np.ndarray, say: Callable[[str], None], *, quick: bool, closing: contextlib.ExitStack
) -> Peers:
    """The peers that compute what we compute, as arms; they live until ``closing`` does.

    Raises:
      DisagreementError: a peer that computes something else.
    """
    found = Peers([], [], [], [])
    params = jax.jit(work.algorithm.init)(jax.random.key(0)).params
    counted: float | None = None
    for name, build in work.peers(params, pixels).items():

        def skip(reason: str, name: str = name) -> None:
            found.skipped.append({"work": work.name, "arm": name, "reason": reason})

        if not_installed(name):
            continue  # said once for all works
        if quick and name == COMPILED:
            skip("a quick run leaves it out; it compiles for a minute.")
            continue
        say(f"{name}: checking that it agrees")
        try:
            peer = build()
            closing.callback(peer.close)
            agreed = agree(work, peer, pixels, name)
        except DisagreementError:
            raise
        except UnavailableError as error:
            skip(str(error))
            continue
        except Exception as error:
            if name != COMPILED:
                raise
            # Compiling needs a C++ compiler and a supported Python; it is the one peer that may be absent.
            skip(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")
            continue
        found.agreement.extend(agreed.rows)
        if agreed.absent:
            found.not_compared.append({"work": work.name, "arm": name, "quantities": agreed.absent})
        # Every peer's products and convolutions are those of PyTorch's eager step, the first: the same training needs them.
        counted = peer.flops() or counted
        compile_s = agreed.first_s if name in (COMPILED, KERAS_TENSORFLOW, KERAS_JAX) else peer.compile_s()
        memory = peer.peak_bytes()
        # Each turn is one `fit`, whose start takes up to a tenth of a second on TensorFlow.
        turn = 3.0 if name == KERAS_TENSORFLOW else 1.0
        found.arms.append(Arm(name, peer.run, peer.steps_per_call, counted, compile_s, peak_bytes=memory, turn=turn))
    return found


def measure_all(
    works: Mapping[str, Callable[[], Work]],
    *,
    command: str,
    repeats: int,
    seconds: float,
    n_images: int,
    seeds: int,
    peers: bool,
    products: bool,
    quick: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Check, compile and time every work; the result as it is written to JSON."""
    rows: list[Any] = []
    agreement: list[Any] = []
    not_compared: list[Any] = []
    skipped: list[Any] = []
    if peers:
        skipped = [{"work": "all", "arm": name, "reason": why} for name in PEERS if (why := not_installed(name))]
    pytorch = peers and not_installed(EAGER) is None
    if pytorch:
        from benchmarks import peers_torch

        peers_torch.configure()
    say("measuring the machine")
    machine = measure_machine(seconds, say=say)
    if products:
        for shape in measure.MATRIX_PRODUCTS:
            arms = [measure.xla_product(shape)]
            if pytorch:
                with contextlib.suppress(UnavailableError):
                    arms += [peers_torch.product(shape), peers_torch.product(shape, bf16=True)]
            timings = measure.alternate(arms, repeats=repeats, seconds=seconds, progress=say)
            rows += rows_of(PRODUCTS, arms, timings, unit="products/s", machine=machine)
    images_of = {}
    for name, build in works.items():

        def tell(text: str, name: str = name) -> None:
            say(f"{name}, {text}")

        try:
            work = build()
        except UnavailableError as error:
            skipped.append({"work": name, "arm": "all", "reason": str(error)})
            continue
        if quick:
            work = work._replace(chunk=max(1, work.chunk // 50))
        # Peers keep float32 copies of them.
        images_of[name] = max(2 * work.batch_size, min(n_images, LARGEST_DATA // math.prod(work.image_shape)))
        pixels = images(images_of[name], work.image_shape)
        with contextlib.ExitStack() as closing:
            theirs = Peers([], [], [], [])
            if peers:
                theirs = peers_of(work, pixels, tell, quick=quick, closing=closing)
            agreement, skipped = agreement + theirs.agreement, skipped + theirs.skipped
            not_compared += theirs.not_compared
            tell("compiling ours")
            arms = [*ours(work, pixels, seeds=seeds), *theirs.arms]
            timings = measure.alternate(arms, repeats=repeats, seconds=seconds, progress=tell)
        rows += rows_of(name, arms, timings, unit="steps/s", batch_size=work.batch_size, machine=machine)
    settings = {
        "repeats": repeats,
        "seconds": seconds,
        "n_images": n_images,
        "n_images_of": images_of,
        "seeds": seeds,
        "threads": cores(),
        "dtype": "float32",
        "quick": quick,
    }
    return {
        "name": "Training steps per second",
        "command": command,
        "commit": commit(Path(__file__).parent),
        "device": device(),
        "versions": versions("jax", "jaxlib", "flax", "optax", "numpy", *(PACKAGES if peers else ())),
        "settings": settings,
        "machine": machine._asdict(),
        "agreement": agreement,
        "not_compared": not_compared,
        "skipped": skipped,
        "rows": rows,
    }


def _beside(path: Path, result: dict[str, Any]) -> None:
    """Write the picture and, of works with peers, the short table beside the JSON file at ``path``."""
    write_bytes(path.with_suffix(".png"), figure(result))
    if any(row["metric"] == "speedup" for row in result["rows"]):
        write_bytes(path.with_name(f"{path.stem}-summary.md"), summary(result).encode())


def main(
    *,
    repeats: Annotated[int, tyro.conf.arg(help="Turns of each program.")] = 10,
    seconds: Annotated[float, tyro.conf.arg(help="Least duration of one turn.")] = 2.0,
    only: Annotated[str, tyro.conf.arg(help="Shell pattern of the works to time, for instance 'sae*'.")] = "*",
    quick: Annotated[
        bool, tyro.conf.arg(help="A smoke run: 2 turns of 0.05 s, short scans, few images, no torch.compile.")
    ] = False,
    peers: Annotated[bool, tyro.conf.arg(help="Time PyTorch, Keras and a plain Flax loop, where installed.")] = True,
    seeds: Annotated[int, tyro.conf.arg(help="Members of the ensemble.")] = 8,
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            help="JSON to write, table and plot beside it; a complete run has benchmarks/results/steps_<device>.json."
        ),
    ] = None,
    compare: Annotated[Path | None, tyro.conf.arg(help="An earlier result; what changed since is printed.")] = None,
    table: Annotated[Path | None, tyro.conf.arg(help="Time nothing; write table and plot of this JSON again.")] = None,
) -> None:
    """Time training steps here and in PyTorch, Keras and Flax, by turns in one run."""
    console = Console()
    if table is not None:
        text = markdown(json.loads(table.read_text()))
        write_bytes(table.with_suffix(".md"), text.encode())
        _beside(table, json.loads(table.read_text()))
        console.print(Markdown(text))
        return
    chosen = {name: build for name, build in WORKS.items() if fnmatch.fnmatch(name, only)}
    if not chosen and not fnmatch.fnmatch(PRODUCTS, only):
        sys.exit(f"--only {only!r} matches no work; there are {', '.join([PRODUCTS, *WORKS])}.")
    old = None if compare is None else json.loads(compare.read_text())
    if repeats < 1 or seeds < 1 or not seconds > 0:
        sys.exit(f"--repeats {repeats}, --seeds {seeds} and --seconds {seconds} must all be positive.")
    for reason in dict.fromkeys(filter(None, map(not_installed, PEERS))) if peers else ():
        console.print(f"Left out: {reason}", markup=False)
    with console.status("starting") as status:
        try:
            result = measure_all(
                chosen,
                command=f"python -m benchmarks.run {shlex.join(sys.argv[1:])}".strip(),
                repeats=2 if quick else repeats,
                seconds=0.05 if quick else seconds,
                n_images=2_000 if quick else 55_000,
                seeds=seeds,
                peers=peers,
                products=fnmatch.fnmatch(PRODUCTS, only),
                quick=quick,
                say=lambda text: status.update(text),
            )
        except DisagreementError as error:
            sys.exit(str(error))
    text = markdown(result)
    console.print(Markdown(text))
    if old is not None:
        console.print(Markdown(changes(result, old)))
    busy = any(row["metric"] == "other load" and row["median"] > BUSY for row in result["rows"])
    if busy:
        console.print("Other processes kept the machine busy; run again when it is quiet before using these numbers.")
    if out is None and only == "*" and peers and not quick:
        out = RESULTS / f"steps_{jax.default_backend()}.json"
        if busy:
            console.print(f"{out} was left as it is; name another file with --out to keep these numbers.", markup=False)
            out = None
    if out is not None:
        write_result(out, result, text)
        _beside(out, result)
        console.print(f"Wrote {out}, and beside it its table and plot.", markup=False)


if __name__ == "__main__":
    tyro.cli(main)
