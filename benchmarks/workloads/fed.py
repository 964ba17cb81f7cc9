"""Training steps that are fed from the host, and the data sets on disk that they read."""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tensorflow_datasets as tfds

from benchmarks.harness.timing import Arm
from benchmarks.workloads import gan as gans
from benchmarks.workloads import sae as saes
from benchmarks.workloads.images import images
from benchmarks.workloads.package import (
    Algorithm,
    Examples,
    Feed,
    compile_chunk,
    many_steps,
    many_streamed_steps,
)
from saegan_jax.data import load
from saegan_jax.data.dataset import Split
from saegan_jax.data.sources import InMemory, Source
from saegan_jax.data.stream import Stream

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
    work = gans.WORKS["gan_dcgan_64x64x3"]()
    chunk = 2 if jax.default_backend() == "cpu" else 50  # some blocks a turn
    return Case(work.algorithm, work.batch_size, work.image_shape, chunk, "png")


def small_sae() -> Case:
    """The autoencoder 784-128 at batch 256; raw bytes, as this package prepares MNIST."""
    work = saes.WORKS["sae_b256"]()
    return Case(work.algorithm, work.batch_size, work.image_shape, 100, "bytes")


CASES: dict[str, Callable[[], Case]] = {"gan_dcgan_64x64x3": dcgan, "sae_b256_28x28": small_sae}


def _encoded(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


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
            for i, image in enumerate(pixels):
                yield i, {"image": _encoded(image) if self.stored == "png" else image, "label": i % 2}

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


class _Programs:
    """The programs of one case, and the states that they continue from."""

    def __init__(self, case: Case, source: Source, notes: Notes) -> None:
        self.case, self.notes = case, notes
        everything = source.read(np.arange(len(source)))
        self.data = Examples(jax.numpy.asarray(everything.image), jax.numpy.asarray(everything.label))
        self.streams = {DISK: Stream(source=source), MEMORY: Stream(source=InMemory(Split(*everything)))}
        init, step = jax.jit(case.algorithm.init), case.algorithm.step
        start = init(jax.random.key(0))
        chunk: Any = compile_chunk(many_steps(step, length=case.chunk, batch_size=case.batch_size))
        self.program = chunk.lower(start, self.data).compile()
        with self._feed(MEMORY, 1) as shapes:
            streamed: Any = compile_chunk(many_streamed_steps(step))
            self.streamed = streamed.lower(start, shapes.shapes).compile()
        self.states: dict[str, Any] = {name: init(jax.random.key(0)) for name in (DEVICE, DISK, MEMORY)}

    def _feed(self, name: str, calls: int) -> Feed:
        case, steps = self.case, calls * self.case.chunk
        return Feed(self.streams[name], jax.random.key(0), batch_size=case.batch_size, length=case.chunk, steps=steps)

    def on_device(self, calls: int) -> None:
        for _ in range(calls):
            self.states[DEVICE], infos = self.program(self.states[DEVICE], self.data)
        jax.block_until_ready((self.states[DEVICE], infos))

    def stream(self, name: str, calls: int) -> None:
        began = time.perf_counter()
        with self._feed(name, calls) as feeding:
            feeding.prepare()
            first = time.perf_counter() - began
            for _ in range(calls):
                self.states[name], infos = feeding.advance(self.streamed, self.states[name])
            jax.block_until_ready((self.states[name], infos))
            waited = (first + feeding.waited) / (time.perf_counter() - began)
            self.notes.waits.setdefault(name, []).append(waited)

    def read(self, calls: int) -> None:
        steps = calls * self.case.chunk
        iterator = self.streams[DISK].batches(jax.random.key(0), batch_size=self.case.batch_size, steps=steps)
        for _ in range(steps):
            next(iterator)
        iterator.close()

    def noted(self, name: str, function: Callable[[int], None], calls: int) -> None:
        before = time.process_time()
        function(calls)
        used = time.process_time() - before
        self.notes.cpu.setdefault(name, []).append(used / (calls * self.case.chunk))


def arms_of(case: Case, source: Source, notes: Notes) -> list[Arm]:
    """The programs, which add to ``notes`` at every call.

    Each turn of a stream begins with nothing read, and its first block counts as waiting; nothing is read beyond its end.
    """
    programs = _Programs(case, source, notes)
    functions: dict[str, Callable[[int], None]] = {
        DEVICE: programs.on_device,
        DISK: partial(programs.stream, DISK),
        MEMORY: partial(programs.stream, MEMORY),
        READING: programs.read,
    }
    return [Arm(name, partial(programs.noted, name, function), case.chunk) for name, function in functions.items()]
