"""Published results on sparse autoencoders, rerun: self-taught learning, k-sparse, winner-take-all, dictionary recovery."""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.status import Status
from rich.text import Text

from saegan_jax.algorithms.base import Batch, Examples
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.data import Dataset, load
from saegan_jax.data.dataset import Split
from saegan_jax.data.synthetic import draw_mixture, sparse_mixture
from saegan_jax.errors import require
from saegan_jax.evaluation.probe import Probe, fit_probe, linear_probe
from saegan_jax.files import write_json
from saegan_jax.metrics import dictionary_match
from saegan_jax.report.table import Line, Result, Row, cell, document, each, origin, pivot
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import main
from saegan_jax.training.run_folder import to_json
from saegan_jax.training.sweep import Member, encode_all, train_members
from saegan_jax.training.transforms import many_fresh_steps

Table = Literal["ufldl", "k_sparse", "fc_wta", "recovery"]
Rows = list[Row]

# Accuracies as published, in [0, 1].
UFLDL = 0.9828
K_SPARSE = {10: 0.9790, 25: 0.9865, 40: 0.9846}
FC_WTA = 0.988


@dataclass(frozen=True, kw_only=True)
class PaperTables:
    """Rerun published results on sparse autoencoders, each with several seeds, and write them beside the published numbers.

    Finished tables are kept in --out, so that the same command continues after a stop. Everything is fitted on training
    images and chosen on validation images; the test images are scored once.
    """

    tables: tuple[Table, ...] = get_args(Table)
    """ufldl: self-taught learning. k_sparse: TopK + logistic regression. fc_wta: winner-take-all + linear SVM. recovery: true
    atoms found again in synthetic sparse mixtures."""
    atoms: tuple[int, ...] = (32, 64, 128, 256, 512)
    """recovery: how many true atoms, in 64 dimensions."""
    seed: int = 0
    """First seed."""
    seeds: int = 3
    """Seeds of every row."""
    steps: int | None = None
    """Training steps of every autoencoder, in place of each table's own; for a quick look."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    out: Path = Path("runs/paper_tables")
    """Folder of the finished tables."""
    results: Path | None = None
    """JSON to write, its Markdown beside it; by default results.json in --out."""

    def __post_init__(self) -> None:
        check_options(self)
        require(self.steps is None or self.steps >= 1, "steps", self.steps, "take at least one step.")
        require(min(self.atoms, default=0) >= 8, "atoms", self.atoms, "at least 8, of which 4 are active on average.")
        suffix = self.results is None or self.results.suffix == ".json"
        require(suffix, "results", str(self.results), "give it a name that ends in .json.")


def configured(options: PaperTables, config: SAEConfig) -> SAEConfig:
    """``config``, with the number of steps that was asked for."""
    return replace(config, steps=options.steps or config.steps)


def trained(
    options: PaperTables, config: SAEConfig, split: Split, say: Callable[[str], None], prefix: str = ""
) -> list[Any]:
    """Parameters of every seed."""
    members = [Member(config, options.seed + i) for i in range(options.seeds)]
    data = Examples(jnp.asarray(split.image), jnp.asarray(split.label))
    states, _ = train_members(members, data, progress=lambda step, _: say(f"{prefix}step {step} of {config.steps}"))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], states.params) for i in range(len(members))]


def only(split: Split, classes: Sequence[int]) -> Split:
    """The examples of some classes."""
    kept = np.isin(split.label, classes)
    return Split(split.image[kept], split.label[kept])


def ufldl(options: PaperTables, dataset: Dataset, say: Callable[[str], None]) -> Rows:
    """Trained on digits 5 to 9 without labels; a softmax classifier of 0 to 4 on its codes and, beside it, on pixels."""
    config = configured(
        options,
        SAEConfig(
            variant="kl",
            d_sae=200,
            rho=0.1,
            beta=3.0,
            weight_decay=3e-3,
            decoder_norm=0.0,
            sigmoid_output=True,
            steps=8000,
            learning_rate=2e-3,
        ),
    )
    unlabelled, low = only(dataset.train, range(5, 10)), range(5)
    labelled = only(dataset.train, low)
    labelled = Split(labelled.image[:10_000], labelled.label[:10_000])
    test = only(dataset.test, low)
    accuracies = []
    for i, params in enumerate(trained(options, config, unlabelled, say)):
        say(f"classifier of seed {options.seed + i}")
        codes = [encode_all(config, params, jnp.asarray(split.image)) for split in (labelled, test)]
        accuracies.append(linear_probe(codes[0], labelled.label, codes[1], test.label).accuracy)
    pixels = [split.image.reshape(len(split.label), -1) / 255 for split in (labelled, test)]
    raw = linear_probe(pixels[0], labelled.label, pixels[1], test.label).accuracy
    row = partial(Row.of, unit="share", table="ufldl")
    arm = "codes of digits 5-9, softmax on 0-4, 10,000 labels"
    return [
        row(arm, "accuracy", accuracies, published=UFLDL, settings=to_json(config)),
        row("the same on pixels", "accuracy", [raw]),
    ]


def k_sparse(options: PaperTables, dataset: Dataset, say: Callable[[str], None]) -> Rows:
    """TopK with 1,000 tied units and a logistic regression on codes whose k after training is chosen on validation images."""
    rows = []
    for k, published in K_SPARSE.items():
        config = configured(
            options,
            SAEConfig(variant="topk", d_sae=1000, k=k, tied=True, decoder_norm=0.0, steps=3000, learning_rate=1e-3),
        )

        def codes_of(params: Any, split: Split, wide: int, config: SAEConfig = config) -> np.ndarray:
            return encode_all(replace(config, k=min(wide, config.d_sae)), params, jnp.asarray(split.image))

        accuracies, chosen = [], []
        for i, params in enumerate(trained(options, config, dataset.train, say, f"k={k}, ")):
            found: dict[int, tuple[float, Probe]] = {}
            for wide in (4 * k, 8 * k):
                say(f"k={k}, classifier of seed {options.seed + i} on {wide} units")
                train, validation = (codes_of(params, split, wide) for split in (dataset.train, dataset.validation))
                # The scales of the codes mean something: a unit that is seldom on says less.
                probe = fit_probe(train, dataset.train.label, C=0.1, per_unit=False)
                found[wide] = probe.accuracy(validation, dataset.validation.label), probe
            best = max(found, key=lambda wide: found[wide][0])
            accuracies.append(found[best][1].accuracy(codes_of(params, dataset.test, best), dataset.test.label))
            chosen.append(best)
        rows.append(
            Row.of(
                f"k={k}, logistic regression",
                "accuracy",
                accuracies,
                unit="share",
                published=published,
                table="k_sparse",
                settings=to_json(config),
                k_after_training=chosen,
            )
        )
    return rows


def fc_wta(options: PaperTables, dataset: Dataset, say: Callable[[str], None]) -> Rows:
    """Lifetime sparsity of 5 % with 2,000 units and a linear SVM on the codes, its C chosen on validation images."""
    config = configured(
        options, SAEConfig(variant="wta", d_sae=2000, rho=0.05, batch_size=100, steps=8000, learning_rate=1e-3)
    )
    accuracies, chosen = [], []
    for i, params in enumerate(trained(options, config, dataset.train, say)):
        train, validation, test = (
            encode_all(config, params, jnp.asarray(split.image))
            for split in (dataset.train, dataset.validation, dataset.test)
        )
        found: dict[float, tuple[float, Probe]] = {}
        for C in (1e-4, 1e-3):
            say(f"SVM of seed {options.seed + i}, C={C:g}")
            probe = fit_probe(train, dataset.train.label, kind="svm", C=C)
            found[C] = probe.accuracy(validation, dataset.validation.label), probe
        best = max(found, key=lambda C: found[C][0])
        accuracies.append(found[best][1].accuracy(test, dataset.test.label))
        chosen.append(best)
    arm = "2,000 units, 5 % lifetime sparsity, linear SVM"
    extra: dict[str, Any] = {"table": "fc_wta", "settings": to_json(config), "C": chosen}
    return [Row.of(arm, "accuracy", accuracies, unit="share", published=FC_WTA, **extra)]


D = 64
ACTIVE = 4.0


def recovery(options: PaperTables, dataset: Dataset, say: Callable[[str], None]) -> Rows:
    """True atoms found again in sparse mixtures in 64 dimensions, from half as many atoms as dimensions to eight times."""
    rows = []
    k = int(ACTIVE)
    variants: dict[str, dict[str, Any]] = {
        "batch_topk": {"k": k, "auxk": 1 / 32},
        "topk": {"k": k + 2, "auxk": 1 / 32},  # an example may have more than the mean
        "l1": {"beta": 0.1},
    }
    for variant, n_atoms in product(variants, options.atoms):
        base = SAEConfig(variant=variant, d_sae=n_atoms, k=k, steps=4000, learning_rate=3e-3, batch_size=512)
        config = configured(options, replace(base, **variants[variant]))
        say(f"{variant}, {n_atoms} atoms")
        algorithm = sae(config, image_shape=(1, D, 1))

        def one(key: jax.Array, n_atoms: int = n_atoms, config: SAEConfig = config, algorithm: Any = algorithm) -> Any:
            truth_key, run_key = jax.random.split(key)
            mixture = sparse_mixture(truth_key, n_atoms=n_atoms, d=D, active=ACTIVE, noise=0.01)

            def draw(key: jax.Array) -> Batch:
                x, _ = draw_mixture(mixture, key, config.batch_size)
                return Batch(x.reshape(-1, 1, D, 1), jnp.zeros(config.batch_size, jnp.int32))

            state, _ = many_fresh_steps(algorithm.step, draw, length=config.steps)(algorithm.init(run_key))
            return mixture.atoms, state.params["params"]["W_dec"]

        keys = jax.vmap(jax.random.key)(options.seed + jnp.arange(options.seeds))
        truths, found = jax.jit(lambda keys, one=one: jax.lax.map(one, keys))(keys)
        # Codes are not negative, so that a direction counts with its sign.
        matched = [dictionary_match(t, w, signed=True).matched_cosine for t, w in zip(truths, found, strict=True)]
        rng = np.random.default_rng(options.seed)
        chance = dictionary_match(truths[0], rng.normal(size=truths[0].shape), signed=True).mean_cosine
        arm = f"{variant}, {n_atoms} atoms in {D} dimensions"
        row = partial(
            Row.of, arm, unit="share", table="recovery", settings=to_json(config), atoms=n_atoms, variant=variant
        )
        rows.append(row("mean cosine", [m.mean() for m in matched], floor=chance))
        rows.append(row("atoms with cosine > 0.9", [(m > 0.9).mean() for m in matched]))
    return rows


TABLES: dict[Table, Callable[[PaperTables, Dataset, Callable[[str], None]], Rows]] = {
    "ufldl": ufldl,
    "k_sparse": k_sparse,
    "fc_wta": fc_wta,
    "recovery": recovery,
}


def ours(line: Line) -> str:
    """The only row of a line, to four digits."""
    (row,) = line.values()
    return cell(row, digits=4)


def tables(result: Result) -> str:
    """One line for each measure of each experiment."""
    columns = {
        "ours": ours,
        "published": each("published", form="{:.4g}".format),
        "chance": each("floor", form="{:.4g}".format),
    }
    index, corner = ("table", "arm", "metric"), ("experiment", "", "measure")
    return document(
        origin(result), pivot(result.rows, index=index, corner=corner, columns=columns), result.extra["note"]
    )


def run(options: PaperTables) -> None:
    """Train what is missing, then write and show the table."""
    console = Console()
    needs_images = set(options.tables) - {"recovery"}
    name = "mnist" if needs_images else "digits"
    dataset = load(name, manual_dir=options.manual_dir, data_dir=options.data_dir)
    rows: Rows = []
    for table in options.tables:
        asked: dict[str, Any] = {"seed": options.seed, "seeds": options.seeds, "steps": options.steps}
        if table == "recovery":
            asked["atoms"] = list(options.atoms)
        path = options.out / f"{table}.json"
        if path.exists():
            saved = json.loads(path.read_text())
            fix = f"its {path.name} is of other settings; name another --out, or remove the file to make it again."
            require(saved["asked"] == asked, "out", str(options.out), fix)
            console.print(f"{table}: kept from {path}", markup=False)
        else:
            with console.status(table) as status:

                def say(text: str, table: str = table, status: Status = status) -> None:
                    status.update(f"{table}: {text}")

                made = TABLES[table](options, dataset, say)
            saved = {"asked": asked, "rows": [row.to_json() for row in made]}
            write_json(path, saved)
            console.print(f"{table}: done")
        rows += [Row.from_json(row) for row in saved["rows"]]
    result = Result.here(
        "published results on sparse autoencoders, rerun",
        f"python -m experiments.paper_tables {shlex.join(sys.argv[1:])}".strip(),
        rows,
        note=(
            f"{options.seeds} seed{'s' * (options.seeds > 1)}"
            + ("; mean [bootstrap 95 % interval over seeds]" if options.seeds > 1 else "")
            + ". MNIST: fitted on 55,000 training images, chosen on 5,000 validation images, scored on the test images once. "
            f"recovery: {ACTIVE:g} of the atoms active on average, magnitudes 0.5 to 1.5, noise 0.01, as many units as atoms, "
            "Hungarian match with sign; chance: a random dictionary of that size."
        ),
    )
    path = options.results or options.out / "results.json"
    result.write(path, tables(result))
    console.print(Markdown(tables(result)))
    console.print(Text(f"{path} and its table are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> PaperTables:
    """The command line as options."""
    return tyro.cli(PaperTables, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
