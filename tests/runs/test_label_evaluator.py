"""Labels kept while a CycleGAN trains: of validation images, by the target domain's classifier, for every member."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.data import Dataset, Split
from saegan_jax.data.domains import Domains
from saegan_jax.runs.label_evaluator import label_evaluator
from saegan_jax.runs.translations import Labellers

SHAPE = (2, 2, 1)


def split(n: int, seed: int) -> Split:
    """Two classes: dark and bright images."""
    label = np.random.default_rng(seed).integers(0, 2, n).astype(np.int32)
    return Split((np.ones((n, *SHAPE)) * (50 + 150 * label.reshape(-1, 1, 1, 1))).astype(np.uint8), label)


def domain(name: str, seed: int) -> Dataset:
    return Dataset(name, split(20, seed), split(30, seed + 1), split(10, seed + 2), num_classes=2)


def bright(images: np.ndarray) -> np.ndarray:
    return (np.asarray(images).mean(axis=(1, 2, 3)) > 0.5).astype(np.int32)


def dark(images: np.ndarray) -> np.ndarray:
    return 1 - bright(images)


def translate(state: Any, images: jax.Array, direction: str) -> jax.Array:
    """Inverts where the state says so from A to B, and always from B to A."""
    inverted = 1 - images
    return jnp.where(state["inverts"], inverted, images) if direction == "ab" else inverted


ALGORITHM: Any = Algorithm(lambda key: None, lambda state, batch: (state, None), translate=translate)
DOMAINS = Domains("two", domain("a", 0), domain("b", 10))


@pytest.mark.parametrize("members", [1, 2])
def test_each_direction_is_read_by_the_classifier_of_its_target(members: int) -> None:
    # B's labels are those of inverted images, so that inverting keeps labels from A to B.
    score = label_evaluator(DOMAINS, ALGORITHM, Labellers(bright, dark, ""), n_seeds=members)
    state = {"inverts": jnp.asarray([True, False][:members])}
    found = score(5, state if members == 2 else {"inverts": jnp.asarray(True)})
    assert found.values["label_kept_ab"] == [1.0, 0.0][:members]
    # Sources of B are labelled by their brightness, which the classifier of A sees inverted.
    assert found.values["label_kept_ba"] == [0.0] * members
    assert found.floors == {"label_kept_ab": 1.0, "label_kept_ba": 0.0}


def test_a_member_that_failed_is_nan() -> None:
    algorithm: Any = ALGORITHM._replace(translate=lambda state, images, direction: images * state["scale"])
    score = label_evaluator(DOMAINS, algorithm, Labellers(bright, bright, ""), n_seeds=2)
    values = score(1, {"scale": jnp.asarray([1.0, jnp.nan])}).values
    assert values["label_kept_ab"][0] == 1.0
    assert np.isnan(values["label_kept_ab"][1])
