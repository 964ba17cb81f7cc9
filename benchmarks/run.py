"""Time training steps here and in PyTorch, by turns in one run: ``python -m benchmarks.run --help``."""

import fnmatch
import importlib.util
import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown

from benchmarks import measure, work_gan, work_sae
from benchmarks.measure import Arm
from benchmarks.tables import BUSY, markdown
from benchmarks.work import DisagreementError, Work, agree, images, ours
from saegan_jax.report.results import commit, cores, device, versions, write_result
from saegan_jax.training.files import write_bytes

RESULTS = Path(__file__).parent / "results"
WORKS: dict[str, Callable[[], Work]] = {**work_sae.WORKS, **work_gan.WORKS}
PRODUCTS = "matrix_products"


def torch_missing() -> str | None:
    """Why PyTorch is not timed here, or None if it can be."""
    if importlib.util.find_spec("torch") is None:
        return 'PyTorch is not installed; pip install "saegan_jax[bench]" to time it beside ours.'
    if jax.default_backend() != "cpu":
        return f"the peers run on the CPU and ours on {jax.default_backend()}; set JAX_PLATFORMS=cpu to compare."
    return None


def rows_of(work: str, arms: list[Arm], timings: Mapping[str, measure.Timing], *, unit: str) -> list[dict[str, Any]]:
    """One row per arm and metric; the ratios are against the fastest arm of PyTorch, repeat by repeat."""
    theirs = [arm.name for arm in arms if arm.name.startswith("PyTorch")] if unit == "steps/s" else []
    fastest = max(theirs, key=lambda name: float(np.median(timings[name].rates)), default=None)
    rows = []

    def add(arm: Arm, metric: str, unit: str, values: list[float], **extra: Any) -> None:
        rows.append({"work": work, "arm": arm.name, "metric": metric, "unit": unit, **measure.summary(values), **extra})

    alone = timings.get("ours, scan")
    for arm in arms:
        rates, others = timings[arm.name]
        add(arm, "rate", unit, rates)
        if alone and arm.name.startswith("ours,") and arm.name.endswith("seeds"):
            pairs = zip(rates, alone.rates, strict=True)
            add(arm, "aggregate", "times", [a / b for a, b in pairs], against="ours, scan")
        if fastest and arm.name != fastest:
            pairs = zip(rates, timings[fastest].rates, strict=True)
            add(arm, "speedup", "times", [a / b for a, b in pairs], against=fastest)
        if arm.flops is not None:
            add(arm, "flops", "MFLOP a step", [arm.flops / 1e6])
            add(arm, "throughput", "GFLOP/s", [rate * arm.flops / 1e9 for rate in rates])
        if arm.compile_s is not None:
            add(arm, "compile", "s", [arm.compile_s])
        if not any(map(math.isnan, others)):
            add(arm, "other load", "cores", others)
    return rows


def peers_of(
    work: Work, pixels: np.ndarray, say: Callable[[str], None], *, quick: bool
) -> tuple[list[Arm], list[Any], list[Any]]:
    """The peers that compute what we compute, as arms; with the agreement found and those left out.

    Raises:
      DisagreementError: a peer that computes something else.
    """
    from benchmarks import peers_torch

    arms, agreement, skipped = [], [], []
    params = jax.jit(work.algorithm.init)(jax.random.key(0)).params
    for name, build in work.peers(params, pixels).items():
        if quick and name == peers_torch.COMPILED:
            skipped.append(
                {"work": work.name, "arm": name, "reason": "a quick run leaves it out; it compiles for a minute."}
            )
            continue
        say(f"{name}: checking that it agrees")
        try:
            peer = build()
            rows, first_s = agree(work, peer, pixels, name)
        except DisagreementError:
            raise
        except Exception as error:
            if name != peers_torch.COMPILED:
                raise
            # Compiling needs a C++ compiler and a supported Python; it is the one peer that may be absent.
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            skipped.append({"work": work.name, "arm": name, "reason": reason})
            continue
        agreement += rows
        compile_s = first_s if name == peers_torch.COMPILED else None
        arms.append(Arm(name, peer.run, 1, peer.flops(), compile_s))
    return arms, agreement, skipped


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
    missing = torch_missing()
    peers = peers and missing is None
    rows: list[Any] = []
    agreement: list[Any] = []
    skipped: list[Any] = [] if missing is None else [{"work": "all", "arm": "PyTorch", "reason": missing}]
    if peers:
        from benchmarks import peers_torch

        peers_torch.configure()
    if products:
        for shape in measure.MATRIX_PRODUCTS:
            arms = [measure.xla_product(shape), *([peers_torch.product(shape)] if peers else [])]
            timings = measure.alternate(arms, repeats=repeats, seconds=seconds, progress=say)
            rows += rows_of(PRODUCTS, arms, timings, unit="products/s")
    for name, build in works.items():

        def tell(text: str, name: str = name) -> None:
            say(f"{name}, {text}")

        work = build()
        if quick:
            work = work._replace(chunk=max(1, work.chunk // 50))
        pixels = images(n_images, work.image_shape)
        theirs: list[Arm] = []
        if peers:
            theirs, agreed, left_out = peers_of(work, pixels, tell, quick=quick)
            agreement, skipped = agreement + agreed, skipped + left_out
        tell("compiling ours")
        arms = [*ours(work, pixels, seeds=seeds), *theirs]
        timings = measure.alternate(arms, repeats=repeats, seconds=seconds, progress=tell)
        rows += rows_of(name, arms, timings, unit="steps/s")
    settings = {
        "repeats": repeats,
        "seconds": seconds,
        "n_images": n_images,
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
        "versions": versions("jax", "jaxlib", "flax", "optax", "numpy", *(["torch"] if peers else [])),
        "settings": settings,
        "agreement": agreement,
        "skipped": skipped,
        "rows": rows,
    }


def main(
    *,
    repeats: Annotated[int, tyro.conf.arg(help="Turns of each program.")] = 10,
    seconds: Annotated[float, tyro.conf.arg(help="Least duration of one turn.")] = 2.0,
    only: Annotated[str, tyro.conf.arg(help="Shell pattern of the works to time, for instance 'sae*'.")] = "*",
    quick: Annotated[
        bool, tyro.conf.arg(help="A smoke run: 2 turns of 0.05 s, short scans, few images, no torch.compile.")
    ] = False,
    peers: Annotated[bool, tyro.conf.arg(help="Time PyTorch too, where it is installed.")] = True,
    seeds: Annotated[int, tyro.conf.arg(help="Members of the ensemble.")] = 8,
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            help="JSON to write, its table beside it; a complete run has benchmarks/results/steps_<device>.json."
        ),
    ] = None,
    table: Annotated[Path | None, tyro.conf.arg(help="Time nothing; write the table of this JSON again.")] = None,
) -> None:
    """Time training steps here and in PyTorch, by turns in one run."""
    console = Console()
    if table is not None:
        text = markdown(json.loads(table.read_text()))
        write_bytes(table.with_suffix(".md"), text.encode())
        console.print(Markdown(text))
        return
    chosen = {name: build for name, build in WORKS.items() if fnmatch.fnmatch(name, only)}
    if not chosen and not fnmatch.fnmatch(PRODUCTS, only):
        sys.exit(f"--only {only!r} matches no work; there are {', '.join([PRODUCTS, *WORKS])}.")
    if repeats < 1 or seeds < 1 or not seconds > 0:
        sys.exit(f"--repeats {repeats}, --seeds {seeds} and --seconds {seconds} must all be positive.")
    if (reason := torch_missing()) is not None and peers:
        console.print(f"Ours alone: {reason}", markup=False)
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
        console.print(f"Wrote {out} and {out.with_suffix('.md')}.", markup=False)


if __name__ == "__main__":
    tyro.cli(main)
