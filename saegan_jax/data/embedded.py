"""The data set that ships with a dependency: scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np

from saegan_jax.data.dataset import Dataset, Split, hold_out

DIGITS_SHAPE = (8, 8, 1)


def digits() -> Dataset:
    """1,797 handwritten digits of 8x8 grey levels: 1,297 train, 250 validation, 250 test, stratified by class.

    Values 0..16 become round(255 v / 16), halves up, as uint8; 17 levels remain. Writers are mixed over the splits, as
    the file does not name them. Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998).
    """
    from sklearn.datasets import load_digits  # 0.8 s to import: only for those who ask for it

    raw = load_digits()
    image = (raw.images.astype(np.int32)[..., None] * 255 + 8) // 16
    rest, test = hold_out(Split(image.astype(np.uint8), raw.target.astype(np.int32)), 250)
    train, validation = hold_out(rest, 250)
    return Dataset("digits", train, validation, test, num_classes=10)
