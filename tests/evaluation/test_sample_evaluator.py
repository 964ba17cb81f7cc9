"""The evaluation of a generator while it trains, against the same measures taken by hand."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.data import Dataset, Split
from saegan_jax.evaluation import sample_evaluator as module
from saegan_jax.evaluation.sample_evaluator import sample_evaluator
from saegan_jax.evaluation.sample_quality import class_balance
from saegan_jax.metrics import frechet_distance, neighbour_metrics
from saegan_jax.training.systems import draw

SHAPE = (4, 4, 1)


def split(n: int, seed: int) -> Split:
    """Images of four classes, one quarter of the pixels brighter in each."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, n).astype(np.int32)
    image = rng.integers(0, 100, (n, *SHAPE))
    image[np.arange(n), label] += 150
    return Split(image.astype(np.uint8), label)


DATA = Dataset("rows", split(60, 0), split(40, 1), split(20, 2), num_classes=4)


def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows' brightness: logits, and without one of them features."""
    images = np.asarray(images)
    rows = (images / 255 if images.dtype == np.uint8 else images).mean(axis=(2, 3)).astype(np.float32)
    return rows, rows[:, :3]


NETWORK: Any = SimpleNamespace(trained=True, run=run, features=lambda images: run(images)[1])


def sample(state: Any, key: jax.Array, n: int) -> jax.Array:
    """Noise, and one row that the state makes bright."""
    row = jnp.arange(4).reshape(1, 4, 1, 1) == jax.random.randint(key, (n, 1, 1, 1), 0, state["classes"])
    return jax.random.uniform(key, (n, *SHAPE)) * 0.4 + 0.6 * row.astype(jnp.float32) * state["bright"]


ALGORITHM: Any = Algorithm(lambda key: None, lambda state, batch: (state, None), sample)


def state(bright: float, classes: int = 4) -> Any:
    return {"bright": jnp.full((), bright), "classes": jnp.full((), classes, jnp.int32)}


def stacked(*states: Any) -> Any:
    return jax.tree.map(lambda *values: jnp.stack(values), *states)


def by_hand(images: np.ndarray, chosen: np.ndarray) -> dict[str, float]:
    (logits, features), reference = run(images), run(chosen)[1]
    return {
        "frechet": frechet_distance(reference, features),
        "class_balance_kl": class_balance(logits.argmax(axis=1), DATA),
        "recall": neighbour_metrics(reference, features).recall,
    }


@pytest.mark.parametrize("most", [1000, 25])
def test_scores_and_floors_are_those_measures_of_few_samples(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SAMPLES", most)
    n = min(most, 40)  # as many as there are validation images
    evaluate = sample_evaluator(NETWORK, DATA, ALGORITHM, n_seeds=2, seed=3)
    members = stacked(state(1.0), state(0.5, classes=1))
    values, floors = evaluate(100, members)
    chosen = DATA.validation.image[np.random.default_rng(0).permutation(40)[:n]]
    images = draw(ALGORITHM, members, seed=3, n=n, n_seeds=2)
    for member in range(2):
        want = by_hand(images[member], chosen)
        assert {name: value[member] for name, value in values.items()} == pytest.approx(want, rel=1e-5)
    real = by_hand(DATA.train.image[np.random.default_rng(1).permutation(60)[:n]], chosen)
    assert floors == pytest.approx(real, rel=1e-5)
    # A generator of one class shows.
    assert values["class_balance_kl"][1] > 10 * values["class_balance_kl"][0]
    assert values["frechet"][1] > values["frechet"][0] > floors["frechet"] > 0
    # The same latents at every evaluation, and other ones with another seed.
    assert evaluate(200, members).values == values
    assert sample_evaluator(NETWORK, DATA, ALGORITHM, n_seeds=2, seed=4)(100, members).values != values


def test_one_member_has_lists_of_one() -> None:
    values, _ = sample_evaluator(NETWORK, DATA, ALGORITHM, n_seeds=1, seed=3)(100, state(1.0))
    both, _ = sample_evaluator(NETWORK, DATA, ALGORITHM, n_seeds=2, seed=3)(100, stacked(state(1.0), state(0.5)))
    assert {len(value) for value in values.values()} == {1}
    for name, value in values.items():
        assert value[0] == pytest.approx(both[name][0], rel=1e-5)


def test_a_member_that_has_failed_scores_nan_and_the_other_as_ever() -> None:
    evaluate = sample_evaluator(NETWORK, DATA, ALGORITHM, n_seeds=2, seed=3)
    sound = evaluate(100, stacked(state(0.7), state(1.0))).values
    values = evaluate(100, stacked(state(float("nan")), state(1.0))).values
    assert set(values) == {"frechet", "class_balance_kl", "recall"}
    for name, (failed, other) in values.items():
        assert np.isnan(failed)
        assert other == sound[name][1]
