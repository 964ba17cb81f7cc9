"""What samplers of sparse codes lose: their codes and decoded images, against those of data and of resampled training codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.errors import require_choice, require_positive
from saegan_jax.evaluation.features import load_feature_network
from saegan_jax.evaluation.prior_gap import (
    COLUMNS,
    JUDGED,
    REFERENCE,
    Bench,
    Drawer,
    GapSettings,
    Subject,
    measure_member,
    ordered,
)
from saegan_jax.priors import SAMPLERS, Sampler
from saegan_jax.report import image_grid
from saegan_jax.report.prior_gap import rows_of, tables
from saegan_jax.report.results import require_json
from saegan_jax.report.table import Result, seeds_text
from saegan_jax.runs.options import TrainSAE
from saegan_jax.runs.parse import parse
from saegan_jax.runs.program import experiment_command, main, prefixed
from saegan_jax.runs.subjects import read_subject, train_subject
from saegan_jax.training.busy import busy
from saegan_jax.training.run_folder import to_json


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
        require_json(self.results)


def note_of(options: PriorGap, subject: Subject) -> str:
    """What the numbers are of."""
    config, dataset, n = subject.config, subject.dataset, len(subject.params)
    held_out = len(dataset.validation.label) + len(dataset.test.label)
    note = (
        f"{config.variant} autoencoder of {config.d_sae} units, {seeds_text(n)}. Samplers fitted to the codes of "
        f"{len(subject.train.label):,} training images; codes compared with those of {held_out:,} validation and test images "
        f"(classifier: {min(JUDGED, held_out):,} of each, 5 folds), decoded samples with {len(dataset.test.label):,} test "
        f"images, mean of {options.draws} draws. The row of real codes: training codes, as many as held-out ones, and for "
        "Frechet distances training images. The bootstrap of training codes is a diagnostic and no generative model."
    )
    if subject.generators:
        note += f" The generator was trained with the {subject.trained_with} sampler."
    return note


def run(options: PriorGap) -> None:
    """Train or read, fit, measure, write and show."""
    console, samplers = Console(), ordered(options.samplers)
    if options.run is None:
        with busy(console, "training the autoencoder") as say:
            subject = train_subject(options, say)
    else:
        subject = read_subject(options.run, samplers, manual_dir=options.manual_dir, data_dir=options.data_dir)
    with busy(console, "training the feature network, or opening the cached one") as say:
        network = load_feature_network(subject.dataset)
        settings = GapSettings(samplers=samplers, n_clusters=options.n_clusters, draws=options.draws, seed=options.seed)
        bench, n = Bench(subject, settings, network, Drawer(subject)), len(subject.params)
        measured = [measure_member(bench, i, prefixed(say, f"member {i + 1} of {n}: ")) for i in range(n)]
    result = Result.here(
        f"samplers of sparse codes, {subject.dataset.name}",
        experiment_command("prior_gap"),
        rows_of([one.scores for one in measured], [one.floors for one in measured]),
        note=note_of(options, subject),
        config=to_json(subject.config) | {"n_clusters": options.n_clusters, "features": network.hash},
    )
    path = options.results
    result.write(path, tables(result))
    real = subject.dataset.test.image[:COLUMNS].astype(np.float32) / 255
    pictures = measured[0].pictures
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
