"""Streaming: the batches of a training on the device, from host memory or from disk, and how long the device waited."""

import dataclasses
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from command_line import command, metrics, tiny
from helpers import png, uint8_data

from saegan_jax import data
from saegan_jax.algorithms.base import Batch
from saegan_jax.data.dataset import Split
from saegan_jax.data.sources import InMemory, OnDisk
from saegan_jax.data.stream import Stream
from saegan_jax.errors import ConfigError
from saegan_jax.runs.session import training_examples
from saegan_jax.training import stream as streaming
from saegan_jax.training.alarms import Alarms
from saegan_jax.training.stream import Feed, block_length, joined
from saegan_jax.training.transforms import many_steps

DATA = uint8_data(13)
SPLIT = Split(np.asarray(DATA.image), np.asarray(DATA.label))
KEYS = jax.vmap(jax.random.key)(jnp.arange(3))


class Counted:
    """The examples in memory, and who read how many; optionally slow."""

    def __init__(self, *, delay: float = 0.0) -> None:
        self.inner, self.delay, self.threads = InMemory(SPLIT), delay, set[str]()
        self.image_shape, self.dtype = self.inner.image_shape, self.inner.dtype

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, index: Any) -> Split:
        self.threads.add(threading.current_thread().name)
        time.sleep(self.delay)
        return self.inner.read(index)


class Position(NamedTuple):
    key: jax.Array
    step: jax.Array


def on_device(keys: jax.Array, *, steps: int, batch_size: int) -> Batch:
    """The batches that ``many_steps`` takes of data on the device, as float images and labels, stacked."""

    def step(state: Position, batch: Batch) -> tuple[Position, Batch]:
        return state._replace(step=state.step + 1), batch

    chunk = many_steps(step, length=steps, batch_size=batch_size)

    def of(key: jax.Array) -> Batch:
        return chunk(Position(key, jnp.zeros((), jnp.int32)), DATA)[1]

    return jax.jit(of if keys.ndim == 0 else jax.vmap(of))(keys)


@pytest.mark.parametrize(("keys", "threads"), [(KEYS[2], 1), (KEYS, 4)], ids=["one", "members"])
def test_batches_are_those_of_data_on_the_device(keys: jax.Array, threads: int) -> None:
    steps, size = 20, 4  # six epochs of 13, whose ends lie inside of batches
    iterator = Stream(source=InMemory(SPLIT), threads=threads).batches(keys, batch_size=size, steps=steps)
    found = list(iterator)
    iterator.close()
    image, label = (np.stack(arrays, axis=keys.ndim) for arrays in zip(*found, strict=True))
    expected = on_device(keys, steps=steps, batch_size=size)
    np.testing.assert_array_equal(label, expected.label, strict=True)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.rint(255 * np.asarray(expected.image)))
    for order in label.reshape(-1, steps * size):
        for epoch in range(6):
            assert sorted(order[epoch * 13 : (epoch + 1) * 13]) == list(range(13))
        assert len({tuple(order[e * 13 : e * 13 + 13]) for e in range(6)}) == 6


def test_reading_begins_at_any_step() -> None:
    stream = Stream(source=InMemory(SPLIT), threads=2)
    whole = list(stream.batches(KEYS[0], batch_size=5, steps=12))
    iterator = stream.batches(KEYS[0], batch_size=5, steps=12)
    next(iterator)
    state = iterator.get_state()
    assert state == {"next_index": 1}
    for start in (7, 1):
        iterator.set_state({"next_index": start})
        for expected in whole[start:]:
            for a, b in zip(next(iterator), expected, strict=True):
                np.testing.assert_array_equal(a, b)
    iterator.close()
    with pytest.raises(StopIteration):
        next(iter(stream.batches(KEYS[0], batch_size=5, steps=0)))


def test_bad_arguments_are_named() -> None:
    source = InMemory(SPLIT)
    with pytest.raises(ConfigError, match="threads = 0 "):
        Stream(source=source, threads=0)
    with pytest.raises(ConfigError, match="buffered = 0 "):
        Stream(source=source, buffered=0)
    with pytest.raises(ConfigError, match="no examples"):
        Stream(source=InMemory(Split(SPLIT.image[:0], SPLIT.label[:0])))
    for size in (0, 14):
        with pytest.raises(ConfigError, match=rf"batch_size = {size} .* there are 13 examples; use 1 to 13\."):
            Stream(source=source).batches(KEYS[0], batch_size=size, steps=3)


def test_blocks_divide_the_logging_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "BLOCK", 1000)
    assert [block_length(100, n) for n in (1, 10, 11, 26, 500, 501, 9999)] == [100, 100, 50, 25, 2, 1, 1]
    assert block_length(101, 100) == 1


class Result:
    """What a program returns: ready once ``seconds`` of its own have passed after those before it."""

    flying, most, lock = 0, 0, threading.Lock()

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        with self.lock:
            Result.flying += 1
            Result.most = max(Result.most, Result.flying)

    def block_until_ready(self) -> None:
        time.sleep(self.seconds)
        with self.lock:
            Result.flying -= 1


def waiting(*, reading: float, computing: float, threads: int = 1) -> float:
    """The share of the time that a device waits, with a step that takes so many seconds and a batch likewise."""
    Result.flying = Result.most = 0
    stream = Stream(source=Counted(delay=reading), threads=threads, buffered=1)
    with Feed(stream, KEYS[0], batch_size=2, length=2, steps=40) as feed:
        feed.prepare()
        began = time.perf_counter()
        for _ in range(20):
            feed.advance(lambda state, block: (state, Result(computing)), None)
        assert Result.most <= streaming.FLYING
        return feed.waited / (time.perf_counter() - began)


def test_waiting_is_the_time_without_data_and_without_work() -> None:
    slow = waiting(reading=0.02, computing=0.0)
    assert 0.6 < slow <= 1
    half = waiting(reading=0.02, computing=0.02)  # two batches a program: it waits for one of them
    assert 0.2 < half < 0.8
    assert waiting(reading=0.0, computing=0.02) < 0.2


def test_threads_of_grain_read_and_end_with_the_feed() -> None:
    source = Counted()
    with Feed(Stream(source=source), KEYS, batch_size=2, length=4, steps=8) as feed:
        blocks: list[Batch] = []

        def program(state: int, block: Batch) -> tuple[int, Result]:
            blocks.append(block)
            return state + 1, Result(0.0)

        assert [feed.advance(program, n)[0] for n in (0, 1)] == [1, 2]
    assert source.threads
    assert all(name.startswith("grain-prefetch") for name in source.threads)
    assert not any(t.name.startswith("feed-clock") for t in threading.enumerate())
    assert [b.image.shape for b in blocks] == [(3, 4, 2, 4, 4, 1)] * 2
    assert feed.shapes.image.shape == (3, 4, 2, 4, 4, 1)
    expected = on_device(KEYS, steps=8, batch_size=2)
    np.testing.assert_array_equal(np.concatenate([b.label for b in blocks], axis=1), expected.label)


def test_infos_of_blocks_join_along_the_steps() -> None:
    blocks = [Position(jnp.arange(6).reshape(2, 3) + 6 * i, jnp.ones((3,))) for i in range(2)]
    whole = joined(blocks)
    np.testing.assert_array_equal(whole.key, [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]])
    assert whole.step.shape == (6,)


def test_starvation_is_told_at_its_beginning_and_its_end() -> None:
    told: list[str] = []
    alarms = Alarms(notify=told.append)
    for step, wait in ((10, 0.05), (20, 0.06), (30, 0.9), (40, 0.01), (50, 0.0)):
        alarms.feed(step, wait)
        assert alarms.active == (["starvation"] if wait > 0.05 else [])
    assert told == [
        "Alarm: starvation begins at step 20; the device waited for data 6% of the time.",
        "Alarm: starvation ends at step 40; the device waited for data 1% of the time.",
    ]
    # A resumed training of several members: neither this alarm nor its number is taken for a member's.
    resumed = Alarms()
    resumed.restore(alarms.events[:1], [{"phase": "gan", "step": 20, "accuracy": [1.0, 0.5], "data_wait": 0.06}])
    assert resumed.active == ["starvation"]
    resumed.feed(40, 0.0)
    assert [(e["member"], e["state"]) for e in resumed.events] == [(None, "begins"), (None, "ends")]


# From disk


class TinyStreamed(tfds.core.GeneratorBasedBuilder):
    """Raw images, no validation split; every value of a picture is its number."""

    VERSION = tfds.core.Version("1.0.0")
    COUNTS: ClassVar = {"train": 60, "test": 12}

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(4, 4, 1), dtype=np.uint8, encoding="bytes"),
                    "label": tfds.features.ClassLabel(num_classes=3),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> Any:
        return {split: self._generate_examples(split) for split in self.COUNTS}

    def _generate_examples(self, split: str) -> Any:
        for i in range(self.COUNTS[split]):
            yield i, {"image": np.full((4, 4, 1), i, np.uint8), "label": i % 3}


class TinyManySizes(TinyStreamed):
    """Pictures whose size is not said, and differs."""

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=3),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _generate_examples(self, split: str) -> Any:
        for i in range(self.COUNTS[split]):
            yield i, {"image": png(np.full((4 + (i > 40), 4, 3), i, np.uint8)), "label": i % 3}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    for builder in (TinyStreamed, TinyManySizes):
        builder(data_dir=folder).download_and_prepare(file_format="array_record")
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError(f"network tried: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def assert_splits(actual: Split, expected: Split) -> None:
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_a_train_split_left_on_disk_is_the_same_and_is_not_read(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager = data.load("tiny_streamed", data_dir=prepared)
    assert eager.source is None
    n = len(eager.train.label)
    in_all = 60 * 16  # what the official split takes
    assert data.load("tiny_streamed", data_dir=prepared, in_memory=in_all).source is None

    read: list[int] = []
    original = OnDisk.read

    def spy(self: OnDisk, index: Any) -> Split:
        read.append(len(index))
        return original(self, index)

    monkeypatch.setattr(OnDisk, "read", spy)
    lazy = data.load("tiny_streamed", data_dir=prepared, in_memory=in_all - 1)
    assert lazy.source is not None
    assert len(lazy.source) == n
    for name in ("train", "validation", "test"):  # so small a train split is its own sample
        assert_splits(getattr(lazy, name), getattr(eager, name))
    assert_splits(
        lazy.source.read(np.array([5, 0, n - 1])),
        Split(eager.train.image[[5, 0, n - 1]], eager.train.label[[5, 0, n - 1]]),
    )
    np.testing.assert_array_equal(lazy.source.label, eager.train.label)
    # Of a larger one only a sample is read, all classes in their shares.
    read.clear()
    some = lazy.source.sample(16 * 12)
    assert sum(read) == 12
    assert_splits(some, data.hold_out(eager.train, 12)[1])
    assert_splits(lazy.source.share(0.5).load(), data.share(eager.train, 0.5))
    with pytest.raises(data.DataError, match="fraction=0 "):
        lazy.source.share(0)


def test_a_share_of_images_that_are_not_in_memory_is_refused(prepared: Path) -> None:
    dataset = data.load("tiny_streamed", data_dir=prepared, in_memory=0)
    assert dataset.source is not None
    examples = training_examples(dataset, 0.5)
    assert isinstance(examples, OnDisk)
    assert_splits(examples.load(), data.share(dataset.train, 0.5))
    large = dataclasses.replace(dataset, train=dataset.source.sample(16 * 12))
    assert training_examples(large, 1.0) is dataset.source
    with pytest.raises(ConfigError, match=r"fraction = 0\.5 .* only a sample of these images is in memory"):
        training_examples(large, 0.5)
    wrong = dataclasses.replace(dataset.source, label=np.full_like(dataset.source.label, 3))
    with pytest.raises(data.DataError, match=r"'train' in .* has labels outside \[0, 3\)"):
        dataclasses.replace(dataset, source=wrong)


def test_a_stream_from_disk_gives_what_one_from_memory_does(prepared: Path) -> None:
    eager, lazy = (data.load("tiny_streamed", data_dir=prepared, in_memory=b) for b in (None, 0))
    assert lazy.source is not None
    streams = (Stream(source=InMemory(eager.train)), Stream(source=lazy.source, threads=3))
    a, b = (list(s.batches(KEYS[:2], batch_size=16, steps=9)) for s in streams)
    for one, other in zip(a, b, strict=True):
        assert_splits(one, other)


def test_images_of_several_sizes_are_found_where_they_are_read(prepared: Path) -> None:
    source = data.tfds_source._open("many", TinyManySizes(data_dir=prepared), "train", "image", "label")
    assert source.image_shape == (4, 4, 3)
    assert source.read(np.arange(40)).image.shape == (40, 4, 4, 3)
    iterator = Stream(source=source).batches(KEYS[0], batch_size=60, steps=1)
    with pytest.raises(data.DataError, match=r"several sizes, \(4, 4, 3\) and \(5, 4, 3\), and images are not resized"):
        next(iterator)
    iterator.close()


def test_files_that_vanish_are_named(prepared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(prepared / "tiny_streamed", tmp_path / "tiny_streamed"))
    source = data.load("tiny_streamed", data_dir=tmp_path, in_memory=0).source
    assert source is not None
    (file,) = folder.rglob("*train.array_record*")
    content = bytearray(file.read_bytes())
    file.write_bytes(bytes(len(content)))
    with pytest.raises(data.DataError, match=r"'train' in .*tiny_streamed.* cannot be read .* prepared again\."):
        source.read(np.arange(40))


# From the command line


def rows(folder: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if k != "data_wait"} for row in metrics(folder)]


def test_a_script_trains_on_the_host_as_on_the_device(prepared: Path, tmp_path: Path) -> None:
    quick = ["--dataset", "tiny_streamed", "--preset", "digits", "--sae.pre-bias", "mean"]

    def run(on: str, name: str, *more: object) -> Any:
        told = ["--data-dir", prepared, "--data-on", on, "--out", tmp_path / name, *more]
        return command("train_sae", *tiny("train_sae", *quick, *told))

    for on in ("device", "host"):
        outcome = run(on, on)
        assert outcome.code == 0, outcome
    assert "waiting" in outcome.out
    assert [row["step"] for row in metrics(tmp_path / "host")] == [5, 10, 15, 20]
    assert all(0 <= row["data_wait"] <= 1 for row in metrics(tmp_path / "host"))  # type: ignore[operator]
    assert rows(tmp_path / "host") == rows(tmp_path / "device")
    configs = [(tmp_path / name / "config.json").read_text() for name in ("host", "device")]
    assert configs[0] == configs[1]
    # Where the data are is no part of what is trained, so that a run may go on in either place.
    assert run("nowhere", "x").code == 2
