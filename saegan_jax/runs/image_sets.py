"""Sets of images that a command line names: a folder, an .npz, or a data set."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from saegan_jax.data import load
from saegan_jax.data.folder import read_folder
from saegan_jax.errors import ConfigError, require

FOLDER = "folder:"
NPZ = ".npz"


class ImageSet(NamedTuple):
    """Images and what is known of them.

    Attributes:
      images: ``(n, height, width[, channels])`` as they were stored.
      labels: ``(n,)`` int32, or None.
      classes: names, by label; empty where they have none.
    """

    images: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]


def read_images(
    name: str,
    field: str,
    *,
    image_size: int | None = None,
    manual_dir: Path | None = None,
    data_dir: Path | None = None,
) -> ImageSet:
    """The set that ``name`` names.

    Args:
      name: ``folder:PATH``, a path that ends in ``.npz``, or a data set, of which the training images are taken.
      field: the option that named it, for messages.
      image_size: images of a folder are resized to it.
      manual_dir, data_dir: see :func:`saegan_jax.data.load`.

    Raises:
      ConfigError: no such file, one that is no ``.npz`` or holds no images.
      DataError: see :func:`saegan_jax.data.load` and :func:`saegan_jax.data.folder.read_folder`.
    """
    if name.startswith(FOLDER):
        path = name.removeprefix(FOLDER)
        require(bool(path), field, name, "name the folder after the colon, as in folder:samples.")
        found = read_folder(path, image_size=image_size)
        if found.image.shape[-1] == 4:
            found = read_folder(path, image_size=image_size, channels=3)
        return ImageSet(found.image, found.label, found.classes)
    if name.endswith(NPZ):
        return _read_npz(Path(name), field)
    dataset = load(name, manual_dir=manual_dir, data_dir=data_dir)
    return ImageSet(dataset.train.image, dataset.train.label if dataset.labelled else None, dataset.classes)


def _read_npz(path: Path, field: str) -> ImageSet:
    """Arrays ``images`` and, where they are, ``labels``; or the only array of the file."""
    try:
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files if key in ("images", "labels") or len(file.files) == 1}
            names = ", ".join(file.files)
    except FileNotFoundError:
        raise ConfigError(
            field, str(path), "there is no such file; give an .npz, folder:PATH, or a data set."
        ) from None
    except Exception as error:  # a damaged file makes NumPy and zipfile raise nearly anything
        fix = f"it cannot be read as an .npz ({type(error).__name__}: {error})."
        raise ConfigError(field, str(path), fix) from None
    fix = f"it holds {names or 'nothing'}; call the array of images `images`, as `saegan sample` does."
    require("images" in arrays or len(arrays) == 1, field, str(path), fix)
    images = arrays["images"] if "images" in arrays else next(iter(arrays.values()))
    labels = arrays.get("labels") if "images" in arrays else None
    return ImageSet(images, labels, ())
