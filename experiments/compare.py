"""Arms against a baseline at equal size and equal operations: many seeds, controls, intervals that hold for all together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.markdown import Markdown

from saegan_jax import signals
from saegan_jax.data import load, share
from saegan_jax.errors import require
from saegan_jax.files import write_bytes
from saegan_jax.report.comparison import HEADLINE, Measured, changes_picture, factorial, rows_of, tables
from saegan_jax.report.table import Result
from saegan_jax.runs.compare.arms import arm_names
from saegan_jax.runs.compare.budgets import Equal
from saegan_jax.runs.compare.plan import blocks, collect, plan, size_arms, train_missing
from saegan_jax.runs.options import TrainSAEGAN
from saegan_jax.runs.parse import parse
from saegan_jax.runs.program import experiment_command, main
from saegan_jax.runs.session import to_json_options
from saegan_jax.training.busy import busy
from saegan_jax.training.phase import check_batch

SPENT = {
    "steps": "as many steps",
    "flops": "as many floating-point operations, the autoencoder's included",
}


@dataclass(frozen=True, kw_only=True)
class Compare(TrainSAEGAN):
    """Train every arm on every fraction of the data with every seed, and compare it with the plain GAN.

    An arm is a placement of the autoencoder: sparse, sparse-copula, sparse-clusters, sparse-bootstrap, sparse-aligned (the
    generator's input), latent-codes, latent-pixels (its output), codes, ensemble, projected, lossless, init (the
    discriminator), both, both-codes, and ebgan and began, whose discriminator is the autoencoder. After + : dense (a dense
    autoencoder of equal size instead), random (one that is not trained), kmeans (k-means labels instead), augment
    (DiffAugment),
    hidden-l1, hidden-hoyer and hidden-l2 (a penalty on what the generator's last layer reads), dropout (random parts of codes,
    beside the joint critic), bootstrap (samples of codes of training images, a diagnostic). Each runs in a folder of --out:
    finished ones are kept, interrupted ones continued, so that the same command completes the comparison after any stop, and
    more arms, fractions or seeds add to it.
    --fraction, --resume and what places the autoencoder have no effect.
    """

    arms: tuple[str, ...] = ("sparse", "codes", "ensemble", "both")
    """Arms beside the plain GAN, which is always there."""
    controls: bool = True
    """Also run each arm with a dense and with a random autoencoder in the sparse one's place."""
    fractions: tuple[float, ...] = (1.0,)
    """Shares of the training images."""
    block: int = 8
    """Seeds in one program and run folder; --seeds is a multiple of it, or less."""
    equal: Equal = "flops"
    """flops: all arms cost what the plain GAN's steps cost, the autoencoder's training charged; steps: all take as many."""
    match: bool = True
    """Vary dense layers so that generator and discriminator have the plain GAN's number of parameters."""
    tabulate: bool = False
    """Train nothing, and tabulate what is finished."""
    results: Path | None = None
    """JSON to write, beside it its plot, the table of changes, and under <name>-all.md every measure; by default results.json
    in --out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.equal in get_args(Equal), "equal", self.equal, "choose flops or steps.")
        require(self.block >= 1, "block", self.block, "train at least one seed at once.")
        require(
            self.seeds <= self.block or self.seeds % self.block == 0,
            "seeds",
            self.seeds,
            f"blocks of {self.block} are trained at once; use a multiple.",
        )
        for fraction in self.fractions:
            require(0 < fraction <= 1, "fractions", fraction, "it is a share of the training images, above 0, up to 1.")
        require(len(set(self.fractions)) == len(self.fractions) > 0, "fractions", self.fractions, "name each once.")


def result_of(options: Compare, measured: Sequence[Measured]) -> Result:
    """The published result."""
    sizes = [sum(one.parameters) for one in measured]
    rows = rows_of(measured)
    n = max(row["seeds"] for row in rows)
    return Result.here(
        f"comparison on {options.dataset}",
        experiment_command("compare"),
        rows,
        note=(
            f"Up to {n} seed{'s' * (n > 1)}, {SPENT[options.equal]}; {min(sizes):,} to {max(sizes):,} parameters. Mean "
            "[bootstrap 95 % interval over seeds] of final weights against test images; means leave out failed seeds, which "
            "are counted, and changes take them for the worst of all. *Change*: ratio of geometric means paired by seed, its "
            "interval corrected (Holm) for all arms and fractions of this table; found (**better**, **worse**) where it "
            "excludes 0, absent where it lies within 5 %, else undecided. *Best* and *last evaluation*: Frechet distance of "
            "few samples to validation images during the training; the best is not the result."
        ),
        factorial=factorial(measured),
        config=to_json_options(replace(options, results=None)),
    )


def run(options: Compare) -> None:
    """Train what is missing, then write and show the comparison."""
    console = Console()
    signals.continue_with()  # the same command; it resumes its trainings itself
    dataset = load(options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir)
    for fraction in options.fractions:
        images = len(share(dataset.train, fraction).label)
        check_batch("gan", options.model.gan.batch_size, images, steps=options.model.gan.steps)
    with busy(console, "counting parameters and operations"):
        names = arm_names(options.arms, controls=options.controls)
        sized = size_arms(names, options, dataset, match=options.match)
        plans = plan(sized, dataset, options.fractions, equal=options.equal, log_every=options.log_every)
    out = options.out or Path("runs") / f"compare-{options.dataset}-seed{options.seed}"
    programs = blocks(seed=options.seed, seeds=options.seeds, block=options.block)
    if not options.tabulate:
        train_missing(plans, programs, options, out, console)
    measured = collect(plans, programs, options, out)
    require(bool(measured), "tabulate", options.tabulate, f"no arm in {out} is finished; leave it out to train them.")
    result = result_of(options, measured)
    path = options.results or out / "results.json"
    result.write(path, tables(result, every=False))
    write_bytes(path.with_name(f"{path.stem}-all.md"), tables(result, every=True).encode())
    changes_picture(result, path.with_suffix(".png"), title=f"{HEADLINE} on {options.dataset}")
    console.print(Markdown(tables(result, every=False)))


def parse_options(arguments: Sequence[str] | None = None) -> Compare:
    """The command line as options."""
    return parse(Compare, arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
