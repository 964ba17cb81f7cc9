"""Options of every training: what to train on, how many seeds, where the run goes, and the settings of the system."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro

from saegan_jax.algorithms.cyclegan import CycleGANConfig, TranslationConfig
from saegan_jax.algorithms.energy import EnergyConfig
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.algorithms.vae import VAEConfig
from saegan_jax.data.domains import DOMAINS
from saegan_jax.data.tfds_source import OWN
from saegan_jax.errors import require, require_choice
from saegan_jax.runs.image_files import ImageFiles
from saegan_jax.training.trackers import NONE, TRACKERS

Options = TypeVar("Options", bound="RunOptions")


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """The devices that a training is spread over."""

    mesh: str = "none"
    """Devices to train on: none (one), auto (all), or how many along each axis, as in data=4,model=2. data shares the examples
    of a batch, seed the members of --seeds, model the units of a dictionary. The numbers are those of one device up to
    rounding, and a run may be resumed on another mesh."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(ImageFiles, DeviceOptions):
    """What to train on, how many seeds, and where the run goes."""

    dataset: str = "digits"
    """digits (8x8, embedded), shapes (32x32x3, drawn), mnist (28x28), fashion_mnist, kmnist, any prepared TFDS image data set;
    folder:PATH, a folder of your own images, in a subfolder for each class or in none; or, for train sae, vectors:PATH, a .npy,
    .npz or .safetensors file or a folder of them."""
    fraction: float = 1.0
    """Share of the training images to train on, stratified by class and always the same ones."""
    preset: str = "auto"
    """Starting values of all other options; auto takes the data set's own. Listed at the top of this help."""
    seed: int = 0
    """Seed of the run; with several seeds, of its first member."""
    seeds: int = 1
    """Members trained at once in one vmapped program, with seeds seed, seed+1, ..."""
    out: Path | None = None
    """Run folder; by default runs/<what is trained>."""
    resume: bool = False
    """Continue the run in the folder from its newest complete checkpoint."""
    log_every: int = 100
    """Steps between two rows of metrics; also the length of one compiled scan."""
    save_every: int = 1000
    """Steps between two checkpoints; a multiple of log_every."""
    picture_every: int = 1000
    """Steps between two pictures of samples; a multiple of log_every."""
    evaluate: bool = True
    """Score samples against held-out data in the features of a small classifier, trained once and cached; of an autoencoder
    alone, fit probes of the labels to its codes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.fraction <= 1, "fraction", self.fraction, "it is a share of the training images, above 0, up to 1."
        )

    @property
    def dataset_word(self) -> str:
        """The data set in the name of a run folder: of a path its last part."""
        kind, colon, path = self.dataset.partition(":")
        return f"{kind}-{Path(path).resolve().name}" if colon and kind in OWN else self.dataset


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """One training, rather than a study of many."""

    plan: str | None = None
    """Train nothing: compile for a slice of TPUs that need not be there, such as v5e:2x4 or v5p:2x2x1, and say whether each
    step fits, its estimated time and what the chips of --mesh send each other."""
    tracker: str = "none"
    """Experiment tracker that gets the numbers too: none, wandb or trackio, a package that is installed and set up."""
    roll_back: int = 0
    """Times that a training whose numbers are no longer finite goes back to its last checkpoint and on at half the rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("tracker", self.tracker, (NONE, *TRACKERS))
        require(self.roll_back >= 0, "roll_back", self.roll_back, "it is a number of times, zero or more.")


@dataclass(frozen=True, kw_only=True)
class StreamOptions(TrainOptions):
    """Of the trainings whose images may stay on the host."""

    data_on: Literal["auto", "device", "host"] = "auto"
    """Where the training images are: in the device's memory, or on the host, from where each step's are read while the
    device computes (from disk where the data set is prepared there). Both get the same batches in the same order. auto is
    the device where they take at most a quarter of its memory and of the host's."""


@dataclass(frozen=True, kw_only=True)
class TrainSAE(StreamOptions):
    """Train a sparse autoencoder, on images or, with --dataset vectors:PATH, on activations of any model."""

    normalise: Literal["auto", "none", "scale", "centre"] = "auto"
    """Of vectors:PATH: scale gives them the mean norm sqrt(width), so that learning rates transfer; centre subtracts their mean
    first. auto is scale, or that of the weights of --from. The export puts it back into the weights."""
    start_from: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Folder of saved weights to train on, as `saegan export` or SAELens writes them; options that are not given are theirs."""
    sae: SAEConfig = field(default_factory=SAEConfig)


@dataclass(frozen=True, kw_only=True)
class TrainGAN(StreamOptions):
    """Train the plain GAN, the baseline of every comparison."""

    recipe: str = "preset"
    """Losses, penalties, optimiser and schedules of the GAN: the preset's own, or those of r3gan, dcgan, wgan_gp or sngan."""
    gan: GANConfig = field(default_factory=GANConfig)


@dataclass(frozen=True, kw_only=True)
class TrainSAEGAN(TrainOptions):
    """Train a sparse autoencoder, fit the sparse prior to its codes, and train a GAN with either or both."""

    recipe: str = "preset"
    """Losses, penalties, optimiser and schedules of the GAN: the preset's own, or those of r3gan, dcgan, wgan_gp or sngan."""
    # Unprefixed: --generator-input, --discriminator, --sae.rho, --gan.width.
    model: Annotated[SAEGANConfig, tyro.conf.arg(name="")] = field(default_factory=SAEGANConfig)


@dataclass(frozen=True, kw_only=True)
class TrainEnergy(TrainOptions):
    """Train an energy-based GAN: the sparse autoencoder is the discriminator, an image's energy its reconstruction error."""

    # Unprefixed: --kind, --margin, --sae.beta, --gan.width.
    energy: Annotated[EnergyConfig, tyro.conf.arg(name="")] = field(default_factory=EnergyConfig)


@dataclass(frozen=True, kw_only=True)
class TrainVAE(TrainOptions):
    """Train a variational autoencoder: Gaussian, spike and slab, or with the KL sparsity penalty on its code."""

    vae: VAEConfig = field(default_factory=VAEConfig)


@dataclass(frozen=True, kw_only=True)
class TrainCycleGAN(TrainOptions):
    """Train CycleGAN between two domains whose training images are never paired, and score its translations.

    The sparse kind trains an autoencoder on images of both domains first (--sae). Scored on test images: the label that a
    classifier of the target domain sees in a translation, the error beside the true counterpart where there is one, the
    error of the cycle, and that error when the image in the middle is quantised or noised, which shows what it hides.
    """

    dataset: tyro.conf.Suppress[str] = ""
    image_size: tyro.conf.Suppress[int | None] = None
    channels: tyro.conf.Suppress[Literal[1, 3, 4] | None] = None
    max_skipped: tyro.conf.Suppress[int | None] = None
    preset: tyro.conf.Suppress[str] = "auto"
    fraction: tyro.conf.Suppress[float] = 1.0
    roll_back: tyro.conf.Suppress[int] = 0
    domains: str = "digits_inverted_rotated"
    """digits_inverted_rotated (8x8, embedded): one half of the digits, and the other half inverted and turned by 90 degrees.
    mnist_inverted_rotated: the same of MNIST. mnist_digits: MNIST, and the embedded digits enlarged."""
    beside: tuple[Path, ...] = ()
    """Folders of finished runs on the same domains, whose curves are drawn in cycle_robustness.png too."""
    cyclegan: CycleGANConfig = field(default_factory=CycleGANConfig)
    sae: SAEConfig = field(default_factory=SAEConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("domains", self.domains, DOMAINS)
        fix = "the learning rate of a CycleGAN is no part of its state, which a roll-back would change; leave it out."
        require(self.roll_back == 0, "roll_back", self.roll_back, fix)

    @property
    def model(self) -> TranslationConfig:
        """Both settings as one."""
        return TranslationConfig(cyclegan=self.cyclegan, sae=self.sae)
