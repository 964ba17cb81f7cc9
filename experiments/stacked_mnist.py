"""Stacked MNIST: of a thousand known modes, how many a GAN finds, and how evenly."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown

from experiments.modes import SAMPLE_SEED, Case, Metric, result, rows, tables, train_case
from saegan_jax.algorithms.base import Batch, Examples
from saegan_jax.algorithms.gan import GANConfig, gan
from saegan_jax.data import Dataset, load
from saegan_jax.data.stacked import stacked, stacks
from saegan_jax.errors import require
from saegan_jax.evaluation.features import FeatureNetwork, load_feature_network
from saegan_jax.metrics import mode_count, reverse_kl, reverse_kl_floor
from saegan_jax.report import image_grid
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.presets import MNIST_GAN
from saegan_jax.runs.program import main
from saegan_jax.training.callbacks import Scores
from saegan_jax.training.run_folder import to_json
from saegan_jax.training.systems import draw, gan_members_per_vmap

ProtocolName = Literal["quarter", "half", "veegan", "four"]
METRICS = (
    Metric("modes", "modes", "count", True),
    Metric("reverse_kl", "reverse KL, nats", "nats", False),
)
FIXED_STACKS = 128_000


class Protocol(NamedTuple):
    """What a published table was made with.

    Attributes:
      about: for the help and the note.
      stack: images in one sample.
      samples: how many are scored.
      networks: settings of the GAN that the protocol fixes.
      fixed: of a set of 128,000 stacks made once of training and test images, instead of fresh ones of training images.
      published: modes and reverse KL by method.
    """

    about: str
    stack: int
    samples: int
    networks: Mapping[str, Any]
    fixed: bool
    published: Mapping[str, tuple[float, float]]


TINY: Mapping[str, Any] = {"network": "unrolled", "width": 8, "d_noise": 256}
DCGAN: Mapping[str, Any] = {"network": "dcgan", "width": 64, "d_width": 64, "d_noise": 100}
# Metz et al., Unrolled generative adversarial networks, 2017, table 1; Lin et al., PacGAN, 2018, tables 3 and 4;
# Srivastava et al., VEEGAN, 2017, table 1; Huang et al., The GAN is dead; long live the GAN!, 2024, table 2.
PROTOCOLS: Mapping[ProtocolName, Protocol] = {
    "quarter": Protocol(
        "tiny networks, the critic a quarter of the generator's width (Unrolled GAN)", 3, 25_600, {**TINY, "d_width": 2}, False,
        {"DCGAN": (30.6, 5.99), "Unrolled GAN, 10 steps": (327.2, 4.66), "PacDCGAN4": (667, 1.81)},
    ),
    "half": Protocol(
        "tiny networks, the critic half of the generator's width (Unrolled GAN)", 3, 25_600, {**TINY, "d_width": 4}, False,
        {"DCGAN": (628, 2.58), "Unrolled GAN, 10 steps": (817.4, 1.43), "PacDCGAN3": (867, 0.90)},
    ),
    "veegan": Protocol(
        "128,000 fixed stacks, DCGAN of width 64 (VEEGAN, PacGAN); for an accelerator", 3, 26_000, DCGAN, True,
        {"DCGAN": (99, 3.40), "VEEGAN": (150, 2.95), "PacDCGAN2": (1000, 0.06), "R3GAN": (1000, 0.029)},
    ),
    "four": Protocol(
        "stacks of four, 10,000 modes; for an accelerator", 4, 260_000, DCGAN, False,
        {"WGAN-GP": (9538, 0.914), "MEG": (10000, 0.048)},
    ),
}  # fmt: skip
# Chosen with one to four members; every batch is fresh, so that there is no split to hold out.
# The tiny critic wants a much higher rate than the generator, or it tells nothing apart.
RECIPE = GANConfig(
    network="unrolled", width=8, d_width=2, d_noise=256, r1_gamma=0.1, r2_gamma=0.1, learning_rate=1e-2, generator_rate=0.1,
    final_learning_rate=0.05, ema_half_life=8000.0, batch_size=64, steps=8000,
)  # fmt: skip
# What went furthest on single digits; not tried on stacks, for want of an accelerator.
DCGAN_RECIPE = replace(MNIST_GAN, steps=30000)


@dataclass(frozen=True, kw_only=True)
class StackedMNIST:
    """Train a GAN on stacks of MNIST digits by published protocols, all seeds in one program, beside the published rows.

    A stopped command continues where it was. Each channel of a sample is classified by itself; a mode is a combination of
    classes and counts when at least one sample has it; the reverse KL is that of the modes against equal shares.
    """

    protocols: tuple[ProtocolName, ...] = ("quarter", "half")
    """quarter, half: Unrolled GAN's tiny networks. veegan: 128,000 fixed stacks, DCGAN. four: stacks of four, 10,000 modes. The
    latter two are for an accelerator, and have settings of their own."""
    gan: GANConfig = field(default_factory=lambda: RECIPE)
    """The GAN; network, widths and d_noise are the protocol's unless --own-networks."""
    own_networks: bool = False
    """Take network, widths and d_noise from --gan too; the rows are then no comparison with the published ones."""
    seed: int = 0
    """First seed."""
    seeds: int = 3
    """Members of each protocol, trained at once."""
    log_every: int = 250
    """Steps between two rows of metrics."""
    look_every: int = 2000
    """Steps between two scores, pictures and checkpoints; a multiple of log_every."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    out: Path = Path("runs/stacked_mnist")
    """Folder of the runs, one a protocol."""
    results: Path | None = None
    """JSON to write, its Markdown beside it; by default results.json in --out."""

    def __post_init__(self) -> None:
        check_options(self)
        require(
            len(self.protocols) > 0, "protocols", self.protocols, f"name some of {', '.join(get_args(ProtocolName))}."
        )
        require(
            len({PROTOCOLS[name].networks["network"] for name in self.protocols}) == 1,
            "protocols", self.protocols, "the tiny networks and the DCGANs want different settings; name them in two commands.",
        )  # fmt: skip
        require(
            not self.gan.conditional, "gan.conditional", True, "modes are to be found, not asked for; leave it out."
        )
        suffix = self.results is None or self.results.suffix == ".json"
        require(suffix, "results", str(self.results), "give it a name that ends in .json.")


def stacked_labels(network: FeatureNetwork, images: np.ndarray) -> np.ndarray:
    """Modes of ``(n, height, width, stack)`` images in [0, 1]: the predicted classes as digits of one number, ``(n,)``."""
    pixels = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    label = np.zeros(len(images), np.int64)
    for channel in range(images.shape[-1]):
        label = 10 * label + network.predict_labels(pixels[..., channel : channel + 1])
    return label


def case_of(options: StackedMNIST, name: ProtocolName, dataset: Dataset, network: FeatureNetwork, folder: Path) -> Case:
    """One protocol."""
    protocol, n_seeds = PROTOCOLS[name], options.seeds
    config = options.gan if options.own_networks else replace(options.gan, **protocol.networks)
    height, width, _ = dataset.image_shape
    stack, n_modes = protocol.stack, 10**protocol.stack
    algorithm = gan(config, image_shape=(height, width, stack))
    splits = (dataset.train, dataset.test) if protocol.fixed else (dataset.train,)
    share = np.bincount(np.concatenate([split.label for split in splits]), minlength=10).astype(np.float64)
    # MNIST's classes are not equally frequent, so that a perfect generator's modes are not either.
    frequencies = reduce(np.multiply.outer, [share / share.sum()] * stack).reshape(-1)
    expected = reverse_kl_floor(protocol.samples, num_modes=n_modes, probabilities=frequencies)
    floors = {"modes": float(n_modes), "reverse_kl": float(expected.mean)}
    images = Examples(
        jnp.asarray(np.concatenate([split.image for split in splits])),
        jnp.asarray(np.concatenate([split.label for split in splits])),
    )
    # Fixed stacks are rows of indices: a thousandth of the memory that their images would take.
    chosen = stacks(jax.random.key(0), images, n=FIXED_STACKS, stack=stack) if protocol.fixed else None

    def batches(key: jax.Array, data: Any) -> Batch:
        images, chosen = data
        if chosen is None:
            index = stacks(key, images, n=config.batch_size, stack=stack)
        else:
            index = chosen[jax.random.randint(key, (config.batch_size,), 0, len(chosen))]
        return stacked(images, index)

    def measures(own: np.ndarray) -> tuple[float, float]:
        if not np.isfinite(own).all():
            return float("nan"), float("nan")
        label = stacked_labels(network, own)
        return float(mode_count(label, num_modes=n_modes)), reverse_kl(label, num_modes=n_modes)

    def score(step: int, state: Any) -> Scores:
        drawn = draw(algorithm, state, seed=SAMPLE_SEED, n=protocol.samples, n_seeds=n_seeds)
        found = [measures(own) for own in drawn]
        return Scores({m.name: [one[i] for one in found] for i, m in enumerate(METRICS)}, floors)

    def picture(step: int, state: Any) -> None:
        shown = draw(algorithm, state, seed=SAMPLE_SEED + 1, n=48, n_seeds=n_seeds)[..., :3]
        path = folder / "samples" / f"{step:07d}.png"
        image_grid(np.nan_to_num(shown).reshape(-1, *shown.shape[2:]), path, columns=16)  # three rows a member

    return Case(
        name=name,
        config=config,
        algorithm=algorithm,
        draw=batches,
        data=(images, chosen),
        score=score,
        picture=picture,
        floors=floors,
        published={method: {"modes": modes, "reverse_kl": kl} for method, (modes, kl) in protocol.published.items()},
        members_per_vmap=gan_members_per_vmap(config),
        settings={"samples": protocol.samples, "stack": stack, "classifier": network.hash},
    )


def run(options: StackedMNIST) -> None:
    """Train what is missing, then write and show the table."""
    console, made = Console(), []
    dataset = load("mnist", manual_dir=options.manual_dir, data_dir=options.data_dir)
    network = load_feature_network(dataset)
    for name in options.protocols:
        console.print(f"[bold]{name}")
        folder = options.out / name
        case = case_of(options, name, dataset, network, folder)
        train_case(
            case,
            folder,
            seed=options.seed,
            seeds=options.seeds,
            log_every=options.log_every,
            look_every=options.look_every,
        )
        made += rows(case, folder, METRICS)
    abouts = "; ".join(
        f"*{name}*: {PROTOCOLS[name].about}, {PROTOCOLS[name].samples:,} samples" for name in options.protocols
    )
    note = (
        f"{abouts}. {options.seeds} seeds in one program, {options.gan.steps:,} steps of batch {options.gan.batch_size}; mean "
        f"[bootstrap 95 % interval over seeds]; classes by the MNIST classifier {network.hash[:8]}, accuracy "
        f"{network.accuracy:.4f}. *Best evaluation*: each seed's best value of each measure among its evaluations; the final "
        "state is the result."
    )
    settings = {"gan": to_json(options.gan), "seeds": options.seeds, "own_networks": options.own_networks}
    found = result("Stacked MNIST", note, settings, made)
    found.write(options.results or options.out / "results.json", tables(found, METRICS))
    console.print(Markdown(tables(found, METRICS)))


def parse_options(arguments: Sequence[str] | None = None) -> StackedMNIST:
    """The command line as options; the GAN's defaults are those that suit the networks of the protocols."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--protocols", nargs="*", default=[])
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    chosen, _ = first.parse_known_args(arguments)
    known = [name for name in chosen.protocols if name in PROTOCOLS]  # an unknown one is tyro's to refuse
    if known and PROTOCOLS[known[0]].networks is DCGAN:
        return tyro.cli(StackedMNIST, args=arguments, default=StackedMNIST(protocols=("veegan",), gan=DCGAN_RECIPE))
    return tyro.cli(StackedMNIST, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
