"""Data sets read through `tfds.builder(...).as_data_source()`: ArrayRecord files, no TensorFlow.

tensorflow_datasets is imported inside the functions (0.3 to 0.6 s), so that `import saegan_jax.data` stays light.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from saegan_jax.data import idx
from saegan_jax.data.dataset import DataError, Dataset, Split, check_size, hold_out
from saegan_jax.data.sources import CHUNK, OnDisk
from saegan_jax.errors import closest

OWN = ("folder", "vectors")  # kinds of a user's own data, before the colon
BUILT_IN = ("digits", "shapes", *idx.SOURCES)
PathLike = str | os.PathLike[str]
_PREPARING = threading.Lock()


def load_idx(
    name: str, *, manual_dir: PathLike | None, data_dir: PathLike | None, in_memory: int | None = None
) -> Dataset:
    """Loads one of the MNIST family, preparing it first if data_dir does not have it.

    Validation is a stratified twelfth of the official train split (5,000 of 60,000); test is the official one.
    """
    import tensorflow_datasets as tfds

    from saegan_jax.data.mnist_builder import BUILDERS

    root = _local_folder(data_dir or tfds.core.constants.DATA_DIR)
    make = BUILDERS[name]
    if not make(data_dir=root).data_path.exists():
        with _writing(name, root):
            folder = idx.locate(name, manual_dir, root / "downloads" / make.name)
            _prepare(make, root, tfds.download.DownloadConfig(manual_dir=folder, try_download_gcs=False))
    builder = make(data_dir=root)
    keys = ("image", "label")
    train = _read_train(name, builder, *keys, in_memory)
    train, validation = _hold_out(name, train, max(1, len(train.label) // 12))
    return _dataset(name, train, validation, _read(name, builder, "test", *keys), idx.NUM_CLASSES)


def load_tfds(
    name: str,
    *,
    manual_dir: PathLike | None,
    data_dir: PathLike | None,
    size: int | tuple[int, int] | None,
    in_memory: int | None = None,
) -> Dataset:
    """Loads any other TFDS image-classification set, by `name`, `name/config` or `name:version`.

    A set without a test split (then, without a validation split) gives a stratified tenth of its train split for it.
    """
    import tensorflow_datasets as tfds

    if not (isinstance(name, str) and re.fullmatch(r"[^\W\d]\w*(/[\w.-]+)?(:\d+\.\d+\.\d+)?", name)):
        raise _unknown(name)

    def make(*, data_dir: PathLike | None) -> Any:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)

    try:
        builder = make(data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise _unknown(name) from error
    except Exception as error:  # builders raise what they like: a missing config, a package that only they need
        said = " ".join(str(error).split())
        raise DataError(f"dataset={name!r} cannot be set up by TFDS: {said}") from error
    if re.split("[/:]", name)[0] != builder.name:  # TFDS reads MNIST as mnist, and the file would have a third name
        raise _unknown(name)

    image_key, label_key = _keys(name, builder.info)
    check_size(name, builder.info.features[image_key].shape, size)
    if not builder.data_path.exists():
        root = _local_folder(builder.data_dir_root)
        if importlib.util.find_spec("tensorflow") is None:
            raise DataError(
                f"dataset={name!r} is not prepared in {builder.data_path}, and TFDS needs TensorFlow to prepare it "
                '(not to read it): pip install "saegan_jax[prepare]" and run this again; or, on a machine that has it, '
                f'python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}, data_dir={str(root)!r})'
                ".download_and_prepare(file_format='array_record')\", and copy the folder."
            )
        with _writing(name, root):
            _prepare(make, root, tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False))
        builder = make(data_dir=data_dir)
    splits = set(builder.info.splits)
    if "train" not in splits:
        raise DataError(
            f"dataset={name!r} has splits {sorted(splits)}, but 'train' is needed: choose another data set."
        )
    train = _read_train(name, builder, image_key, label_key, in_memory)
    read = {s: _read(name, builder, s, image_key, label_key) for s in ("validation", "test") if s in splits}
    for missing in ("test", "validation"):
        if missing not in read:
            train, read[missing] = _hold_out(name, train, max(1, len(train.label) // 10))
    return _dataset(name, train, read["validation"], read["test"], builder.info.features[label_key].num_classes)


def _hold_out(name: str, train: Split | OnDisk, n: int) -> tuple[Split | OnDisk, Split]:
    size = len(train.label)
    if size < 2:
        raise DataError(
            f"dataset={name!r} has {size} training image left, and one must be held out for validation or test: use a data "
            "set of more images, or one whose splits are all there."
        )
    return train.hold_out(n) if isinstance(train, OnDisk) else hold_out(train, n)


def _dataset(name: str, train: Split | OnDisk, validation: Split, test: Split, num_classes: int) -> Dataset:
    if isinstance(train, OnDisk):
        return Dataset(name, train.sample(), validation, test, num_classes, source=train)
    return Dataset(name, train, validation, test, num_classes)


def _local_folder(path: PathLike) -> Path:
    if "://" in str(path):
        raise DataError(f"data_dir={str(path)!r} is not a local folder: name one to prepare data sets in.")
    return Path(path).expanduser()


@contextlib.contextmanager
def _writing(name: str, root: Path) -> Any:
    """Names the data set and its folder in whatever stops a preparation: disks, downloads, licences, bugs."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"dataset={name!r} could not be prepared in data_dir={str(root)!r} ({type(error).__name__}: {error}): see "
            "that the folder can be written and has space, or name another by data_dir or the environment variable "
            "TFDS_DATA_DIR."
        ) from error


def _prepare(make: Callable[..., Any], root: Path, config: Any) -> None:
    """Prepares make(data_dir=root) in a private folder inside root and renames it into place, whole or not at all.

    TFDS's own incomplete folder takes its suffix from the global `random` generator, so two processes with one seed
    would write into the same one. A private folder cannot be shared, and a killed preparation leaves nothing under the
    data set's name. Whoever renames second finds the same data there and drops its own.
    """
    import tensorflow_datasets as tfds

    root.mkdir(parents=True, exist_ok=True)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()  # bars in a log file are thousands of lines
    # The lock is for threads: redirect_stdout is per process. TFDS announces itself on stdout, where results go.
    with _PREPARING, tempfile.TemporaryDirectory(prefix="preparing-", dir=root) as staging:
        builder = make(data_dir=staging)
        target = root / Path(builder.data_path).relative_to(staging)
        if target.exists():
            return
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare(
                download_dir=root / "downloads", download_config=config, file_format="array_record"
            )
        for file in Path(builder.data_path).iterdir():
            with file.open("rb") as handle:  # on disk before the rename: a power cut must not leave empty files
                os.fsync(handle.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(builder.data_path, target)
        except OSError:
            if not target.exists():
                raise


def _unknown(name: str) -> DataError:
    import tensorflow_datasets as tfds

    names = [*BUILT_IN, *tfds.list_builders(with_community_datasets=False)]
    kind, _, place = str(name).replace("=", ":", 1).partition(":")
    if kind.casefold() in OWN and place:
        close = f"did you mean {kind.casefold()}:{place}? "
    elif os.path.isdir(str(name)):
        close = f"did you mean folder:{name}, a folder of images? "
    elif str(name).endswith((".npy", ".npz", ".safetensors")):
        close = f"did you mean vectors:{name}? "
    else:
        close = closest(str(name), names)
    return DataError(
        f"dataset={name!r} is unknown{f': {close}' if close else '. '}Known are "
        f"{', '.join(BUILT_IN)}, the image-classification sets of TFDS by name (such as cifar10 or svhn_cropped), and "
        "those prepared in data_dir."
    )


def _keys(name: str, info: Any) -> tuple[str, str]:
    """Names the features that hold the image (rank 3, uint8) and its class."""
    import tensorflow_datasets as tfds

    features = info.features
    keys = info.supervised_keys or ("image", "label")
    if isinstance(features, tfds.features.FeaturesDict) and all(isinstance(k, str) and k in features for k in keys):
        image, label = (features[k] for k in keys[:2])
        if len(image.shape) == 3 and image.np_dtype == np.uint8 and isinstance(label, tfds.features.ClassLabel):
            return keys[0], keys[1]
    raise DataError(
        f"dataset={name!r} is not an image-classification set: one uint8 image and one class label per example are "
        f"needed, but its features are {' '.join(str(features).split())}. Choose another data set."
    )


def _read_train(name: str, builder: Any, image_key: str, label_key: str, in_memory: int | None) -> Split | OnDisk:
    """The train split in memory, or on disk where its images would take more than ``in_memory`` bytes."""
    if in_memory is not None:
        with _reading(_where(name, builder, "train"), builder):
            records = builder.as_data_source("train")
            nbytes = len(records) * math.prod(records[0][image_key].shape) if len(records) else 0
        if nbytes > in_memory:
            return _open(name, builder, "train", image_key, label_key)
    return _read(name, builder, "train", image_key, label_key)


@contextlib.contextmanager
def _reading(where: str, builder: Any) -> Iterator[None]:
    """Names the split and the fix in whatever stops it from being read."""
    try:
        yield
    except DataError:
        raise
    except NotImplementedError as error:
        raise DataError(
            f"{where} is stored as {builder.info.file_format.value}, which cannot be read without TensorFlow: name "
            "another data_dir, or delete that folder and prepare it again as array_record."
        ) from error
    except Exception as error:  # each reader raises its own kind; all mean that these are not the files once written
        raise DataError(
            f"{where} cannot be read ({error}): delete that folder, so that it is prepared again."
        ) from error


def _where(name: str, builder: Any, split: str) -> str:
    return f"dataset={name!r}: split {split!r} in {builder.data_path}"


def _open(name: str, builder: Any, split: str, image_key: str, label_key: str) -> OnDisk:
    """One whole split to be read as it is needed: all labels now, which is one pass over the files, images later."""
    import tensorflow_datasets as tfds

    where = _where(name, builder, split)
    with _reading(where, builder):
        records = builder.as_data_source(split)
        if not len(records):
            raise DataError(f"{where} holds no examples: delete that folder and prepare it again.")
        undecoded = builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
        labels = [
            np.array(
                [row[label_key] for row in undecoded.__getitems__(range(i, min(i + CHUNK, len(records))))], np.int32
            )
            for i in range(0, len(records), CHUNK)
        ]
        height, width, channels = records[0][image_key].shape
    index = np.arange(len(records), dtype=np.int64)
    return OnDisk(where, records, image_key, label_key, (height, width, channels), index, np.concatenate(labels))


def _read(name: str, builder: Any, split: str, image_key: str, label_key: str) -> Split:
    """Reads one whole split in bulk: image uint8 (n, h, w, c), label int32 (n,), in the order on disk."""
    images, labels = [], []
    where = _where(name, builder, split)
    with _reading(where, builder):
        source = builder.as_data_source(split)
        for start in range(0, len(source), CHUNK):
            rows = source.__getitems__(range(start, min(start + CHUNK, len(source))))
            images.append([row[image_key] for row in rows])
            labels.append(np.array([row[label_key] for row in rows], np.int32))
    shapes = sorted({image.shape for chunk in images for image in chunk})
    if not shapes:
        raise DataError(f"{where} holds no examples: delete that folder and prepare it again.")
    if len(shapes) > 1:
        raise DataError(
            f"{where} has images of {len(shapes)} sizes, from {shapes[0]} to {shapes[-1]}, and images are not resized "
            "silently: choose a data set, or a config of one, with a single size."
        )
    return Split(np.concatenate([np.stack(chunk) for chunk in images]), np.concatenate(labels))
