"""Many sparse autoencoders in one vmapped program per variant: a table, a picture of the frontier, a recommendation."""

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from saegan_jax.algorithms.base import Examples
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, autoencoder
from saegan_jax.data import Dataset, load
from saegan_jax.errors import require, require_choice
from saegan_jax.evaluation.probe import linear_probe
from saegan_jax.files import write_json
from saegan_jax.metrics import coherence, dictionary_match
from saegan_jax.report import frontier
from saegan_jax.report.table import Result, Row, cell, document, each, origin, pivot
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import main
from saegan_jax.training.phase import check_batch
from saegan_jax.training.run_folder import to_json
from saegan_jax.training.sweep import SWEPT, Member, encode_all, grid, score_members, train_members

SWEEPABLE = tuple(name for name, variant in VARIANTS.items() if variant.sweep_axes)
METRICS = {
    "l0": "active units",
    "fvu": "share of variance",
    "fvu_active": "share of variance, from active codes alone",
    "dead_fraction": "share of units",
    "probe_accuracy": "share of test images",
    "dictionary_match": "cosine between seeds",
    "coherence": "mean largest cosine",
}


TITLES = ("L0", "FVU", "FVU of active", "dead", "probe", "seed match", "coherence")  # of METRICS


@dataclass(frozen=True, kw_only=True)
class SweepSAE:
    """Train every combination of variant, rho, beta, k and learning rate with several seeds, all members of a variant in one
    vmapped program, and score them on held-out images.

    Finished variants are kept in --out, so that the same command continues after a stop. A member that diverges is shown as
    failed and harms no other. The recommendation is made on validation images, the table on test images.
    """

    dataset: str = "mnist"
    """mnist, fashion_mnist, kmnist, digits, or any prepared TFDS image data set."""
    variants: tuple[str, ...] = SWEEPABLE
    """Which to train: any of the default ones."""
    rho: tuple[float, ...] = ()
    """Values of rho for the variants that have it (kl, rate_kl); empty for each variant's own."""
    beta: tuple[float, ...] = ()
    """Values of beta (kl, rate_kl, l1, jumprelu, gated)."""
    k: tuple[int, ...] = ()
    """Values of k (topk, batch_topk, matryoshka)."""
    learning_rate: tuple[float, ...] = ()
    """Values of the learning rate (all variants); empty for each variant's own."""
    seed: int = 0
    """First seed."""
    seeds: int = 5
    """Seeds of every combination."""
    want_l0: float = 20.0
    """Active units per example that the recommendation aims at."""
    probe_images: int = 10_000
    """Training images whose codes the linear probe is fitted to; 0 leaves the probe out."""
    at_once: int | None = None
    """Members computed together; by default what fits the machine."""
    sae: SAEConfig = field(default_factory=lambda: SAEConfig(d_sae=256, steps=2000))
    """Settings that all members share; the sweep overrides variant, the swept ones, and what the variant needs (see
    --variant-defaults)."""
    variant_defaults: bool = True
    """Give each variant the pre-bias, AuxK, decoder norm and learning rate that suited it; off: --sae.* for all alike."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    out: Path | None = None
    """Folder of the sweep; by default runs/sweep-<dataset>."""
    results: Path | None = None
    """JSON to write, table (.md) and picture (.png) beside it; by default results.json in --out."""

    def __post_init__(self) -> None:
        for variant in self.variants:
            require_choice("variants", variant, SWEEPABLE)
        check_options(self)
        require(self.want_l0 > 0, "want_l0", self.want_l0, "it must be above zero.")
        require(self.probe_images >= 0, "probe_images", self.probe_images, "it must be zero or above.")
        require(
            self.at_once is None or self.at_once >= 1, "at_once", self.at_once, "compute at least one member at a time."
        )
        suffix = self.results is None or self.results.suffix == ".json"
        require(suffix, "results", str(self.results), "give it a name that ends in .json.")


def members_of(options: SweepSAE, variant: str, dataset: Dataset) -> tuple[list[Member], tuple[str, ...]]:
    """The members of one variant, and the names of what varies among them."""
    functions = VARIANTS[variant]
    swept = functions.sweep_axes
    fixed = {name: value for name, value in functions.wants(dataset.image_shape).items() if name not in swept}
    shared = replace(
        options.sae,
        variant=variant,
        k=min(options.sae.k, options.sae.d_sae),  # swept, or without effect
        levels=() if functions.levels is None else options.sae.levels,
    )
    if options.variant_defaults:
        shared = replace(shared, **fixed)
    axes: dict[str, tuple[float, ...]] = {name: getattr(options, name) or values for name, values in swept.items()}
    if "k" in axes:  # the defaults are for wide dictionaries
        axes["k"] = tuple(k for k in axes["k"] if options.k or k < options.sae.d_sae) or (options.sae.d_sae,)
    if "rho" in axes and options.beta:
        axes["beta"] = options.beta
    if options.learning_rate:
        axes["learning_rate"] = options.learning_rate
    seeds = range(options.seed, options.seed + options.seeds)
    return grid(shared, seeds, **axes), tuple(axes)


def label(variant: str, config: SAEConfig, names: tuple[str, ...]) -> str:
    """A combination as the table names it."""
    return " ".join([variant, *(f"{name}={getattr(config, name):g}" for name in names)])


def probe_accuracies(
    options: SweepSAE, members: list[Member], params: list[Any], dataset: Dataset, finite: np.ndarray
) -> list[float]:
    """Test accuracy of a logistic regression on each member's codes; NaN where there is none."""
    n = min(options.probe_images, len(dataset.train.label))
    train, labels = jnp.asarray(dataset.train.image[:n]), dataset.train.label[:n]
    test, test_labels = jnp.asarray(dataset.test.image), dataset.test.label
    found = []
    for member, weights, good in zip(members, params, finite, strict=True):
        if not (n and good):
            found.append(float("nan"))
            continue
        codes = [encode_all(member.config, weights, images) for images in (train, test)]
        found.append(linear_probe(codes[0], labels, codes[1], test_labels).accuracy)
    return found


def matches(config: SAEConfig, params: list[Any], finite: np.ndarray, seeds: int) -> list[float]:
    """Of every member, the mean Hungarian match of its dictionary with those of the other seeds of its combination."""
    found = np.full(len(params), np.nan)
    for start in range(0, len(params), seeds):
        pairs: dict[int, list[float]] = {i: [] for i in range(start, start + seeds)}
        for i, j in combinations(pairs, 2):
            if finite[i] and finite[j]:
                cosine = dictionary_match(decoder(config, params[i]), decoder(config, params[j])).mean_cosine
                pairs[i].append(cosine)
                pairs[j].append(cosine)
        for i, cosines in pairs.items():
            found[i] = np.mean(cosines) if cosines else np.nan
    return found.tolist()


def decoder(config: SAEConfig, params: Any) -> np.ndarray:
    """``(d_sae, d_in)`` on the host."""
    weights = params["params"]
    return np.asarray(weights["W_enc"]).T if config.tied else np.asarray(weights["W_dec"])


def run_variant(options: SweepSAE, variant: str, dataset: Dataset, console: Console) -> dict[str, Any]:
    """Train and score all members of one variant: what its file in --out holds."""
    members, names = members_of(options, variant, dataset)
    base = members[0].config
    data = Examples(jnp.asarray(dataset.train.image), jnp.asarray(dataset.train.label))
    began = time.perf_counter()
    with console.status(f"{variant}: {len(members)} members, compiling") as status:

        def progress(step: int, infos: Any) -> None:
            failed = int((~np.isfinite(infos.loss)).sum())
            status.update(
                f"{variant}: {len(members)} members, step {step} of {base.steps}, L0 {np.nanmin(infos.l0):.3g} to "
                f"{np.nanmax(infos.l0):.3g}" + (f", {failed} failed" if failed else "")
            )

        states, infos = train_members(members, data, members_per_vmap=options.at_once, progress=progress)
        seconds = time.perf_counter() - began
        status.update(f"{variant}: scoring")
        validation, test = (
            score_members(members, states, jnp.asarray(split.image)) for split in (dataset.validation, dataset.test)
        )
        active = score_members(members, states, jnp.asarray(dataset.test.image), active_only=True)
        params = [jax.tree.map(lambda leaf, i=i: leaf[i], states.params) for i in range(len(members))]
        weights_finite = np.array([all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(p)) for p in params])
        finite = weights_finite & np.isfinite(test.fvu) & np.isfinite(infos.loss).all(axis=1)
        status.update(f"{variant}: probing")
        columns = {
            "fvu_active": active.fvu.tolist(),
            "probe_accuracy": probe_accuracies(options, members, params, dataset, finite),
            "dictionary_match": matches(base, params, finite, options.seeds),
            "coherence": [float(coherence(jnp.asarray(decoder(base, p))).mean) for p in params],
        }
    for name in ("l0", "fvu", "dead_fraction"):
        columns[name] = getattr(test, name).tolist()
    rows = []
    for start in range(0, len(members), options.seeds):
        part = slice(start, start + options.seeds)
        good = finite[part]
        config = members[start].config

        def of(values: Any, good: np.ndarray = good, part: slice = part) -> list[float | None]:
            return [float(v) if ok and np.isfinite(v) else None for v, ok in zip(values[part], good, strict=True)]

        rows.append(
            {
                "arm": label(variant, config, names),
                "variant": variant,
                "settings": {name: getattr(config, name) for name in SWEPT},
                "seeds": [m.seed for m in members[part]],
                "failed": int((~good).sum()),
                "metrics": {name: of(columns[name]) for name in METRICS},
                "validation": {name: of(getattr(validation, name)) for name in ("l0", "fvu", "dead_fraction")},
            }
        )
    console.print(f"{variant}: {len(members)} members of {base.steps} steps in {seconds:.0f} s")
    return {"variant": variant, "config": to_json(base), "training_seconds": seconds, "rows": rows}


def recommend(rows: list[dict[str, Any]], want_l0: float, *, within: float = 0.2) -> str:
    """Of the combinations whose validation L0 is within 20 % of the wanted one, that with the fewest dead units, and of equal
    ones that with the least FVU; in words."""

    def mean(row: dict[str, Any], name: str) -> float:
        values = [v for v in row["validation"][name] if v is not None]
        return float(np.mean(values)) if values else float("nan")

    sound = [row for row in rows if not row["failed"]]
    if not sound:
        return "No combination trained without a failed member; lower the learning rate."
    near = [row for row in sound if abs(mean(row, "l0") / want_l0 - 1) <= within]
    if not near:
        best = min(sound, key=lambda row: abs(np.log(max(mean(row, "l0"), 1e-6) / want_l0)))
        return (
            f"No combination has an L0 within {within:.0%} of {want_l0:g} on validation images; the nearest is {best['arm']} "
            f"with {mean(best, 'l0'):.3g}. Sweep values beside it."
        )
    # Shares of dead units that differ by less than half a percent are equal for any use.
    best = min(near, key=lambda row: (round(mean(row, "dead_fraction") * 200), mean(row, "fvu")))
    return (
        f"For an L0 of {want_l0:g}: {best['arm']} (L0 {mean(best, 'l0'):.3g}, {mean(best, 'dead_fraction'):.1%} dead, FVU "
        f"{mean(best, 'fvu'):.3g} on validation images; fewest dead units among {len(near)} within {within:.0%}, ties by FVU)."
    )


def result_rows(rows: list[dict[str, Any]]) -> list[Row]:
    """One row per combination and metric, as published results have them."""
    return [
        Row.of(
            row["arm"], metric, row["metrics"][metric], unit=unit, skip_failed=True,
            **{key: row[key] for key in ("variant", "settings", "failed")},
        )
        for row in rows
        for metric, unit in METRICS.items()
    ]  # fmt: skip


def tables(result: Result) -> str:
    """One line per combination, mean and interval over its seeds."""
    columns = {**dict(zip(TITLES, METRICS, strict=True)), "failed": each("failed", of="l0")}
    table = pivot(result.rows, columns=columns, cell=partial(cell, count_failed=False))
    return document(origin(result), table, result.extra["note"], result.extra["recommendation"])


def closing_table(result: Result) -> Table:
    """The means alone, which fit a terminal."""
    found = {(row.arm, row.metric): row for row in result.rows}
    arms = list(dict.fromkeys(row.arm for row in result.rows))
    table = Table(title=Text(result.name), title_justify="left")
    table.add_column("", no_wrap=True, min_width=max(map(len, arms)))
    for title in (*TITLES, "failed"):
        table.add_column(title, justify="right")
    for arm in arms:
        means = [found[arm, metric].mean for metric in METRICS]
        numbers = ["" if mean is None else f"{mean:.3g}" for mean in means]
        failed = found[arm, "l0"]["failed"]
        table.add_row(Text(arm), *numbers, Text(str(failed), style="red" if failed else ""))
    return table


def run(options: SweepSAE) -> None:
    """Train what is missing, then write and show table, picture and recommendation."""
    console = Console()
    out = options.out or Path("runs") / f"sweep-{options.dataset}"
    dataset = load(options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir)
    check_batch("sae", options.sae.batch_size, len(dataset.train.label), steps=options.sae.steps)
    shape = dataset.image_shape
    for variant in options.variants:  # a bad setting of the last one is told before the first is trained
        autoencoder(members_of(options, variant, dataset)[0][0].config, image_shape=shape)
    parts = []
    for variant in options.variants:
        members, _ = members_of(options, variant, dataset)
        asked = {
            "dataset": dataset.name,
            "seeds": [options.seed, options.seeds],
            "probe_images": options.probe_images,
            "members": [to_json(m.config) for m in members[:: options.seeds]],
        }
        path = out / f"{variant}.json"
        if path.exists():
            saved = json.loads(path.read_text())
            require(
                saved["asked"] == asked,
                "out",
                str(out),
                f"its {path.name} is of another sweep; name another --out, or remove the file to train it again.",
            )
            console.print(f"{variant}: kept from {path}", markup=False)
        else:
            saved = {"asked": asked, **run_variant(options, variant, dataset, console)}
            write_json(path, saved)
        parts.append(saved)
    rows = [row for part in parts for row in part["rows"]]
    config = options.sae
    result = Result.here(
        f"sparse autoencoders on {dataset.name}",
        f"python -m experiments.sweep_sae {shlex.join(sys.argv[1:])}".strip(),
        result_rows(rows),
        note=(
            f"{config.d_sae} units, {config.steps:,} steps of batch {config.batch_size}, {options.seeds} seed"
            f"{'s' * (options.seeds > 1)}; test images; mean"
            + (" [bootstrap 95 % interval over seeds]" if options.seeds > 1 else "")
            + f"; dead: never active on the {len(dataset.test.label):,} test images; probe: logistic regression on the codes "
            f"of {min(options.probe_images, len(dataset.train.label)):,} training images; FVU of active: from the codes "
            "that count as active alone; seed match: Hungarian, absolute cosine, of the dictionaries of two seeds; coherence: "
            "mean over units of the largest cosine to another."
        ),
        recommendation=recommend(rows, options.want_l0),
        config={part["variant"]: part["config"] for part in parts},
        training_seconds={part["variant"]: part["training_seconds"] for part in parts},
    )
    path = options.results or out / "results.json"
    result.write(path, tables(result))
    drawn = [row.to_json() for row in result.rows]
    frontier(drawn, path.with_suffix(".png"), title=f"{result.name}, {config.d_sae} units")
    console.print(closing_table(result))
    console.print(result.extra["note"], result.extra["recommendation"], sep="\n", markup=False)
    console.print(Text(f"{path}, its table and its picture are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> SweepSAE:
    """The command line as options."""
    return tyro.cli(SweepSAE, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
