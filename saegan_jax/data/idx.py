"""The four gzipped IDX files of the MNIST family: where they are, what they must hash to, how they are read."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.client
import math
import os
import struct
import urllib.request
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saegan_jax.data.dataset import DataError
from saegan_jax.files import write_bytes

MANUAL_DIR_VARIABLE = "SAEGAN_JAX_MANUAL_DIR"
TIMEOUT_SECONDS = 20.0
IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES = 10
SPLIT_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


@dataclasses.dataclass(frozen=True)
class IdxSource:
    """mirrors: folder URLs in the order tried; sha256: file name to the sum of the gz file."""

    mirrors: tuple[str, ...]
    sha256: Mapping[str, str]


def _source(mirrors: tuple[str, ...], *sums: str) -> IdxSource:
    return IdxSource(mirrors, dict(zip((f for pair in SPLIT_FILES.values() for f in pair), sums, strict=True)))


# Sums as recorded by TFDS (tensorflow_datasets/url_checksums), in the order of SPLIT_FILES.
SOURCES: dict[str, IdxSource] = {
    "mnist": _source(
        ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion_mnist": _source(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    "kmnist": _source(
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
}


def parse(gz: bytes, *, ndim: int, file: str) -> NDArray[np.uint8]:
    """Decodes one gzipped IDX file of unsigned bytes to an array of ndim dimensions.

    Layout: two zero bytes, type 8 (unsigned byte), ndim, ndim big-endian uint32 sizes, then the bytes, last dimension
    fastest (LeCun, Cortes and Burges, The MNIST database, "File formats").

    Raises:
        DataError: not gzip, another magic number, or more or fewer bytes than the sizes say; names `file`.
    """
    try:
        raw = gzip.decompress(gz)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} is not a whole gzip file ({error}): fetch it again.") from error
    magic, header = bytes((0, 0, 8, ndim)), 4 + 4 * ndim
    if raw[:4] != magic:
        raise DataError(
            f"{file} starts with 0x{raw[:4].hex()}, but an IDX file of unsigned bytes in {ndim} dimensions starts with "
            f"0x{magic.hex()}: check that images and labels are not swapped, or fetch it again."
        )
    if len(raw) < header:
        raise DataError(f"{file} ends within its header of {header} bytes: fetch it again.")
    shape = struct.unpack(f">{ndim}I", raw[4:header])
    if len(raw) - header != math.prod(shape):
        raise DataError(
            f"{file} says {'x'.join(map(str, shape))} = {math.prod(shape)} bytes, but holds {len(raw) - header}: "
            "fetch it again."
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def parse_pair(files: Mapping[str, bytes], split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Decodes the images (n, 28, 28, 1) and labels (n,) of "train" or "test", and checks one against the other."""
    image_file, label_file = SPLIT_FILES[split]
    image, label = parse(files[image_file], ndim=3, file=image_file), parse(files[label_file], ndim=1, file=label_file)
    if image.shape != (len(label), *IMAGE_SHAPE[:2]) or np.any(label >= NUM_CLASSES):
        raise DataError(
            f"{image_file} and {label_file} hold images of shape {image.shape} and {len(label)} labels up to "
            f"{label.max(initial=0)}, but the images must be 28x28, as many as the labels, and the labels 0 to 9: "
            "fetch both again."
        )
    return image[..., None], label


def _sum_problem(name: str, file: str, content: bytes) -> str | None:
    found, expected = hashlib.sha256(content).hexdigest(), SOURCES[name].sha256[file]
    return None if found == expected else f"its SHA-256 is {found}, expected {expected}"


def read_verified(name: str, folder: Path) -> dict[str, bytes]:
    """Reads the four files of data set `name` from a folder: file name to content, each checked against its SHA-256.

    Raises:
        DataError: a file is missing or has another sum; names the file, and the sums expected and found.
    """
    files = {}
    for file in SOURCES[name].sha256:
        path = folder / file
        try:
            files[file] = path.read_bytes()
        except OSError as error:
            raise DataError(f"dataset={name!r}: cannot read {path} ({error.strerror}). {advice(name)}") from error
        if problem := _sum_problem(name, file, files[file]):
            raise DataError(
                f"dataset={name!r}: {path} is not the official file: {problem}. It is damaged, or belongs to another "
                f"data set with files of the same names. {advice(name)}"
            )
    return files


def advice(name: str) -> str:
    """Says which files to fetch from where, and how to hand them over."""
    source = SOURCES[name]
    return (
        f"To use files that you fetched yourself: get {', '.join(source.sha256)} from {' or '.join(source.mirrors)}, "
        f"put them in FOLDER/{name} or FOLDER, and name FOLDER by --manual-dir (manual_dir=...) or the environment "
        f"variable {MANUAL_DIR_VARIABLE}."
    )


def locate(name: str, manual_dir: str | os.PathLike[str] | None, cache: Path) -> Path:
    """Finds a folder with the four verified files: manual_dir, else $SAEGAN_JAX_MANUAL_DIR, else downloaded to `cache`.

    In the first two, FOLDER/name comes before FOLDER, since the data sets of the family share their file names. They
    are only read.

    Raises:
        DataError: files missing, wrong sums, or no mirror answers; says which files to put where.
    """
    field, given = "manual_dir", manual_dir
    if not given:
        field, given = MANUAL_DIR_VARIABLE, os.environ.get(MANUAL_DIR_VARIABLE)
    if given:
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise DataError(f"{field}={str(given)!r} is not a folder. {advice(name)}")
        folder = folder / name if (folder / name).is_dir() else folder
        read_verified(name, folder)
        return folder
    for file in SOURCES[name].sha256:
        _download(name, file, cache)
    return cache


def _download(name: str, file: str, cache: Path) -> None:
    target = cache / file
    if target.is_file() and not _sum_problem(name, file, target.read_bytes()):
        return
    failures = []
    for mirror in SOURCES[name].mirrors:
        try:
            with urllib.request.urlopen(mirror + file, timeout=TIMEOUT_SECONDS) as response:
                content = response.read()
        except (OSError, http.client.HTTPException) as error:  # refused, unknown host, 404, too slow, cut: the next one
            failures.append(f"{mirror}{file}: {error}")
            continue
        if problem := _sum_problem(name, file, content):
            failures.append(f"{mirror}{file}: {problem}")
            continue
        write_bytes(target, content)  # whole or not at all: two downloads at once cannot mix
        return
    raise DataError(f"dataset={name!r}: could not download {file} ({'; '.join(failures)}). {advice(name)}")
