"""How autoencoders meet data unlike their training data: rotated, noisy, inverted, or other digits altogether."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.algorithms.base import Examples
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig
from saegan_jax.data import Dataset, load
from saegan_jax.data.dataset import Split
from saegan_jax.data.shifts import enlarged, inverted, noisy, rotated
from saegan_jax.errors import require
from saegan_jax.evaluation.probe import fit_probe
from saegan_jax.report import shift_curves
from saegan_jax.report.table import Result, Row, document, origin, pivot
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import main
from saegan_jax.training.phase import check_batch
from saegan_jax.training.run_folder import to_json
from saegan_jax.training.sweep import Member, encode_all, score_members, train_members

LIVE = 1e-3  # a feature lives in a set if it is active in at least this share of it
PROBE_IMAGES = 10_000
OTHER_SOURCE, UNSEEN = "digits of another source", "unseen classes"
Model = Literal["topk", "batch_topk", "l1", "kl", "dense"]
METRICS = {
    "reconstruction_ratio": "squared error over that on unshifted test images",
    "fvu": "share of the shifted set's variance",
    "l0": "active units",
    "live_overlap": "features live in both sets over those live in either",
    "probe_accuracy": "share of images, probe fitted on unshifted codes",
}


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Train sparse autoencoders, a dense one of equal size and PCA on one distribution, and test them on shifted ones.

    Every autoencoder has the same number of units and steps. The dense one is the same ReLU network without any sparsity term;
    PCA has as many components as the TopK autoencoder has active units, and once more as many as all have units.
    """

    dataset: str = "mnist"
    """mnist, fashion_mnist, kmnist, digits, or any prepared TFDS image data set."""
    hold_out_classes: tuple[int, ...] = ()
    """Classes left out of the training images; the test images of these classes become one more shift."""
    models: tuple[Model, ...] = get_args(Model)
    """Autoencoders to train; PCA costs nothing and is always there."""
    seed: int = 0
    """First seed."""
    seeds: int = 5
    """Seeds of every autoencoder."""
    sae: SAEConfig = field(
        default_factory=lambda: SAEConfig(d_sae=256, k=20, steps=2000, learning_rate=3e-3, pre_bias="mean")
    )
    """Settings that all autoencoders share; variant and beta are each one's own."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    results: Path = Path("runs/shift/results.json")
    """JSON to write, table (.md) and picture (.png) beside it."""

    def __post_init__(self) -> None:
        check_options(self)
        require(
            min(self.hold_out_classes, default=0) >= 0,
            "hold_out_classes",
            self.hold_out_classes,
            "name labels, from 0.",
        )
        require(self.results.suffix == ".json", "results", str(self.results), "give it a name that ends in .json.")


def configs(options: Shift, image_shape: tuple[int, int, int]) -> dict[str, SAEConfig]:
    """The autoencoders that are compared, by name."""

    def of(variant: str, **changes: Any) -> SAEConfig:
        return replace(options.sae, variant=variant, **changes)

    norm = VARIANTS["kl"].wants(image_shape)["decoder_norm"]
    everything = {
        "topk": of("topk", auxk=1 / 32),
        "batch_topk": of("batch_topk", auxk=1 / 32),
        "l1": of("l1", beta=0.4),
        "kl": of("kl", rho=0.05, beta=3.0, pre_bias="none", decoder_norm=norm),
        "dense": of("l1", beta=0.0),
    }
    return {name: everything[name] for name in options.models}


def shifts(dataset: Dataset, held_out: tuple[int, ...]) -> dict[str, Split]:
    """The test sets, by name, the unshifted one first; the noise is fixed by a seed of its own."""
    unseen = np.isin(dataset.test.label, held_out)
    test = Split(dataset.test.image[~unseen], dataset.test.label[~unseen])
    made = {"none": test}
    for degrees in (15, 30, 45, 60, 75, 90):
        made[f"rotated {degrees}"] = Split(rotated(test.image, degrees), test.label)
    for sigma in (0.1, 0.2, 0.4):
        made[f"noise {sigma:g}"] = Split(noisy(test.image, sigma, seed=0), test.label)
    made["inverted"] = Split(inverted(test.image), test.label)
    if dataset.name == "mnist":
        other = load("digits").test
        kept = ~np.isin(other.label, held_out)
        made[OTHER_SOURCE] = Split(enlarged(other.image[kept], size=28, margin=4), other.label[kept])
    if held_out:
        made[UNSEEN] = Split(dataset.test.image[unseen], dataset.test.label[unseen])
    return made


class Scores(NamedTuple):
    """Of one model and seed on one test set: sums and shares that the metrics are made from."""

    mse: float
    fvu: float
    l0: float
    density: np.ndarray
    accuracy: float


def score_autoencoders(
    config: SAEConfig, options: Shift, train: Split, tests: Mapping[str, Split], say: Callable[[str], None]
) -> dict[str, list[Scores]]:
    """Every seed of one model on every test set."""
    members = [Member(config, options.seed + i) for i in range(options.seeds)]
    data = Examples(jnp.asarray(train.image), jnp.asarray(train.label))
    states, _ = train_members(members, data, progress=lambda step, _: say(f"step {step} of {config.steps}"))
    metrics = {name: score_members(members, states, jnp.asarray(split.image)) for name, split in tests.items()}
    scores: dict[str, list[Scores]] = {name: [] for name in tests}
    for i in range(options.seeds):
        say(f"probe of seed {options.seed + i}")
        params = jax.tree.map(lambda leaf, i=i: leaf[i], states.params)
        probe = fit_probe(
            encode_all(config, params, jnp.asarray(train.image[:PROBE_IMAGES])), train.label[:PROBE_IMAGES]
        )
        for name, split in tests.items():
            m, codes = metrics[name], encode_all(config, params, jnp.asarray(split.image))
            accuracy = probe.accuracy(codes, split.label)
            density = np.asarray(m.feature_density[i])
            scores[name].append(Scores(float(m.mse[i]), float(m.fvu[i]), float(m.l0[i]), density, accuracy))
    return scores


def score_pca(n_components: int, train: Split, tests: Mapping[str, Split]) -> dict[str, list[Scores]]:
    """Principal components, which have no seeds; every one is active always."""
    from sklearn.decomposition import PCA

    def flat(split: Split) -> np.ndarray:
        return split.image.reshape(len(split.label), -1).astype(np.float32) / 255

    x = flat(train)
    pca = PCA(min(n_components, x.shape[1]), svd_solver="covariance_eigh").fit(x)
    probe = fit_probe(pca.transform(x[:PROBE_IMAGES]), train.label[:PROBE_IMAGES], per_unit=False)
    scores = {}
    for name, split in tests.items():
        y = flat(split)
        codes = pca.transform(y)
        error = np.mean((pca.inverse_transform(codes) - y) ** 2)
        total = np.mean((y - y.mean(axis=0)) ** 2)
        one = Scores(error, error / total, codes.shape[1], np.ones(codes.shape[1]), probe.accuracy(codes, split.label))
        scores[name] = [one]
    return scores


def rows_of(model: str, scores: Mapping[str, list[Scores]]) -> list[Row]:
    """One row per test set and metric."""
    rows = []
    for name, shifted in scores.items():
        values: dict[str, list[float]] = {metric: [] for metric in METRICS}
        for here, there in zip(scores["none"], shifted, strict=True):
            live_here, live_there = here.density >= LIVE, there.density >= LIVE
            values["reconstruction_ratio"].append(there.mse / here.mse)
            values["fvu"].append(there.fvu)
            values["l0"].append(there.l0)
            values["live_overlap"].append(
                float(np.sum(live_here & live_there)) / max(float(np.sum(live_here | live_there)), 1.0)
            )
            values["probe_accuracy"].append(there.accuracy)
        if name == UNSEEN:
            values["probe_accuracy"] = []  # no label of theirs was ever seen
        rows += [
            Row.of(model, metric, values[metric], unit=unit, shift=name)
            for metric, unit in METRICS.items()
            if values[metric]
        ]
    return rows


def tables(result: Result) -> str:
    """One table per metric: shifts down, models across."""
    parts = [origin(result), result.extra["note"]]
    shifts = dict.fromkeys(row["shift"] for row in result.rows)
    for metric, unit in METRICS.items():
        # A shift without this metric has its line too, so that all tables have the same lines.
        empty = [Row(arm=result.rows[0].arm, metric=metric, extra={"shift": shift}) for shift in shifts]
        rows = [*empty, *(row for row in result.rows if row.metric == metric)]
        parts += [f"## {metric.replace('_', ' ')} ({unit})", pivot(rows, index="shift", columns="arm")]
    return document(*parts)


def run(options: Shift) -> None:
    """Train, score, write and show."""
    console = Console()
    dataset = load(options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir)
    bad = [c for c in options.hold_out_classes if not 0 <= c < dataset.num_classes]
    fix = f"{dataset.name} has the classes 0 to {dataset.num_classes - 1}."
    require(not bad, "hold_out_classes", options.hold_out_classes, fix)
    seen = ~np.isin(dataset.train.label, options.hold_out_classes)
    train = Split(dataset.train.image[seen], dataset.train.label[seen])
    few = "leave at least two classes to train and probe on."
    require(len(np.unique(train.label)) > 1, "hold_out_classes", options.hold_out_classes, few)
    check_batch("sae", options.sae.batch_size, len(train.label), steps=options.sae.steps)
    tests = shifts(dataset, options.hold_out_classes)
    rows: list[Row] = []
    with console.status("starting") as status:
        for name, config in configs(options, dataset.image_shape).items():

            def say(text: str, name: str = name) -> None:
                status.update(f"{name}: {text}")

            rows += rows_of(name, score_autoencoders(config, options, train, tests, say))
            console.print(f"{name}: done")
        for n in (options.sae.k, options.sae.d_sae):
            status.update(f"PCA of {n} components")
            rows += rows_of(f"PCA {n}", score_pca(n, train, tests))
    held = ", ".join(map(str, options.hold_out_classes))
    result = Result.here(
        f"autoencoders under shift, {dataset.name}" + (f", trained without classes {held}" if held else ""),
        f"python -m experiments.shift {shlex.join(sys.argv[1:])}".strip(),
        rows,
        note=(
            f"{options.sae.d_sae} units, {options.sae.steps:,} steps of batch {options.sae.batch_size}, {options.seeds} seed"
            f"{'s' * (options.seeds > 1)}"
            + ("; mean [bootstrap 95 % interval over seeds]" if options.seeds > 1 else "")
            + f"; trained on {len(train.label):,} images, tested on {len(tests['none'].label):,} test images under each shift"
            + (f" (another source: {len(tests[OTHER_SOURCE].label):,})" if OTHER_SOURCE in tests else "")
            + f". A feature lives where it is active in at least {LIVE:.1%} of the images. PCA has no seeds."
        ),
        config={name: to_json(config) for name, config in configs(options, dataset.image_shape).items()},
    )
    path = options.results
    result.write(path, tables(result))
    shift_curves([row.to_json() for row in rows], path.with_suffix(".png"), title=result.name)
    console.print(Markdown(tables(result)))
    console.print(Text(f"{path}, its table and its picture are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Shift:
    """The command line as options."""
    return tyro.cli(Shift, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
