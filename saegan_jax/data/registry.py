"""`load`: one name to one data set."""

from __future__ import annotations

import os

from saegan_jax.data import embedded, idx, tfds_source
from saegan_jax.data.dataset import DataError, Dataset, check_size
from saegan_jax.data.folder_dataset import load_folder
from saegan_jax.data.shapes import SIDE, shapes
from saegan_jax.files import is_remote

FOLDER, VECTORS = "folder:", "vectors:"


def load(
    name: str,
    *,
    manual_dir: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    size: int | tuple[int, int] | None = None,
    in_memory: int | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    max_skipped: int | None = None,
) -> Dataset:
    """Loads a labelled image data set into host memory: uint8 (n, h, w, c) and int32 (n,) per split.

    Args:
        name: "digits" (8x8, embedded: 1,297/250/250 train/validation/test); "shapes" (32x32x3, drawn from six known factors:
            10,000/1,000/1,000); "mnist", "fashion_mnist" or "kmnist"
            (28x28, 55,000/5,000/10,000; no TensorFlow); any other TFDS image-classification set, by `name`,
            `name/config` or `name:version`, which needs TensorFlow (`pip install "saegan_jax[prepare]"`) if it is not
            prepared yet; "folder:PATH", a folder of image files, see :func:`saegan_jax.data.folder_dataset.load_folder`.
        manual_dir: a folder with the MNIST family's gz files, only read; else $SAEGAN_JAX_MANUAL_DIR; else they are
            downloaded. Not needed once prepared.
        data_dir: where prepared data sets are; else $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        size: the images' height and width in pixels, if the caller depends on it (one number for a square).
        in_memory: bytes that the training images may take in memory; of more, a sample is read, and `Dataset.source` reads
            all of them from disk as they are needed (not of the embedded digits, which are in memory in any case).
        image_size, channels, max_skipped: of "folder:PATH" alone, see :func:`saegan_jax.data.folder.read_folder`.

    Splits are the same for ever: the official test split where there is one, the others held out by `hold_out`.

    Raises:
        DataError (a ValueError): an unknown name, another size, files missing or damaged, or a set that cannot be
            prepared; names the field, the value and the fix.
    """
    for field, folder in (("manual_dir", manual_dir), ("data_dir", data_dir)):
        if folder is not None and is_remote(folder):
            raise DataError(f"{field}={str(folder)!r} is not on this machine: copy the data here and name that folder.")
    own = {"image_size": image_size, "channels": channels, "max_skipped": max_skipped}
    if isinstance(name, str) and name.startswith(FOLDER):
        found = load_folder(name.removeprefix(FOLDER), in_memory=in_memory, **own)
        check_size(found.name, found.image_shape, size)
        return found
    if isinstance(name, str) and name.startswith(VECTORS):
        raise DataError(f"dataset={name!r} has vectors, which are no images: `saegan train sae` alone takes them.")
    for field, value in own.items():
        if value is not None:
            raise DataError(
                f"{field}={value!r} is for --dataset folder:PATH alone, and not for {name!r}: leave it out."
            )
    if name == "digits":
        check_size(name, embedded.DIGITS_SHAPE, size)
        return embedded.digits()
    if name == "shapes":
        check_size(name, (SIDE, SIDE), size)
        return shapes()
    if name in idx.SOURCES:
        check_size(name, idx.IMAGE_SHAPE, size)
        return tfds_source.load_idx(name, manual_dir=manual_dir, data_dir=data_dir, in_memory=in_memory)
    return tfds_source.load_tfds(name, manual_dir=manual_dir, data_dir=data_dir, size=size, in_memory=in_memory)
