"""What samplers of sparse codes lose: their codes and decoded images, against those of data and of resampled training codes."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from experiments.common import main, restore_run
from experiments.config import TrainSAE, parse
from saegan_jax.algorithms.base import Algorithm, Examples
from saegan_jax.algorithms.registry import build
from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.data import Dataset, load, share
from saegan_jax.data.dataset import Split
from saegan_jax.errors import require, require_choice, require_positive
from saegan_jax.evaluation.features import FeatureNetwork, load_feature_network
from saegan_jax.evaluation.sample_quality import sample_quality
from saegan_jax.metrics import co_activation_error, l0_error, two_sample_accuracy
from saegan_jax.priors import SAMPLERS, Sampler, fit_prior, sample_prior
from saegan_jax.report import image_grid
from saegan_jax.report.table import Result, Row, document, floor_rows, origin, pivot
from saegan_jax.training.phase import check_batch
from saegan_jax.training.run_folder import read_config, to_json
from saegan_jax.training.sweep import Member, encode_all, train_members
from saegan_jax.training.systems import draw

REFERENCE: Sampler = "bootstrap"
JUDGED = 5000  # codes of each kind that the classifier test takes at most
COLUMNS = 16
FIT = jax.jit(fit_prior, static_argnames=("sampler", "threshold", "n_clusters", "limit"))  # one program for all members
METRICS = {
    "l0": "active units a code",
    "l0_distance": "1-Wasserstein distance of the distributions of L0, active units",
    "co_activation": "root mean square error of pairs' probability of being active together",
    "co_activation_share": "that error over the one of independent units",
    "two_sample": "accuracy of a classifier telling sampled from held-out codes",
    "frechet": "squared standardised feature units, decoded samples",
    "prior_gap": "frechet minus that of the bootstrap",
    "generator_frechet": "squared standardised feature units, samples of the trained generator",
    "generator_gap": "generator_frechet minus that of the bootstrap",
}


@dataclass(frozen=True, kw_only=True)
class PriorGap(TrainSAE):
    """Fit every sampler of sparse codes to a sparse autoencoder's training codes, and measure what each loses.

    The autoencoder is trained here, or read from a run of train_sae or train_saegan. A generator that the run has and that
    reads sparse codes is fed from every sampler too, with the parameters that it learned with its own.
    """

    run: Path | None = None
    """Run folder to read the autoencoder from instead of training it; data set, settings and seeds are then the run's own."""
    samplers: tuple[Sampler, ...] = SAMPLERS
    """Samplers to compare: factorised, copula, clusters. The bootstrap of training codes, which every gap is measured to, is
    always among them, and last."""
    n_clusters: int = 32
    """Clusters of the mixture of independent units."""
    draws: int = 4
    """Sets of decoded samples, each as many as there are test images, over which a Frechet distance is averaged."""
    results: Path = Path("runs/prior_gap/results.json")
    """JSON to write, table (.md) and picture (.png) beside it."""
    # Of the training scripts' run folders, which this one does not write.
    out: tyro.conf.Suppress[Path | None] = None
    resume: tyro.conf.Suppress[bool] = False
    log_every: tyro.conf.Suppress[int] = 100
    save_every: tyro.conf.Suppress[int] = 1000
    picture_every: tyro.conf.Suppress[int] = 1000
    evaluate: tyro.conf.Suppress[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for sampler in self.samplers:
            require_choice("samplers", sampler, SAMPLERS)
        require_positive(n_clusters=self.n_clusters, draws=self.draws)
        require(self.results.suffix == ".json", "results", str(self.results), "give it a name that ends in .json.")


class Subject(NamedTuple):
    """What is measured.

    Attributes:
      dataset: its data; ``train`` are the images that the autoencoder was trained on.
      train: see there.
      config: of the autoencoder.
      params: one of each member.
      generators: by sampler, the system that draws images from a state; empty where it reads no sparse codes.
      states: of the generator, one of each member.
      trained_with: the sampler that the generator learned with.
    """

    dataset: Dataset
    train: Split
    config: SAEConfig
    params: list[Any]
    generators: Mapping[str, Algorithm] = MappingProxyType({})
    states: Sequence[Any] = ()
    trained_with: str = ""


def members(tree: Any, n: int, *, stacked: bool) -> list[Any]:
    """The parts of what a run keeps for ``n`` members."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(n)] if stacked else [tree]


def train_here(options: PriorGap, console: Console) -> Subject:
    """Train the autoencoders that the options describe."""
    whole(options.sae)
    dataset = load(options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir)
    train = share(dataset.train, options.fraction)
    check_batch("sae", options.sae.batch_size, len(train.label), steps=options.sae.steps)
    data = Examples(jnp.asarray(train.image), jnp.asarray(train.label))
    seeds = [Member(options.sae, options.seed + i) for i in range(options.seeds)]
    with console.status("training the autoencoder") as status:
        states, _ = train_members(
            seeds, data, progress=lambda step, _: status.update(f"step {step} of {options.sae.steps}")
        )
    return Subject(dataset, train, options.sae, members(states.params, options.seeds, stacked=True))


def read_run(options: PriorGap) -> Subject:
    """The autoencoders of a run, and its generators where they read sparse codes."""
    assert options.run is not None
    restored = restore_run(options.run)
    settings, n = restored.settings, restored.n_seeds
    require(
        isinstance(settings, SAEConfig | SAEGANConfig),
        "run",
        str(options.run),
        "it has no autoencoder of its own; take a run of train_sae or train_saegan.",
    )
    trained = read_config(options.run)["options"]
    dataset = load(trained["dataset"], manual_dir=options.manual_dir, data_dir=options.data_dir)
    train = share(dataset.train, trained.get("fraction", 1.0))
    if isinstance(settings, SAEGANConfig):
        whole(settings.sae)
        params = members(restored.state.pretrained.sae, n, stacked=n > 1)
        if settings.generator_input != "sparse":
            return Subject(dataset, train, settings.sae, params)
        states = members(restored.state, n, stacked=n > 1)
        generators = {
            sampler: build(
                replace(settings, sampler=sampler), image_shape=restored.image_shape, n_classes=restored.n_classes
            )
            for sampler in order(options.samplers)
        }
        return Subject(dataset, train, settings.sae, params, generators, states, settings.sampler)
    assert isinstance(settings, SAEConfig)
    whole(settings)
    return Subject(dataset, train, settings, members(restored.state.params, n, stacked=n > 1))


def whole(config: SAEConfig) -> None:
    """Refuse convolutional codes, whose positions are not alike."""
    fix = "a sampler draws one code per image, and this autoencoder has one per patch; set it to 0."
    require(config.patch_size == 0, "sae.patch_size", config.patch_size, fix)


def active(config: SAEConfig, params: Any, images: np.ndarray) -> np.ndarray:
    """Codes ``(n, d_sae)`` of uint8 images with inactive units at 0, as samplers draw them."""
    codes = encode_all(config, params, jnp.asarray(images))
    return np.where(codes > config.active_above, codes, np.float32(0))


def batches(n: int, size: int = 1000) -> Iterator[tuple[int, int]]:
    """``(index, rows)`` of batches of one compiled size that make up ``n``."""
    yield from ((i, min(size, n - i * size)) for i in range(-(-n // size)))


class Drawer:
    """Draws codes and images of all members: compiled once for each sampler."""

    def __init__(self, subject: Subject) -> None:
        decode = autoencoder(subject.config, image_shape=subject.dataset.image_shape).decode
        self.size = min(1000, len(subject.dataset.test.label))
        self._sample = jax.jit(sample_prior, static_argnames=("sampler", "n"))
        self._decode = jax.jit(lambda params, codes: jnp.clip(decode(params, codes), 0.0, 1.0))

    def codes(self, sampler: Sampler, fitted: Any, key: jax.Array, n: int) -> np.ndarray:
        """``(n, d_sae)``."""
        keys = [(jax.random.fold_in(key, i), rows) for i, rows in batches(n, self.size)]
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


def measure_codes(
    held_out: np.ndarray, drawer: Drawer, sampler: Sampler, fitted: Any, key: jax.Array, *, threshold: float
) -> dict[str, float]:
    """Everything about a sampler's codes."""
    codes = drawer.codes(sampler, fitted, jax.random.fold_in(key, 0), len(held_out))
    pairs = co_activation_error(held_out, codes, threshold=threshold)
    judged = min(JUDGED, len(held_out))
    distinct = drawer.distinct(sampler, fitted, jax.random.fold_in(key, 1), judged)
    two_sample = two_sample_accuracy(held_out[:judged], distinct, jax.random.fold_in(key, 2))
    return {
        "l0": float(np.mean((codes > threshold).sum(axis=1))),
        "l0_distance": l0_error(held_out, codes, threshold=threshold).distance,
        "co_activation": pairs.rms,
        "co_activation_share": pairs.rms / pairs.independent if pairs.independent else np.nan,
        "two_sample": two_sample.accuracy,
    }


def measure_floors(held_out: np.ndarray, train: np.ndarray, key: jax.Array, *, threshold: float) -> dict[str, float]:
    """The same measures of as many training codes as there are held-out ones."""
    pairs = co_activation_error(held_out, train, threshold=threshold)
    return {
        "l0": float((held_out > threshold).sum(axis=1).mean()),
        "l0_distance": l0_error(held_out, train, threshold=threshold).distance,
        "co_activation": pairs.rms,
        "co_activation_share": pairs.rms / pairs.independent if pairs.independent else np.nan,
        "two_sample": two_sample_accuracy(held_out[:JUDGED], train[:JUDGED], key).accuracy,
    }


def frechet(network: FeatureNetwork, dataset: Dataset, sets: Sequence[np.ndarray]) -> tuple[float, float]:
    """``(mean distance over sets of images, floor)``."""
    quality = [sample_quality(network, images, dataset, pairs=False) for images in sets]
    return float(np.mean([q["frechet"] for q in quality])), float(quality[0]["floor"])


def generated(options: PriorGap, subject: Subject, sampler: Sampler, fitted: Any, index: int) -> list[np.ndarray]:
    """Images of one member's generator fed from ``fitted``, ``options.draws`` sets of them."""
    state = subject.states[index]
    state = state.replace(pretrained=state.pretrained.replace(prior=fitted))
    generator, n = subject.generators[sampler], len(subject.dataset.test.label)
    return [draw(generator, state, seed=options.seed + i, n=n, n_seeds=1)[0] for i in range(options.draws)]


def measure_sampler(
    options: PriorGap,
    subject: Subject,
    network: FeatureNetwork,
    drawer: Drawer,
    index: int,
    sampler: Sampler,
    *,
    train: np.ndarray,
    held_out: np.ndarray,
    key: jax.Array,
) -> tuple[dict[str, float], dict[str, float], np.ndarray]:
    """One sampler of one member: ``(scores, floors of decoded images, pictures)``; codes ``(n, d_sae)``."""
    threshold, n = subject.config.active_above, len(subject.dataset.test.label)
    fit_key, code_key, *keys = jax.random.split(key, 2 + options.draws)
    settings = {"n_clusters": options.n_clusters, "limit": len(train)}
    fitted = FIT(sampler, jnp.asarray(train), fit_key, threshold=threshold, **settings)
    scores, floors = measure_codes(held_out, drawer, sampler, fitted, code_key, threshold=threshold), {}
    decoded = [drawer.images(subject.params[index], drawer.codes(sampler, fitted, k, n)) for k in keys]
    scores["frechet"], floors["frechet"] = frechet(network, subject.dataset, decoded)
    pictures = [decoded[0][:COLUMNS]]
    if subject.generators:
        made = generated(options, subject, sampler, fitted, index)
        scores["generator_frechet"], floors["generator_frechet"] = frechet(network, subject.dataset, made)
        pictures.append(made[0][:COLUMNS])
    return scores, floors, np.stack(pictures)


def measure_member(
    options: PriorGap, subject: Subject, network: FeatureNetwork, drawer: Drawer, index: int, console: Console
) -> tuple[dict[str, dict[str, float]], dict[str, float], dict[str, np.ndarray]]:
    """One member: ``(scores of each sampler, floors, pictures of each sampler)``."""
    dataset, config, params = subject.dataset, subject.config, subject.params[index]
    train = active(config, params, subject.train.image)
    # In a random order, since validation and test images lie one after the other.
    held_out = active(config, params, np.concatenate([dataset.validation.image, dataset.test.image]))
    rng = np.random.default_rng(0)
    held_out = rng.permutation(held_out)
    key = jax.random.fold_in(jax.random.key(options.seed), index)
    real = train[rng.permutation(len(train))[: len(held_out)]]
    floors = measure_floors(held_out, real, key, threshold=config.active_above)
    scores: dict[str, dict[str, float]] = {}
    pictures: dict[str, np.ndarray] = {}
    measure = partial(measure_sampler, options, subject, network, drawer, index, train=train, held_out=held_out)
    for sampler in order(options.samplers):
        with console.status(f"member {index + 1} of {len(subject.params)}: {sampler}"):
            sampler_key = jax.random.fold_in(key, SAMPLERS.index(sampler))
            scores[sampler], image_floors, pictures[sampler] = measure(sampler, key=sampler_key)
            floors |= image_floors
    for found in scores.values():
        found["prior_gap"] = found["frechet"] - scores[REFERENCE]["frechet"]
        if subject.generators:
            found["generator_gap"] = found["generator_frechet"] - scores[REFERENCE]["generator_frechet"]
    return scores, floors, pictures


def order(samplers: tuple[Sampler, ...]) -> list[Sampler]:
    """Those asked for, the reference last."""
    return [*(s for s in SAMPLERS if s in samplers and s != REFERENCE), REFERENCE]


def tables(result: Result) -> str:
    """Samplers down, metrics across, the floors first."""
    titles = {row.metric.replace("_", " "): row.metric for row in result.rows}
    legend = "\n".join(f"- {title}: {METRICS[name]}" for title, name in titles.items())
    table = pivot([*floor_rows(result.rows, "real codes"), *result.rows], columns=titles)
    return document(origin(result), result.extra["note"], table, legend)


def run(options: PriorGap) -> None:
    """Train or read, fit, measure, write and show."""
    console = Console()
    subject = train_here(options, console) if options.run is None else read_run(options)
    dataset = subject.dataset
    with console.status("training the feature network, or opening the cached one"):
        network = load_feature_network(dataset)
    drawer = Drawer(subject)
    measured = [measure_member(options, subject, network, drawer, i, console) for i in range(len(subject.params))]
    samplers = order(options.samplers)
    metrics = [name for name in METRICS if name in measured[0][0][REFERENCE]]
    rows = [
        Row.of(
            sampler,
            name,
            [scores[sampler][name] for scores, _, _ in measured],
            unit=METRICS[name],
            floor=float(np.mean([found[name] for _, found, _ in measured])) if name in measured[0][1] else None,
        )
        for sampler in samplers
        for name in metrics
    ]
    n, held_out = len(subject.params), len(dataset.validation.label) + len(dataset.test.label)
    note = (
        f"{subject.config.variant} autoencoder of {subject.config.d_sae} units, {n} seed{'s' * (n > 1)}"
        + ("; mean [bootstrap 95 % interval over seeds]" if n > 1 else "")
        + f". Samplers fitted to the codes of {len(subject.train.label):,} training images; codes compared with those of "
        f"{held_out:,} validation and test images (classifier: {min(JUDGED, held_out):,} of each, 5 folds), decoded samples "
        f"with {len(dataset.test.label):,} test images, mean of {options.draws} draws. The row of real codes: training codes, "
        "as many as held-out ones, and for Frechet distances training images. The bootstrap of training codes is a "
        "diagnostic and no generative model."
    )
    if subject.generators:
        note += f" The generator was trained with the {subject.trained_with} sampler."
    result = Result.here(
        f"samplers of sparse codes, {dataset.name}",
        f"python -m experiments.prior_gap {shlex.join(sys.argv[1:])}".strip(),
        rows,
        note=note,
        config=to_json(subject.config) | {"n_clusters": options.n_clusters, "features": network.hash},
    )
    path = options.results
    result.write(path, tables(result))
    real = dataset.test.image[:COLUMNS].astype(np.float32) / 255
    pictures = measured[0][2]
    for i, kind in enumerate(("", "-generator")[: len(pictures[REFERENCE])]):
        images = np.concatenate([real, *(pictures[sampler][i] for sampler in samplers)])
        image_grid(images, path.with_name(f"{path.stem}{kind}.png"), columns=len(real))
    console.print(Markdown(tables(result)))
    text = f"{path}, its table and its picture are written; rows of the picture: test images, {', '.join(samplers)}."
    console.print(Text(text), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> PriorGap:
    """The command line as options."""
    return parse(PriorGap, arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
