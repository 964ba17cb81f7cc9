"""Claim: streaming from the host keeps at least 95 % of the on-device rate at 64x64x3 while compute-bound.

``python -m benchmarks.feeding`` times one training step by turns with its data on the device, streamed from a prepared data
set on disk (written once to a temporary folder, so that reading and decoding are real), and streamed from host memory; and
the reading alone. A small autoencoder's step is the hard case: it needs more images a second than a core can decode.
"""

import contextlib
import fnmatch
import io
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
import tyro
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.measure import Arm, Timing, alternate, summary
from benchmarks.tables import BUSY, by_work, cell
from benchmarks.work import images
from saegan_jax.algorithms.base import Algorithm, Examples
from saegan_jax.algorithms.gan import GANConfig, gan
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.data import load
from saegan_jax.data.dataset import Split
from saegan_jax.data.sources import InMemory, Source
from saegan_jax.data.stream import Stream, cpu_threads
from saegan_jax.report.results import provenance, versions, write_result
from saegan_jax.training.stream import Feed, many_streamed_steps
from saegan_jax.training.transforms import compile_chunk, many_steps

RESULTS = Path(__file__).parent / "results"
DEVICE, DISK, MEMORY, READING = "on the device", "streamed from disk", "streamed from memory", "reading from disk alone"


class Case(NamedTuple):
    """One step to be fed.

    Attributes:
      algorithm, batch_size, image_shape: of the step.
      chunk: steps in one program.
      stored: how the images are stored, ``"png"`` or ``"bytes"``.
    """

    algorithm: Algorithm
    batch_size: int
    image_shape: tuple[int, int, int]
    chunk: int
    stored: str


def dcgan() -> Case:
    """DCGAN of 64x64x3 images, width 32, non-saturating; PNG, as the prepared sets of that size are."""
    config = GANConfig(
        network="dcgan", width=32, stages=4, batch_size=64, loss="non_saturating", r1_gamma=0.0, r2_gamma=0.0, beta1=0.5
    )
    chunk = 2 if jax.default_backend() == "cpu" else 50  # some blocks a turn
    return Case(gan(config, image_shape=(64, 64, 3)), 64, (64, 64, 3), chunk, "png")


def small_sae() -> Case:
    """The autoencoder 784-128 at batch 256; raw bytes, as this package prepares MNIST."""
    config = SAEConfig(d_sae=128, decoder_norm=0.0, batch_size=256, steps=1_000_000)
    return Case(sae(config, image_shape=(28, 28, 1)), 256, (28, 28, 1), 100, "bytes")


CASES: dict[str, Callable[[], Case]] = {"gan_dcgan_64x64x3": dcgan, "sae_b256_28x28": small_sae}


@cache
def _builder() -> Any:
    """A TFDS builder of the images in ``pixels``; one class, since TFDS knows each name once."""

    class FeedingImages(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pixels: Any = None
        stored = "bytes"

        def _info(self) -> Any:
            shape = self.pixels.shape[1:]
            encoded = tfds.features.Image(shape=shape, encoding_format="png")
            raw = tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="bytes")
            features = {
                "image": encoded if self.stored == "png" else raw,
                "label": tfds.features.ClassLabel(num_classes=2),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {"train": self._generate_examples(self.pixels), "test": self._generate_examples(self.pixels[:2])}

        def _generate_examples(self, pixels: Any) -> Iterator[tuple[int, dict[str, Any]]]:
            from PIL import Image

            for i, image in enumerate(pixels):
                stored: Any = image
                if self.stored == "png":
                    buffer = io.BytesIO()
                    Image.fromarray(image).save(buffer, format="PNG")
                    stored = buffer.getvalue()
                yield i, {"image": stored, "label": i % 2}

    return FeedingImages


def prepare(case: Case, n: int, folder: Path) -> Source:
    """``n`` synthetic images as a prepared data set in ``folder``, to be read as it is needed."""
    make = _builder()
    make.pixels, make.stored = images(n, case.image_shape), case.stored
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(sys.stderr):  # where TFDS announces itself
        make(data_dir=folder).download_and_prepare(file_format="array_record")
    source = load("feeding_images", data_dir=folder, in_memory=0).source
    assert source is not None
    return source


class Notes(NamedTuple):
    """What every call of an arm notes: the share of its time that it waited, and CPU seconds a step of all its threads."""

    waits: dict[str, list[float]]
    cpu: dict[str, list[float]]


def arms_of(case: Case, source: Source, notes: Notes) -> list[Arm]:
    """The programs, which add to ``notes`` at every call.

    Each turn of a stream begins with nothing read, and its first block counts as waiting; nothing is read beyond its end.
    """
    everything = source.read(np.arange(len(source)))
    data = Examples(jnp.asarray(everything.image), jnp.asarray(everything.label))
    init, step = jax.jit(case.algorithm.init), case.algorithm.step
    start = init(jax.random.key(0))
    chunk: Any = compile_chunk(many_steps(step, length=case.chunk, batch_size=case.batch_size))
    program = chunk.lower(start, data).compile()

    def feed(stream: Stream, calls: int) -> Feed:
        steps = calls * case.chunk
        return Feed(stream, jax.random.key(0), batch_size=case.batch_size, length=case.chunk, steps=steps)

    streams = {DISK: Stream(source=source), MEMORY: Stream(source=InMemory(Split(*everything)))}
    with feed(streams[MEMORY], 1) as shapes:
        streamed: Any = compile_chunk(many_streamed_steps(step))
        streamed = streamed.lower(start, shapes.shapes).compile()

    states: dict[str, Any] = {name: init(jax.random.key(0)) for name in (DEVICE, DISK, MEMORY)}

    def on_device(calls: int) -> None:
        for _ in range(calls):
            states[DEVICE], infos = program(states[DEVICE], data)
        jax.block_until_ready((states[DEVICE], infos))

    def run(name: str, calls: int) -> None:
        began = time.perf_counter()
        with feed(streams[name], calls) as feeding:
            feeding.prepare()
            first = time.perf_counter() - began
            for _ in range(calls):
                states[name], infos = feeding.advance(streamed, states[name])
            jax.block_until_ready((states[name], infos))
            notes.waits.setdefault(name, []).append((first + feeding.waited) / (time.perf_counter() - began))

    def read(calls: int) -> None:
        steps = calls * case.chunk
        iterator = streams[DISK].batches(jax.random.key(0), batch_size=case.batch_size, steps=steps)
        for _ in range(steps):
            next(iterator)
        iterator.close()

    def noted(name: str, function: Callable[[int], None]) -> Arm:
        def run(calls: int) -> None:
            before = time.process_time()
            function(calls)
            used = time.process_time() - before
            notes.cpu.setdefault(name, []).append(used / (calls * case.chunk))

        return Arm(name, run, case.chunk)

    return [
        noted(DEVICE, on_device),
        noted(DISK, partial(run, DISK)),
        noted(MEMORY, partial(run, MEMORY)),
        noted(READING, read),
    ]


def rows_of(work: str, case: Case, timings: dict[str, Timing], notes: Notes, repeats: int) -> list[dict[str, Any]]:
    """One row per arm and metric; ratios pair the turns of one repeat."""
    rows = []
    for arm, (rates, others) in timings.items():

        def add(metric: str, unit: str, values: list[float], arm: str = arm, **extra: Any) -> None:
            rows.append({"work": work, "arm": arm, "metric": metric, "unit": unit, **summary(values), **extra})

        add("rate", "steps/s", rates)
        add("images", "images/s", [rate * case.batch_size for rate in rates])
        if arm != DEVICE:
            pairs = zip(rates, timings[DEVICE].rates, strict=True)
            add("ratio", "times", [a / b for a, b in pairs], against=DEVICE)
        if arm in notes.waits:
            add("data_wait", "share of the time", notes.waits[arm][-repeats:])
        add("cpu", "CPU ms a step", [1e3 * used for used in notes.cpu[arm][-repeats:]])
        if not np.isnan(others).any():
            add("other load", "cores", others)
    return rows


def markdown(result: dict[str, Any]) -> str:
    """The result as Markdown: one table for each step, medians over repeats with quartiles in brackets."""
    settings = result["settings"]
    packages = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        f"# {result['name']}",
        "",
        f"`{result['command']}` on {result['device']}; {packages}; commit {result['commit']}.",
        f"{settings['repeats']} repeats by turns of at least {settings['seconds']} s; medians, quartiles in brackets. "
        f"{settings['threads']} reading threads. Images are synthetic: {settings['stored']}.",
    ]
    columns = {
        "rate": "steps/s",
        "images": "images/s",
        "ratio": "times on the device",
        "data_wait": "waiting for data",
        "cpu": "CPU ms a step",
    }
    for work, arms in by_work(result).items():
        lines += ["", f"## {work}", "", "| | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
        lines += [f"| {arm} | " + " | ".join(cell(m.get(c)) for c in columns) + " |" for arm, m in arms.items()]
    busy = max((row["median"] for row in result["rows"] if row["metric"] == "other load"), default=0.0)
    notes = [
        "On a CPU the reading takes the cores that the step computes on: it slows the step before it makes it wait.",
        "A turn begins with nothing read; its first block counts as waiting.",
    ]
    if busy > BUSY:
        notes.append(f"**The machine was busy**: other processes used up to {busy:.2g} cores (median of an arm).")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def _tell(say: Callable[[str], None], name: str, text: str) -> None:
    say(f"{name}, {text}")


def measure_all(
    works: dict[str, Callable[[], Case]],
    *,
    command: str,
    repeats: int,
    seconds: float,
    n_images: int,
    quick: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Prepare, compile and time every case; the result as it is written to JSON."""
    rows, stored = [], []
    for name, build in works.items():
        case = build()
        if quick:
            case = case._replace(chunk=max(1, case.chunk // 10))
        with tempfile.TemporaryDirectory(prefix="feeding-") as folder:
            say(f"{name}: writing {n_images} images")
            source = prepare(case, n_images, Path(folder))
            kind = "PNG" if case.stored == "png" else "raw bytes"
            stored.append(f"{len(source):,} of {'x'.join(map(str, case.image_shape))} as {kind}")
            notes = Notes({}, {})
            say(f"{name}: compiling")
            arms = arms_of(case, source, notes)
            timings = alternate(arms, repeats=repeats, seconds=seconds, progress=partial(_tell, say, name))
        rows += rows_of(name, case, timings, notes, repeats)
    return {
        "name": "Training fed from the host",
        "report": "feeding",
        **provenance(command),
        "versions": versions("jax", "jaxlib", "grain", "tensorflow-datasets", "array_record", "numpy", "pillow"),
        "settings": {
            "repeats": repeats,
            "seconds": seconds,
            "n_images": n_images,
            "threads": cpu_threads(),
            "stored": "; ".join(stored),
        },
        "rows": rows,
    }


def main(
    *,
    repeats: Annotated[int, tyro.conf.arg(help="Turns of each program.")] = 5,
    seconds: Annotated[float, tyro.conf.arg(help="Least duration of one turn.")] = 10.0,
    only: Annotated[str, tyro.conf.arg(help="Shell pattern of the steps to time, for instance 'sae*'.")] = "*",
    quick: Annotated[bool, tyro.conf.arg(help="A smoke run: 2 turns of 0.2 s, short programs, few images.")] = False,
    out: Annotated[
        Path | None,
        tyro.conf.arg(help="JSON to write; a complete run has benchmarks/results/feeding_<device>.json."),
    ] = None,
) -> None:
    """Time training steps whose data stream from the host against those whose data are on the device."""
    if repeats < 1 or not seconds > 0:
        sys.exit(f"--repeats {repeats} and --seconds {seconds} must both be positive.")
    chosen = {name: build for name, build in CASES.items() if fnmatch.fnmatch(name, only)}
    if not chosen:
        sys.exit(f"--only {only!r} matches none of {', '.join(CASES)}.")
    console = Console()
    with console.status("starting") as status:
        result = measure_all(
            chosen,
            command=f"python -m benchmarks.feeding {shlex.join(sys.argv[1:])}".strip(),
            repeats=2 if quick else repeats,
            seconds=0.2 if quick else seconds,
            n_images=512 if quick else 4096,
            quick=quick,
            say=lambda text: status.update(text),
        )
    text = markdown(result)
    console.print(Markdown(text))
    busy = any(row["metric"] == "other load" and row["median"] > BUSY for row in result["rows"])
    if busy:
        console.print("Other processes kept the machine busy; run again when it is quiet before using its rates.")
    if out is None and not (quick or busy) and only == "*":
        out = RESULTS / f"feeding_{jax.default_backend()}.json"
    if out is not None:
        write_result(out, result, text)
        console.print(f"Wrote {out} and {out.with_suffix('.md')}.", markup=False)


if __name__ == "__main__":
    tyro.cli(main)
