"""The data set that ships with a dependency: scikit-learn's handwritten digits."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from saegan_jax.data.dataset import Dataset, Split, hold_out

DIGITS_SHAPE = (8, 8, 1)
SHIPPED = "datasets/data/digits.csv.gz"  # inside scikit-learn


def _table() -> np.ndarray:
    """``(1797, 65)``: 64 levels from 0 to 16 and the class."""
    # Importing scikit-learn's data sets takes .7 s, a third of what the main job needs from the command to its first steps,
    # so the file is read where it lies; should it move, the function that knows is asked.
    found = find_spec("sklearn")
    for folder in (found.submodule_search_locations or []) if found else []:
        if (file := Path(folder, SHIPPED)).exists():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    raw = load_digits()
    return np.column_stack([raw.data, raw.target])


def digits() -> Dataset:
    """1,797 handwritten digits of 8x8 grey levels: 1,297 train, 250 validation, 250 test, stratified by class.

    Values 0..16 become round(255 v / 16), halves up, as uint8; 17 levels remain. Writers are mixed over the splits, as
    the file does not name them. Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998).
    """
    table = _table().astype(np.int32)
    image = (table[:, :-1].reshape(-1, *DIGITS_SHAPE) * 255 + 8) // 16
    rest, test = hold_out(Split(image.astype(np.uint8), table[:, -1]), 250)
    train, validation = hold_out(rest, 250)
    return Dataset("digits", train, validation, test, num_classes=10)
