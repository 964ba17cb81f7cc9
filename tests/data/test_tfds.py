"""Other TFDS sets by name. The builders here yield encoded PNGs and raw tensors, so none needs TensorFlow to prepare."""

import importlib.util
import json
import re
import socket
import sys
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers import png

from saegan_jax import data
from saegan_jax.data import tfds_source

REAL_FIND_SPEC = importlib.util.find_spec
COUNTS = {"train": 60, "validation": 12, "test": 18}


def picture(i: int, shape=(12, 10, 3)) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, shape, np.uint8)


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """PNG images under unusual keys, official splits, a feature that nobody asked for."""

    VERSION = tfds.core.Version("2.0.1")
    FEATURES: ClassVar = {
        "picture": tfds.features.Image(shape=(12, 10, 3), encoding_format="png"),
        "kind": tfds.features.ClassLabel(names=["a", "b", "c"]),
        "caption": tfds.features.Text(),
    }
    KEYS = ("picture", "kind")
    COUNTS = COUNTS

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(self.FEATURES),
            supervised_keys=self.KEYS,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.COUNTS}

    def _generate_examples(self, split):
        for i in range(self.COUNTS[split]):
            yield i, self.example(i + 1000 * sorted(COUNTS).index(split))

    def example(self, i):
        return {"picture": png(picture(i)), "kind": i % 3, "caption": "x"}


class TinyTensors(TinyPictures):
    """Raw tensors under the default keys, a train split alone."""

    FEATURES: ClassVar = {
        "image": tfds.features.Tensor(shape=(4, 4, 1), dtype=np.uint8),
        "label": tfds.features.ClassLabel(num_classes=3),
    }
    KEYS = None
    COUNTS: ClassVar = {"train": 60}

    def example(self, i):
        return {"image": picture(i, (4, 4, 1)), "label": i % 3}


class TinyMixedSizes(TinyTensors):
    FEATURES: ClassVar = {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(num_classes=3),
    }

    def example(self, i):
        return {"image": png(picture(i, (4 + i % 2, 4, 3))), "label": i % 3}


class TinyUnlabelled(TinyTensors):
    COUNTS = COUNTS

    def _generate_examples(self, split):
        for i in range(self.COUNTS[split]):
            yield i, self.example(i) | ({"label": -1} if split == "test" else {})


class TinyTestOnly(TinyTensors):
    COUNTS: ClassVar = {"test": 18}


class TinyText(TinyTensors):
    FEATURES: ClassVar = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=3)}

    def example(self, i):
        return {"text": "x", "label": 0}


class TinyFailing(TinyTensors):
    def _generate_examples(self, split):
        yield 0, self.example(0)
        raise RuntimeError("licence not accepted")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"network tried: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def pretend_tensorflow(monkeypatch, *, installed: bool) -> None:
    def find_spec(name, *args):
        return (object() if installed else None) if name == "tensorflow" else REAL_FIND_SPEC(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


@pytest.fixture
def prepare(monkeypatch, tmp_path):
    pretend_tensorflow(monkeypatch, installed=True)
    return lambda name, **kwargs: data.load(name, data_dir=tmp_path, **kwargs)


def test_official_splits_are_kept(prepare, monkeypatch, tmp_path, capsys):
    first = prepare("tiny_pictures")
    assert capsys.readouterr().out == ""
    pretend_tensorflow(monkeypatch, installed=False)  # reading needs none
    again = data.load("tiny_pictures:2.0.1", data_dir=tmp_path, size=(12, 10))
    for dataset in (first, again):
        assert (dataset.num_classes, dataset.image_shape) == (3, (12, 10, 3))
        for split, n in COUNTS.items():
            image, label = getattr(dataset, split)
            ids = 1000 * sorted(COUNTS).index(split) + np.arange(n)
            np.testing.assert_array_equal(image, np.stack([picture(i) for i in ids]))
            np.testing.assert_array_equal(label, ids % 3)
            assert label.dtype == np.int32
    assert sorted(p.name for p in tmp_path.iterdir()) == ["downloads", "tiny_pictures"]


def test_missing_splits_are_held_out_of_train(prepare):
    dataset = prepare("tiny_tensors", size=4)
    whole = data.Split(
        np.stack([picture(i + 1000, (4, 4, 1)) for i in range(60)]), (np.arange(1000, 1060) % 3).astype(np.int32)
    )
    rest, test = data.hold_out(whole, 6)
    train, validation = data.hold_out(rest, 5)
    for found, wanted in zip((dataset.train, dataset.validation, dataset.test), (train, validation, test), strict=True):
        np.testing.assert_array_equal(found.image, wanted.image)
        np.testing.assert_array_equal(found.label, wanted.label)


def test_not_prepared_names_extra_and_command(monkeypatch, tmp_path):
    pretend_tensorflow(monkeypatch, installed=False)
    root = tmp_path / "none"
    with pytest.raises(data.DataError) as error:
        data.load("cifar10", data_dir=root)
    text = str(error.value)
    assert "dataset='cifar10' is not prepared" in text
    assert 'pip install "saegan_jax[prepare]"' in text
    assert "\n" not in text
    command = re.search(r'python -c "(.*)", and', text)[1]
    compile(command, "command", "exec")
    assert f"tfds.builder('cifar10', data_dir='{root}')" in command
    assert not root.exists()
    assert "tensorflow" not in sys.modules


def test_size_is_refused_before_anything_is_prepared(monkeypatch, tmp_path):
    pretend_tensorflow(monkeypatch, installed=True)
    root = tmp_path / "none"
    with pytest.raises(data.DataError, match=r"size=64 .*dataset='cifar10'.*32x32.*pass size=32"):
        data.load("cifar10", data_dir=root, size=64)
    with pytest.raises(data.DataError, match=r"size=12 .*12x10.*pass size=\(12, 10\)"):
        data.load("tiny_pictures", data_dir=root, size=12)
    assert not root.exists()


@pytest.mark.parametrize(
    ("name", "close"),
    [("minst", "mnist"), ("digit", "digits"), ("cifar-10", "cifar10"), ("MNIST", "mnist"), ("7", None),
     ("Folder:x", "folder:x"), ("vectors=x", "vectors:x"), ("x.npy", "vectors:x.npy"), ("fashionmnist", "fashion_mnist"),
     ("../x", None),
     ("huggingface:mnist", None), ("qqqqqqqq", None), ("", None), (None, None)],
)  # fmt: skip
def test_unknown_names(name, close, tmp_path):
    with pytest.raises(data.DataError) as error:
        data.load(name, data_dir=tmp_path)
    text = str(error.value)
    assert f"dataset={name!r} is unknown" in text
    assert "digits, shapes, mnist, fashion_mnist, kmnist" in text
    assert "\n" not in text
    if close:
        assert f"did you mean {close}?" in text


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("tiny_text", "dataset='tiny_text' is not an image-classification set.*'text': Text"),
        ("tiny_mixed_sizes", r"dataset='tiny_mixed_sizes'.*images of 2 sizes, from \(4, 4, 3\) to \(5, 4, 3\)"),
        ("tiny_unlabelled", "split 'test' has labels from -1 to"),
        ("tiny_test_only", r"dataset='tiny_test_only' has splits \['test'\], but 'train' is needed"),
        ("tiny_failing", "dataset='tiny_failing' could not be prepared.*RuntimeError: .*licence not accepted"),
        ("cifar10:1.0.0", "dataset='cifar10:1.0.0' cannot be set up by TFDS"),
    ],
)
def test_sets_that_do_not_fit(prepare, name, match):
    with pytest.raises(data.DataError, match=match):
        prepare(name)


def test_failed_preparation_leaves_nothing(prepare, tmp_path):
    with pytest.raises(data.DataError):
        prepare("tiny_failing")
    assert [p.name for p in tmp_path.iterdir()] == ["downloads"]


def test_prepared_as_tfrecord(prepare, tmp_path):
    prepare("tiny_tensors")
    info = tmp_path / "tiny_tensors" / "2.0.1" / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(data.DataError, match="is stored as tfrecord, which cannot be read without TensorFlow"):
        prepare("tiny_tensors")


def test_builders_of_the_family_do_not_shadow_the_stock_ones():
    from saegan_jax.data.mnist_builder import BUILDERS

    stock = set(tfds.list_builders(with_community_datasets=False)) - {b.name for b in BUILDERS.values()}
    assert {"mnist", "fashion_mnist", "kmnist"} <= stock
    assert [b.name for b in BUILDERS.values()] == ["saegan_mnist", "saegan_fashion_mnist", "saegan_kmnist"]
    assert tfds.builder_cls("mnist").__module__.startswith("tensorflow_datasets.")


def test_a_data_set_too_small_to_hold_out_from_is_named():
    one = data.Split(np.zeros((1, 2, 2, 1), np.uint8), np.zeros(1, np.int32))
    with pytest.raises(data.DataError, match=r"dataset='mine' has 1 training image left, and one must be held out"):
        tfds_source._hold_out("mine", one, 1)
