"""TFDS builders of the MNIST family that need no TensorFlow. Import late: this module imports tensorflow_datasets.

The stock builders un-gzip with TensorFlow and encode images as PNG with it. These read the verified IDX files by NumPy
and store raw bytes (`encoding="bytes"`; TFDS's default for a Tensor is a list of varints, which took twice the time to
prepare and a quarter more to read). Records keep the official order (`disable_shuffling`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from numpy.typing import NDArray

from saegan_jax.data import idx


class SaeganMnist(tfds.core.GeneratorBasedBuilder):
    """MNIST (LeCun, Cortes and Burges): 60,000 train and 10,000 test images, as TFDS data set `saegan_mnist`."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The four gz files; saegan_jax.data.load finds or fetches them."
    SOURCE = "mnist"
    HOMEPAGE = "http://yann.lecun.com/exdb/mnist/"

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.SOURCE}, raw bytes in the official order.",
            homepage=self.HOMEPAGE,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=idx.IMAGE_SHAPE, dtype=np.uint8, encoding="bytes"),
                    "label": tfds.features.ClassLabel(num_classes=idx.NUM_CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        files = idx.read_verified(self.SOURCE, Path(dl_manager.manual_dir))
        return {split: self._generate_examples(*idx.parse_pair(files, split)) for split in idx.SPLIT_FILES}

    def _generate_examples(
        self, image: NDArray[np.uint8], label: NDArray[np.uint8]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in range(len(label)):
            yield i, {"image": image[i], "label": int(label[i])}


class SaeganFashionMnist(SaeganMnist):
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017), as TFDS data set `saegan_fashion_mnist`."""

    SOURCE = "fashion_mnist"
    HOMEPAGE = "https://github.com/zalandoresearch/fashion-mnist"


class SaeganKmnist(SaeganMnist):
    """Kuzushiji-MNIST (Clanuwat et al., 2018), as TFDS data set `saegan_kmnist`."""

    SOURCE = "kmnist"
    HOMEPAGE = "http://codh.rois.ac.jp/kmnist/"


BUILDERS: dict[str, type[SaeganMnist]] = {cls.SOURCE: cls for cls in (SaeganMnist, SaeganFashionMnist, SaeganKmnist)}
