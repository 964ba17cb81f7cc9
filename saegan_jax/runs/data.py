"""Data sets from the command line: which there are, and what one of them holds."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from saegan_jax.data import Dataset, load
from saegan_jax.data.registry import VECTORS
from saegan_jax.data.tfds_source import BUILT_IN
from saegan_jax.data.vector_dataset import VectorDataset, vector_dataset
from saegan_jax.data.vectors import open_vectors
from saegan_jax.errors import ConfigError, require, require_choice
from saegan_jax.report import image_grid
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.image_files import ImageFiles

ACTIONS = ("list", "inspect", "prepare")
SHOWN = 64
MOST_CLASSES = 20
BLOCK = 1024
"""Images counted at a time."""


@dataclass(frozen=True, kw_only=True)
class DataOptions(ImageFiles):
    """List the data sets there are, or load one and say what it holds; `prepare` does that for a set that is downloaded."""

    action: Literal["list", "inspect", "prepare"]
    """What to do."""
    dataset: str = "digits"
    """As for trainings: a name, folder:PATH or vectors:PATH."""
    out: Path | None = None
    """PNG to write, with 64 training images of all classes by turns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("action", self.action, ACTIONS)
        if self.dataset.startswith(VECTORS):
            for name, value in {**self.image_files, "out": self.out}.items():
                require(value is None, name, value, "it is for images, and these are vectors; leave it out.")
        fix = "a picture is a PNG; name a file that ends in .png."
        require(self.out is None or self.out.suffix == ".png", "out", str(self.out), fix)


def prepared(data_dir: Path | None) -> list[str]:
    """Names of the data sets that TFDS has prepared in a folder."""
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets").expanduser()
    found = {
        info.parent.relative_to(root) for depth in ("*/*", "*/*/*") for info in root.glob(f"{depth}/dataset_info.json")
    }
    return sorted(f"{name.parent.as_posix()}:{name.name}" for name in found)


def list_data(options: DataOptions, console: Console) -> None:
    """What `--dataset` takes here."""
    purposes = {
        "digits": "8x8x1, embedded",
        "shapes": "32x32x3, drawn from six known factors, embedded",
        **dict.fromkeys(BUILT_IN[2:], "28x28x1, downloaded or from --manual-dir"),
        **dict.fromkeys(prepared(options.data_dir), "prepared here"),
        "folder:PATH": "your own images",
        "vectors:PATH": "your own vectors, for `saegan train sae`",
        "NAME": "any image classification set of TFDS, such as cifar10 or svhn_cropped",
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, purpose in purposes.items():
        table.add_row(Text(name), Text(purpose))
    console.print(table)


def inspect_images(dataset: Dataset, out: Path | None, console: Console) -> None:
    """Shapes, splits, classes, pixels, copies, and a picture."""
    for note in () if dataset.origin is None else dataset.origin.notes:
        console.print(Text(note), soft_wrap=True)
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    sizes = ", ".join(f"{len(split.label):,} {name}" for name, split in splits.items())
    height, width, channels = dataset.image_shape
    console.print(Text(f"{dataset.name}: {height}x{width}x{channels}, {sizes}"), soft_wrap=True)
    if dataset.labelled:
        names = dataset.class_names
        table = Table("class", *splits, box=None, pad_edge=False)
        counts = [np.bincount(split.label, minlength=dataset.num_classes) for split in splits.values()]
        for i, name in enumerate(names[:MOST_CLASSES]):
            table.add_row(Text(name), *(f"{count[i]:,}" for count in counts))
        console.print(table)
        if len(names) > MOST_CLASSES:
            console.print(f"and {len(names) - MOST_CLASSES:,} more classes")
    for c, counts in enumerate(_levels(dataset.train.image)):
        level, share = np.arange(256), counts / counts.sum()
        mean, found = share @ level, np.flatnonzero(counts)
        std = np.sqrt(share @ (level - mean) ** 2)
        console.print(
            f"channel {c}: mean {mean:.1f}, standard deviation {std:.1f}, from {found[0]} to {found[-1]} (training images)"
        )
    seen = {_digest(image) for image in dataset.train.image}
    copies = sum(_digest(image) in seen for image in dataset.test.image)
    twice = len(dataset.train.image) - len(seen)
    console.print(f"copies: {twice:,} training images of others, {copies:,} test images of training images")
    if out is not None:
        by_turns = np.lexsort((dataset.train.label, _turn(dataset.train.label)))[:SHOWN]
        console.print(Text(f"picture: {image_grid(dataset.train.image[by_turns], out)}"), soft_wrap=True)


def _levels(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many pixels of each channel have which level: ``(c, 256)``."""
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), BLOCK):  # bincount has a copy of eight bytes a pixel
        for c, of_channel in enumerate(counts):
            of_channel += np.bincount(images[start : start + BLOCK, ..., c].reshape(-1), minlength=256)
    return counts


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def _turn(label: np.ndarray) -> np.ndarray:
    """Of every example, how many of its class come before it: ``(n,)``."""
    order = np.argsort(label, kind="stable")
    first = np.searchsorted(label[order], label[order])
    turn = np.empty(len(label), np.int64)
    turn[order] = np.arange(len(label)) - first
    return turn


def inspect_vectors(dataset: VectorDataset, console: Console) -> None:
    """Numbers, width, scale, and how much of a vector is the mean of all."""
    for note in dataset.origin.notes:
        console.print(Text(note), soft_wrap=True)
    held = np.asarray(dataset.test.image, np.float32).reshape(len(dataset.test.label), -1)
    raw = dataset.normalisation.undo(held)
    norms, spread = np.linalg.norm(raw, axis=1), raw.std(axis=0)
    console.print(
        f"norm: mean {norms.mean():.4g}, from {norms.min():.4g} to {norms.max():.4g} ({len(held):,} test vectors)"
    )
    console.print(f"coordinates that never vary: {int((spread == 0).sum()):,} of {raw.shape[1]:,}")


def run(options: DataOptions) -> None:
    """Do what is asked."""
    console = Console(highlight=False)
    if options.action == "list":
        list_data(options, console)
        return
    if options.dataset.startswith(VECTORS):
        inspect_vectors(vector_dataset(open_vectors(options.dataset.removeprefix(VECTORS))), console)
        return
    dataset = load(options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir, **options.image_files)
    inspect_images(dataset, options.out, console)


def parse_options(arguments: Sequence[str] | None = None) -> DataOptions:
    """The command line as options: the action first."""
    words = list(arguments or ())
    if not words:
        raise ConfigError("action", "", f"say what to do: saegan data {{{','.join(ACTIONS)}}}.")
    if words[0] not in ("--help", "--help-all", "-h"):
        require_choice("action", words[0], ACTIONS)
    action = [] if words[0].startswith("-") else ["--action", words.pop(0)]
    return read_options(DataOptions, [*action, *words])
