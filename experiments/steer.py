"""Steer a trained generator along the features of a sparse autoencoder on one of its layers, beside other directions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data import load
from saegan_jax.errors import require, require_positive
from saegan_jax.evaluation.features import FeatureNetwork, load_feature_network
from saegan_jax.evaluation.steering import CLASS_MEAN, Found, SteeringSettings, programs
from saegan_jax.report.results import require_json
from saegan_jax.report.steering import dose_response_curves, rows_of, tables
from saegan_jax.report.table import Result
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import experiment_command, main
from saegan_jax.runs.steering import Steered, measure_members, read_generators, require_outside, write_arms
from saegan_jax.training.busy import busy
from saegan_jax.training.run_folder import to_json

REAL = 1000  # images that "real" is measured against


@dataclass(frozen=True, kw_only=True)
class Steer:
    """Edit a generator's activations along the features of a TopK autoencoder, and measure what that does to images.

    For every class, features are chosen on some samples by the correlation of their activity with the class's probability, and
    measured on others. The controls are chosen by the same rule from as many directions, and pushed by the same norm: random
    ones, differences between samples, principal components, features of an autoencoder on the activations of an untrained
    generator. The class's own mean is what labels could give. The run folder is not changed.
    """

    run: Path
    """Run folder of train_gan or train_saegan."""
    out: Path | None = None
    """Folder for results and pictures; by default runs/steer-<run>."""
    results: Path | None = None
    """JSON to write, table (.md) beside it; by default results.json in the folder."""
    layer: int | None = None
    """Hidden layer, counted from 1, or from the end by -1; by default a dense one: the last of mlp, else the first."""
    d_sae: int = 512
    """Features of the autoencoder."""
    k: int = 16
    """Active features per activation vector."""
    sae_steps: int = 3000
    """Steps of the autoencoder."""
    sae_seeds: int = 3
    """Autoencoders, and sets of random directions, for each generator."""
    features: int = 3
    """Directions chosen for each class."""
    alphas: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    """Doses, increasing, in units of the activations' root mean squared distance to their mean."""
    match: float = 0.5
    """Directions are also compared where they change pixels equally: by this share of the distance between two samples."""
    vectors: int = 50_000
    """Activation vectors that the autoencoder is trained on; a feature map gives one at every position."""
    choose: int = 2000
    """Samples that features are chosen on."""
    measure: int = 256
    """Other samples, that their effect is measured on."""
    seed: int = 0
    """Seed of everything here."""
    step: int | None = None
    """Checkpoint; by default the newest complete one."""
    member: int | None = None
    """Member of an ensemble, counted from 0; by default each, with intervals over them."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""

    def __post_init__(self) -> None:
        require_positive(d_sae=self.d_sae, sae_steps=self.sae_steps, sae_seeds=self.sae_seeds, features=self.features)
        require_positive(match=self.match, vectors=self.vectors, choose=self.choose, measure=self.measure)
        check_options(self)
        increasing = all(a < b for a, b in zip((0.0, *self.alphas), self.alphas, strict=False))
        require(bool(self.alphas) and increasing, "alphas", self.alphas, "give increasing doses above 0.")
        require(self.measure >= 2, "measure", self.measure, "the distance between samples needs two.")
        require_json(self.results)
        require(self.features <= self.d_sae, "features", self.features, f"there are only d_sae={self.d_sae}.")
        _ = self.settings  # the autoencoder's have errors of their own

    @property
    def settings(self) -> SteeringSettings:
        """How directions are found, chosen and measured."""
        sae = SAEConfig(
            variant="topk", d_sae=self.d_sae, k=self.k, steps=self.sae_steps, pre_bias="mean", auxk=1 / 32, learning_rate=3e-3
        )  # fmt: skip
        shared = {f.name: getattr(self, f.name) for f in fields(SteeringSettings) if f.name != "sae"}
        return SteeringSettings(sae=sae, **shared)


def note_of(options: Steer, steered: Steered, network: FeatureNetwork, found: Sequence[Found]) -> str:
    """What the numbers are of."""
    over = f"{len(found)} generators" if len(found) > 1 else "the classes of one generator"
    n_classes = len(found[0].arms[CLASS_MEAN].directions[0])
    return (
        f"{steered.name} at step {steered.step}, what enters {steered.cut.layer.name} ({steered.shape}); TopK autoencoder of "
        f"{options.d_sae} features, k {options.k}, {options.sae_steps:,} steps, {options.sae_seeds} "
        f"seed{'s' * (options.sae_seeds > 1)}. For each of {n_classes} classes {options.features} directions an arm and seed, "
        f"chosen by correlation on {options.choose:,} samples, measured on {options.measure:,} others, those not of the class. "
        f"Mean [bootstrap 95 % interval over {over}]. Equal change of pixels: {options.match:g} of the distance between two "
        f"samples, {np.mean([one.level for one in found]):.3g}; a direction that never reaches it counts where it came "
        f"nearest. Classifier {network.hash[:8]}, accuracy {network.accuracy:.4f}."
    )


def run(options: Steer) -> None:
    """Restore, train, choose, measure, write and show."""
    console, settings = Console(), options.settings
    folder = options.out or Path("runs") / f"steer-{options.run.resolve().name}"
    path = options.results or folder / "results.json"
    require_outside(options.run, out=folder, results=path)
    steered = read_generators(options.run, step=options.step, member=options.member, layer=options.layer)
    dataset = load(steered.options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir)
    with busy(console, "training the feature network, or opening the cached one") as say:
        network = load_feature_network(dataset)
        some = np.random.default_rng(0).permutation(len(dataset.test.image))[:REAL]
        compiled = programs(steered.cut, network, dataset.test.image[some])
        found = measure_members(settings, compiled, steered, say)
    known = {name: value for name, value in asdict(options).items() if not (value is None or isinstance(value, Path))}
    result = Result.here(
        f"steering {steered.name}, layer {steered.layer} ({steered.shape})",
        experiment_command("steer"),
        rows_of(found, options.alphas),
        note=note_of(options, steered, network, found),
        config=known | {"sae": to_json(settings.sae)},
    )
    result.write(path, tables(result))
    dose_response_curves([row.to_json() for row in result.rows], folder / "dose_response.png", title=result.name)
    write_arms(settings, compiled, steered, found[0], folder)
    console.print(Markdown(tables(result)))
    console.print(Text(f"{path}, its table, and in {folder} the pictures are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Steer:
    """The command line as options."""
    return tyro.cli(Steer, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
