"""Scores of translations between two domains: labels kept, errors, and how robust the cycle is."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.cyclegan import Direction
from saegan_jax.algorithms.cyclegan.config import other
from saegan_jax.data.domains import Domains
from saegan_jax.evaluation.features import FeatureNetwork, FeatureRecipe, load_feature_network
from saegan_jax.images import to_unit_float
from saegan_jax.metrics.cycle_robustness import BITS, SIGMAS, cycle_robustness, paired_error
from saegan_jax.runs.scores import row
from saegan_jax.training.members import members_of

SCORED = 1000  # test images a domain
NAMES: Mapping[Direction, str] = {"ab": "A to B", "ba": "B to A"}
NOISE_SEED = 0


class Labellers(NamedTuple):
    """Classifiers of images ``(n, h, w, c)`` in [0, 1] by domain, ``a`` and ``b``, and what the table says of them."""

    of: Mapping[str, Callable[[np.ndarray], np.ndarray]]
    note: str


def scorers(domains: Domains) -> dict[str, FeatureNetwork]:
    """A classifier of each domain, ``a`` and ``b``, trained on its labels and cached."""
    small = FeatureRecipe(epochs=40, batch_size=64)
    return {"a": load_feature_network(domains.a), "b": load_feature_network(domains.b, recipe=small)}


def labellers(domains: Domains) -> Labellers:
    """Where the map is known, the classifier of the source data for both, after undoing the map; else one of each domain."""
    undo = domains.to_a
    if domains.source is not None and undo is not None:
        network = load_feature_network(domains.source)
        return Labellers(
            {
                "a": network.predict_labels,
                "b": lambda images: network.predict_labels(np.ascontiguousarray(undo(images))),
            },
            f"classifier {network.hash[:8]}, accuracy {network.accuracy:.4f}, true map undone",
        )
    networks = scorers(domains)
    known = ", ".join(f"{network.hash[:8]} {network.accuracy:.4f}" for network in networks.values())
    return Labellers({name: network.predict_labels for name, network in networks.items()}, f"classifiers {known}")


def label_kept(images: np.ndarray, label: np.ndarray, reader: Callable[[np.ndarray], np.ndarray]) -> float:
    """The share of ``images (n, h, w, c)`` that ``reader`` gives their ``label (n,)``; NaN where images are not finite."""
    return float(np.mean(reader(images) == label)) if np.isfinite(images).all() else float("nan")


class Cycled(NamedTuple):
    """Test images of one direction: source, translation, and back again, ``(n, h, w, c)`` in [0, 1]."""

    source: np.ndarray
    there: np.ndarray
    back: np.ndarray


@functools.partial(jax.jit, static_argnames=("algorithm", "direction"))
def translate_images(state: Any, images: jax.Array, *, algorithm: Algorithm, direction: Direction) -> jax.Array:
    """``(n, h, w, c)`` in [0, 1] to the same of the other domain, compiled once a state's shape."""
    assert algorithm.translate is not None
    return algorithm.translate(state, images, direction)


def cycled(algorithm: Algorithm, state: Any, images: jax.Array, direction: Direction) -> Cycled:
    """Translate, and translate back."""
    there = translate_images(state, images, algorithm=algorithm, direction=direction)
    back = translate_images(state, there, algorithm=algorithm, direction=other(direction))
    return Cycled(*(np.asarray(x) for x in (images, there, back)))


class Held(NamedTuple):
    """What is scored in one direction: source images and labels, and the true counterparts or None."""

    image: jax.Array
    label: np.ndarray
    truth: jax.Array | None


def held_out(
    domains: Domains,
    direction: Direction,
    *,
    n: int = SCORED,
    seed: int = 0,
    split: Literal["validation", "test"] = "test",
) -> Held:
    """At most ``n`` images of the source domain's split, those that ``seed`` chooses, with their counterparts."""
    source, target = (getattr(domains.both[letter], split) for letter in direction)
    chosen = np.random.default_rng(seed).permutation(len(source.label))[:n]
    truth = None if domains.to_b is None else to_unit_float(jnp.asarray(target.image[chosen]))
    return Held(to_unit_float(jnp.asarray(source.image[chosen])), source.label[chosen], truth)


def on_host(function: Callable[[Any], Any]) -> Callable[[jax.Array], jax.Array]:
    """A NumPy function of images as one of jax arrays."""
    return lambda images: jnp.asarray(np.ascontiguousarray(function(np.asarray(images))))


class Scored(NamedTuple):
    """Rows of the closing table, and the curves of the cycle's robustness: by name, seeds first."""

    rows: dict[str, dict[str, Any]]
    robustness: dict[str, dict[str, list[Any]]]


def scores(
    domains: Domains, algorithm: Algorithm, state: Any, *, n_seeds: int, name: str, label_of: Labellers | None
) -> Scored:
    """Score every member on test images of both domains."""
    rows: dict[str, dict[str, Any]] = {}
    curves: dict[str, list[dict[str, list[float]]]] = {name: []}
    members = members_of(state, n_seeds)
    for direction, arrow in NAMES.items():
        held = held_out(domains, direction)
        results = [cycled(algorithm, member, held.image, direction) for member in members]
        if label_of is not None:
            source, target = (label_of.of[letter] for letter in direction)
            values = [label_kept(r.there, held.label, target) for r in results]
            ceiling, untouched = (label_kept(np.asarray(held.image), held.label, of) for of in (source, target))
            note = f"{label_of.note}; of the sources themselves {ceiling:.3f}, left untranslated {untouched:.3f}"
            rows[f"label kept, {arrow}"] = row(values, "share", note, floor=ceiling)
        if held.truth is not None:
            truth = held.truth
            constant = float(paired_error(truth, jnp.broadcast_to(truth.mean(axis=0)[None], truth.shape)).mean())
            values = [float(paired_error(truth, jnp.asarray(r.there)).mean()) for r in results]
            note = f"to the true counterpart, never shown; of their mean image {constant:.3f}"
            rows[f"paired error, {arrow}"] = row(values, "|pixel|", note)
        errors = [float(paired_error(held.image, jnp.asarray(r.back)).mean()) for r in results]
        rows[f"cycle error, {arrow} and back"] = row(errors, "|pixel|", f"{len(held.label)} test images")
        if algorithm.codes is not None:
            active = [
                np.mean(np.sum(np.asarray(algorithm.codes(m, held.image, direction)) > 0, axis=-1)) for m in members
            ]
            rows[f"code L0, {arrow}"] = row(active, "units", "active codes a translation is drawn from")
        for i, member in enumerate(members):
            curve = cycle_robustness(
                functools.partial(translate_images, member, algorithm=algorithm, direction=direction),
                functools.partial(translate_images, member, algorithm=algorithm, direction=other(direction)),
                held.image,
                jax.random.key(NOISE_SEED),
            )
            if direction == "ab":
                curves[name].append({})
            curves[name][i][direction] = [float(curve.clean), *map(float, curve.quantised), *map(float, curve.noisy)]
        if domains.to_b is not None and domains.to_a is not None:
            there, back = (domains.to_b, domains.to_a) if direction == "ab" else (domains.to_a, domains.to_b)
            curve = cycle_robustness(on_host(there), on_host(back), held.image, jax.random.key(NOISE_SEED))
            exact = curves.setdefault("the true map", [{}])
            exact[0][direction] = [float(curve.clean), *map(float, curve.quantised), *map(float, curve.noisy)]
    n = len(BITS)
    robustness: dict[str, dict[str, list[Any]]] = {}
    for arm, found in curves.items():
        both = np.array([[one[d] for d in NAMES] for one in found]).mean(axis=1)  # (seeds, curve)
        robustness[arm] = {
            "clean": both[:, 0].tolist(), "quantised": both[:, 1 : n + 1].tolist(), "noisy": both[:, n + 1 :].tolist(),
            **{d: [one[d] for one in found] for d in NAMES},
        }  # fmt: skip
    own = np.array(robustness[name]["quantised"]), np.array(robustness[name]["noisy"])
    for bits in (8, 4, 1):
        rows[f"cycle error, middle in {bits} bits"] = row(own[0][:, BITS.index(bits)], "|pixel|", "both directions")
    for sigma in (0.01, 0.05, 0.2):
        rows[f"cycle error, middle + noise {sigma}"] = row(own[1][:, SIGMAS.index(sigma)], "|pixel|", "both directions")
    return Scored(rows, robustness)
