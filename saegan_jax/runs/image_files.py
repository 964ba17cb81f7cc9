"""Options of every command that loads a data set: how image files are read, and where data sets lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from saegan_jax.data.folder import LARGEST_SIDE
from saegan_jax.errors import require
from saegan_jax.runs.checks import check_options


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """How image files are read, and where data sets lie."""

    image_size: int | None = None
    """Of folder:PATH: pixels to which the images' shorter side is resized, and the longer one cropped about the centre."""
    channels: Literal[1, 3, 4] | None = None
    """Of folder:PATH: 1 (grey), 3 (RGB) or 4 (RGBA), which all images get; by default the least that holds them all."""
    max_skipped: int | None = None
    """Of folder:PATH: files that may be damaged and are left out; by default 10, or a twentieth of them if that is more."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""

    def __post_init__(self) -> None:
        check_options(self)
        if self.image_size is not None:
            fix = f"it is a side in pixels, from 1 to {LARGEST_SIDE}."
            require(1 <= self.image_size <= LARGEST_SIDE, "image_size", self.image_size, fix)
        if self.max_skipped is not None:
            require(self.max_skipped >= 0, "max_skipped", self.max_skipped, "it is a number of files, zero or more.")

    @property
    def image_files(self) -> dict[str, Any]:
        """What :func:`saegan_jax.data.load` is told of image files."""
        return {"image_size": self.image_size, "channels": self.channels, "max_skipped": self.max_skipped}
