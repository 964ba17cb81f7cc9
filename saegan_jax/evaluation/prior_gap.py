"""What samplers of sparse codes lose: their codes beside held-out ones, decoded and generated images beside real ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.data import Dataset
from saegan_jax.data.dataset import Split
from saegan_jax.evaluation.features import FeatureNetwork
from saegan_jax.evaluation.sample_quality import sample_quality
from saegan_jax.metrics import co_activation_error, l0_error, two_sample_accuracy
from saegan_jax.priors import SAMPLERS, Sampler, fit_prior, sample_prior
from saegan_jax.training.sweep import encode_all
from saegan_jax.training.systems import draw

REFERENCE: Sampler = "bootstrap"
JUDGED = 5000  # codes of each kind that the classifier test takes at most
COLUMNS = 16  # of the pictures
BATCH = 1000
FIT = jax.jit(fit_prior, static_argnames=("sampler", "threshold", "n_clusters", "limit"))  # one program for all members


class Subject(NamedTuple):
    """What is measured.

    Attributes:
      dataset: its data.
      train: the images that the autoencoder was trained on.
      config: of the autoencoder.
      params: one of each member.
      generators: by sampler, the system that draws images from a state; empty where it reads no sparse codes.
      states: of the generator, one of each member.
      trained_with: the sampler that the generator learned with.
    """

    dataset: Dataset
    train: Split
    config: SAEConfig
    params: Sequence[Any]
    generators: Mapping[str, Algorithm] = MappingProxyType({})
    states: Sequence[Any] = ()
    trained_with: str = ""


@dataclass(frozen=True, kw_only=True)
class GapSettings:
    """How samplers are compared.

    Attributes:
      samplers: in the order of the table, the reference last, see :func:`ordered`.
      n_clusters: of the mixture of independent units.
      draws: sets of images that a Frechet distance is averaged over.
      seed: of everything.
    """

    samplers: tuple[Sampler, ...]
    n_clusters: int
    draws: int
    seed: int


class Gap(NamedTuple):
    """One sampler of one member: scores and floors by metric, and images ``(kinds, columns, height, width, channels)``."""

    scores: dict[str, float]
    floors: dict[str, float]
    pictures: np.ndarray


class MemberGaps(NamedTuple):
    """One member: scores of each sampler, floors by metric, and pictures of each sampler."""

    scores: dict[str, dict[str, float]]
    floors: dict[str, float]
    pictures: dict[str, np.ndarray]


class Codes(NamedTuple):
    """Codes ``(n, d_sae)`` of training images and of held-out ones, with inactive units at 0, as samplers draw them."""

    train: np.ndarray
    held_out: np.ndarray


def ordered(samplers: Sequence[Sampler]) -> tuple[Sampler, ...]:
    """Those asked for, the reference last."""
    return (*(s for s in SAMPLERS if s in samplers and s != REFERENCE), REFERENCE)


def active_codes(config: SAEConfig, params: Any, images: np.ndarray) -> np.ndarray:
    """Codes ``(n, d_sae)`` of uint8 images with inactive units at 0."""
    codes = encode_all(config, params, jnp.asarray(images))
    return np.where(codes > config.active_above, codes, np.float32(0))


def _batches(n: int, size: int) -> Iterator[tuple[int, int]]:
    """``(index, rows)`` of batches of one compiled size that make up ``n``."""
    yield from ((i, min(size, n - i * size)) for i in range(-(-n // size)))


class Drawer:
    """Draws codes and images of all members: compiled once for each sampler."""

    def __init__(self, subject: Subject) -> None:
        decode = autoencoder(subject.config, image_shape=subject.dataset.image_shape).decode
        self.size = min(BATCH, len(subject.dataset.test.label))
        self._sample = jax.jit(sample_prior, static_argnames=("sampler", "n"))
        self._decode = jax.jit(lambda params, codes: jnp.clip(decode(params, codes), 0.0, 1.0))

    def codes(self, sampler: Sampler, fitted: Any, key: jax.Array, n: int) -> np.ndarray:
        """``(n, d_sae)``."""
        keys = [(jax.random.fold_in(key, i), rows) for i, rows in _batches(n, self.size)]
        parts = [self._sample(sampler, fitted, k, n=self.size)[:rows] for k, rows in keys]
        return np.concatenate([np.asarray(part) for part in parts])

    def distinct(self, sampler: Sampler, fitted: Any, key: jax.Array, n: int) -> np.ndarray:
        """At most ``n`` codes of which none repeats, in the order drawn: repeats would give a bootstrap away."""
        drawn = self.codes(sampler, fitted, key, 2 * n)
        first = np.sort(np.unique(drawn, axis=0, return_index=True)[1])
        return drawn[first[:n]]

    def images(self, params: Any, codes: np.ndarray) -> np.ndarray:
        """``(n, height, width, channels)`` float32 in [0, 1]."""
        padded = np.pad(codes, ((0, -len(codes) % self.size), (0, 0)))
        parts = [np.asarray(self._decode(params, part)) for part in np.split(padded, len(padded) // self.size)]
        return np.concatenate(parts)[: len(codes)]


class Bench(NamedTuple):
    """What the measures of all members share."""

    subject: Subject
    settings: GapSettings
    network: FeatureNetwork
    drawer: Drawer


def compare_codes(
    held_out: np.ndarray, codes: np.ndarray, distinct: np.ndarray, key: jax.Array, *, threshold: float
) -> dict[str, float]:
    """Every measure of ``codes (n, d_sae)`` beside as many held-out ones; the classifier test takes ``distinct`` ones."""
    pairs = co_activation_error(held_out, codes, threshold=threshold)
    return {
        "l0": float((codes > threshold).sum(axis=1).mean()),
        "l0_distance": l0_error(held_out, codes, threshold=threshold).distance,
        "co_activation": pairs.rms,
        "co_activation_share": pairs.rms / pairs.independent if pairs.independent else np.nan,
        "two_sample": two_sample_accuracy(held_out[:JUDGED], distinct, key).accuracy,
    }


def code_scores(bench: Bench, sampler: Sampler, fitted: Any, held_out: np.ndarray, key: jax.Array) -> dict[str, float]:
    """:func:`compare_codes` of a sampler's codes."""
    keys = [jax.random.fold_in(key, i) for i in range(3)]
    codes = bench.drawer.codes(sampler, fitted, keys[0], len(held_out))
    distinct = bench.drawer.distinct(sampler, fitted, keys[1], min(JUDGED, len(held_out)))
    return compare_codes(held_out, codes, distinct, keys[2], threshold=bench.subject.config.active_above)


def code_floors(held_out: np.ndarray, train: np.ndarray, key: jax.Array, *, threshold: float) -> dict[str, float]:
    """:func:`compare_codes` of as many training codes as there are held-out ones, with the L0 of the latter."""
    floors = compare_codes(held_out, train, train[:JUDGED], key, threshold=threshold)
    return floors | {"l0": float((held_out > threshold).sum(axis=1).mean())}


def frechet(network: FeatureNetwork, dataset: Dataset, sets: Sequence[np.ndarray]) -> tuple[float, float]:
    """``(mean distance over sets of images, floor)``."""
    quality = [sample_quality(network, images, dataset, pairs=False) for images in sets]
    return float(np.mean([q["frechet"] for q in quality])), float(quality[0]["floor"])


def generated(bench: Bench, sampler: Sampler, fitted: Any, index: int) -> list[np.ndarray]:
    """Sets of images of one member's generator that reads codes from ``fitted``."""
    subject, settings = bench.subject, bench.settings
    state = subject.states[index]
    state = state.replace(pretrained=state.pretrained.replace(prior=fitted))
    generator, n = subject.generators[sampler], len(subject.dataset.test.label)
    return [draw(generator, state, seed=settings.seed + i, n=n, n_seeds=1)[0] for i in range(settings.draws)]


def measure_sampler(bench: Bench, index: int, sampler: Sampler, codes: Codes, key: jax.Array) -> Gap:
    """One sampler of one member."""
    subject, settings = bench.subject, bench.settings
    fit_key, code_key, *keys = jax.random.split(key, 2 + settings.draws)
    fitted = FIT(
        sampler,
        jnp.asarray(codes.train),
        fit_key,
        threshold=subject.config.active_above,
        n_clusters=settings.n_clusters,
        limit=len(codes.train),
    )
    scores, floors = code_scores(bench, sampler, fitted, codes.held_out, code_key), {}
    n, params = len(subject.dataset.test.label), subject.params[index]
    sets = {"frechet": [bench.drawer.images(params, bench.drawer.codes(sampler, fitted, k, n)) for k in keys]}
    if subject.generators:
        sets["generator_frechet"] = generated(bench, sampler, fitted, index)
    for name, images in sets.items():
        scores[name], floors[name] = frechet(bench.network, subject.dataset, images)
    return Gap(scores, floors, np.stack([images[0][:COLUMNS] for images in sets.values()]))


def member_codes(subject: Subject, index: int) -> tuple[Codes, np.ndarray]:
    """A member's codes, and as many of the training images as are held out."""
    dataset, config, params = subject.dataset, subject.config, subject.params[index]
    train = active_codes(config, params, subject.train.image)
    # In a random order, since validation and test images lie one after the other.
    held_out = active_codes(config, params, np.concatenate([dataset.validation.image, dataset.test.image]))
    rng = np.random.default_rng(0)
    held_out = rng.permutation(held_out)
    return Codes(train, held_out), train[rng.permutation(len(train))[: len(held_out)]]


def measure_member(bench: Bench, index: int, say: Callable[[str], None]) -> MemberGaps:
    """All samplers of one member; ``say`` is called with the name of each."""
    codes, some = member_codes(bench.subject, index)
    key = jax.random.fold_in(jax.random.key(bench.settings.seed), index)
    floors = code_floors(codes.held_out, some, key, threshold=bench.subject.config.active_above)
    gaps: dict[str, Gap] = {}
    for sampler in bench.settings.samplers:
        say(sampler)
        sampler_key = jax.random.fold_in(key, SAMPLERS.index(sampler))
        gaps[sampler] = measure_sampler(bench, index, sampler, codes, sampler_key)
        floors |= gaps[sampler].floors
    reference = gaps[REFERENCE].scores
    for gap in gaps.values():
        gap.scores["prior_gap"] = gap.scores["frechet"] - reference["frechet"]
        if bench.subject.generators:
            gap.scores["generator_gap"] = gap.scores["generator_frechet"] - reference["generator_frechet"]
    scores = {sampler: gap.scores for sampler, gap in gaps.items()}
    return MemberGaps(scores, floors, {sampler: gap.pictures for sampler, gap in gaps.items()})
