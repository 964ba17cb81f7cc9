"""Train the classifier in whose features samples are scored, or find it, and say how good it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.text import Text

from saegan_jax.data import load
from saegan_jax.evaluation.features import load_feature_network
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import main


@dataclass(frozen=True, kw_only=True)
class TrainFeatures:
    """Train the feature network of a labelled data set, or find the trained one, and say how good it is.

    Nobody has to: scoring samples trains the networks of seeds 0 and 1 when they are needed, which takes minutes where
    images are 28x28. This does it beforehand, or with another seed. Every Frechet distance holds for one network, so the
    hash printed here goes with it. The condition number is that of the covariance of the standardised features of the
    test images, largest over smallest eigenvalue: infinite if a feature is constant or a copy of others.
    """

    dataset: str = "digits"
    """digits (8x8, embedded), mnist (28x28), fashion_mnist, kmnist, or any prepared TFDS image data set."""
    seed: int = 0
    """Seed of the training; samples are scored with 0, and once more with 1."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    cache_dir: Path | None = None
    """Folder of trained feature networks; by default $SAEGAN_JAX_CACHE, else ~/.cache/saegan_jax."""

    def __post_init__(self) -> None:
        check_options(self)


def run(options: TrainFeatures) -> None:
    """Train or find, measure, print."""
    dataset = load(options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir)
    network = load_feature_network(dataset, seed=options.seed, cache_dir=options.cache_dir)
    features = network.features(dataset.test.image).astype(np.float64)
    eigenvalues = np.linalg.eigvalsh(np.atleast_2d(np.cov(features.T)))
    # Rounding leaves the zero eigenvalue of a constant feature a little beside 0, on either side.
    singular = eigenvalues[0] <= eigenvalues[-1] * len(eigenvalues) * np.finfo(np.float64).eps
    condition = float("inf") if singular else eigenvalues[-1] / eigenvalues[0]
    parameters = sum(leaf.size for leaf in jax.tree.leaves(network.params))
    lines = {
        "data set": f"{dataset.name}, seed {options.seed}",
        "file": network.file,
        "hash": network.hash,
        "test accuracy": f"{network.accuracy:.4f} on {len(dataset.test.label)} images",
        "parameters": f"{parameters:,}",
        "features": network.config.feature_dim,
        "condition number": f"{condition:.3g}",
    }
    Console().print(Text("\n".join(f"{name:<17} {value}" for name, value in lines.items())), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> TrainFeatures:
    """The command line as options."""
    return read_options(TrainFeatures, arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
