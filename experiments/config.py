"""What the training scripts can be told, and the presets they start from."""

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from saegan_jax.algorithms.cyclegan import CycleGANConfig, TranslationConfig
from saegan_jax.algorithms.energy import EnergyConfig, discriminator_sae, energy_gan
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.algorithms.vae import VAEConfig
from saegan_jax.data.domains import DOMAINS
from saegan_jax.errors import require, require_choice

Options = TypeVar("Options", bound="RunOptions")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What to train on, how many seeds, and where the run goes."""

    dataset: str = "digits"
    """digits (8x8, embedded), mnist (28x28), fashion_mnist, kmnist, or any prepared TFDS image data set."""
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
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""
    log_every: int = 100
    """Steps between two rows of metrics; also the length of one compiled scan."""
    save_every: int = 1000
    """Steps between two checkpoints; a multiple of log_every."""
    picture_every: int = 1000
    """Steps between two pictures of samples; a multiple of log_every."""
    evaluate: bool = True
    """Score samples against held-out data in the features of a small classifier, trained once and cached."""

    def __post_init__(self) -> None:
        require(self.seeds >= 1, "seeds", self.seeds, "train at least one.")
        require(0 <= self.seed < 2**31 - self.seeds, "seed", self.seed, "it must be a number from 0 to 2^31.")


@dataclass(frozen=True, kw_only=True)
class StreamOptions(RunOptions):
    """Of the trainings whose images may stay on the host."""

    data_on: Literal["auto", "device", "host"] = "auto"
    """Where the training images are: in the device's memory, or on the host, from where each step's are read while the
    device computes (from disk where the data set is prepared there). Both get the same batches in the same order. auto is
    the device where they take at most a quarter of its memory and of the host's."""


@dataclass(frozen=True, kw_only=True)
class TrainSAE(StreamOptions):
    """Train a sparse autoencoder."""

    sae: SAEConfig = field(default_factory=SAEConfig)


@dataclass(frozen=True, kw_only=True)
class TrainGAN(StreamOptions):
    """Train the plain GAN, the baseline of every comparison."""

    recipe: str = "preset"
    """Losses, penalties, optimiser and schedules of the GAN: the preset's own, or those of r3gan, dcgan, wgan_gp or sngan."""
    gan: GANConfig = field(default_factory=GANConfig)


@dataclass(frozen=True, kw_only=True)
class TrainSAEGAN(RunOptions):
    """Train a sparse autoencoder, fit the sparse prior to its codes, and train a GAN with either or both."""

    recipe: str = "preset"
    """Losses, penalties, optimiser and schedules of the GAN: the preset's own, or those of r3gan, dcgan, wgan_gp or sngan."""
    # Unprefixed: --generator-input, --discriminator, --sae.rho, --gan.width.
    model: Annotated[SAEGANConfig, tyro.conf.arg(name="")] = field(default_factory=SAEGANConfig)


@dataclass(frozen=True, kw_only=True)
class TrainEnergy(RunOptions):
    """Train an energy-based GAN: the sparse autoencoder is the discriminator, an image's energy its reconstruction error."""

    # Unprefixed: --kind, --margin, --sae.beta, --gan.width.
    energy: Annotated[EnergyConfig, tyro.conf.arg(name="")] = field(default_factory=EnergyConfig)


@dataclass(frozen=True, kw_only=True)
class TrainVAE(RunOptions):
    """Train a variational autoencoder: Gaussian, spike and slab, or with the KL sparsity penalty on its code."""

    vae: VAEConfig = field(default_factory=VAEConfig)


@dataclass(frozen=True, kw_only=True)
class TrainCycleGAN(RunOptions):
    """Train CycleGAN between two domains whose training images are never paired, and score its translations.

    The sparse kind trains an autoencoder on images of both domains first (--sae). Scored on test images: the label that a
    classifier of the target domain sees in a translation, the error beside the true counterpart where there is one, the
    error of the cycle, and that error when the image in the middle is quantised or noised, which shows what it hides.
    """

    dataset: tyro.conf.Suppress[str] = ""
    preset: tyro.conf.Suppress[str] = "auto"
    fraction: tyro.conf.Suppress[float] = 1.0
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

    @property
    def model(self) -> TranslationConfig:
        """Both settings as one."""
        return TranslationConfig(cyclegan=self.cyclegan, sae=self.sae)


@dataclass(frozen=True)
class Preset:
    """Starting values, and what they are for."""

    purpose: str
    dataset: str
    model: SAEGANConfig
    log_every: int
    save_every: int
    picture_every: int
    vae: VAEConfig = field(default_factory=VAEConfig)


# Tuned on validation images with the plain GAN alone (--generator-input gaussian --discriminator pixels): a high rate that
# decays, a light penalty and a dense layer in the discriminator's head went furthest in a fixed time.
MNIST_GAN = GANConfig(
    network="dcgan",
    head_hidden=(256,),
    r1_gamma=0.2,
    r2_gamma=0.2,
    learning_rate=3e-3,
    final_learning_rate=0.05,
    steps=5000,
)

# Chosen on validation images with one seed. Grey pixels of 8x8 say little in a cross-entropy, which is soft on them.
DIGITS_VAE = VAEConfig(likelihood="gaussian", noise=0.15, steps=4000)
MNIST_VAE = VAEConfig(d_latent=64, steps=5000)

PRESETS: Mapping[str, Preset] = {
    "digits": Preset(
        "8x8 digits on a CPU, under three minutes",
        "digits",
        SAEGANConfig(
            sae=SAEConfig(d_sae=128, beta=1.0, steps=3000, learning_rate=5e-3),
            gan=GANConfig(d_noise=32, r1_gamma=0.2, r2_gamma=0.2, learning_rate=1e-3, steps=10000),
        ),
        log_every=200,
        save_every=1000,
        picture_every=1000,
        vae=DIGITS_VAE,
    ),
    "mnist-cpu": Preset(
        "28x28 images on a CPU, minutes",
        "mnist",
        SAEGANConfig(
            sae=SAEConfig(d_sae=256, decoder_norm=3.0, learning_rate=5e-3, steps=2000),
            gan=MNIST_GAN,
        ),
        log_every=100,
        save_every=1000,
        picture_every=1000,
        vae=MNIST_VAE,
    ),
    "mnist-gpu": Preset(
        "28x28 images on a GPU or TPU: twice the width, four times the batch, a larger SAE",
        "mnist",
        SAEGANConfig(
            sae=SAEConfig(d_sae=1024, decoder_norm=3.0, steps=20000, batch_size=1024),
            gan=dataclasses.replace(
                MNIST_GAN, width=64, head_hidden=(512,), batch_size=256, ema_half_life=64000, steps=30000
            ),
            code_hidden=(512, 512),
        ),
        log_every=500,
        save_every=5000,
        picture_every=5000,
        vae=dataclasses.replace(MNIST_VAE, hidden=(512, 512), batch_size=512, steps=20000),
    ),
    "tutorial": Preset(
        "the smallest sound form: 784-128 SAE, 100 noise dimensions, one hidden dense layer, Adam, batch 32, 10 epochs",
        "mnist",
        SAEGANConfig(
            code_hidden=(128,),
            sae=SAEConfig(d_sae=128, decoder_norm=3.0, batch_size=32, steps=17200, learning_rate=1e-3),
            gan=GANConfig(
                hidden=(256,),
                d_noise=100,
                r1_gamma=0.2,
                r2_gamma=0.2,
                learning_rate=1e-3,
                final_learning_rate=0.05,
                batch_size=32,
                steps=17200,
            ),
        ),
        log_every=100,
        save_every=1000,
        picture_every=1000,
        vae=VAEConfig(hidden=(128,), batch_size=32, steps=17200),
    ),
}
# The adversarial part of published methods, on whatever networks the preset has unless the method names its own. Batch
# normalisation, which DCGAN and WGAN-GP had in the generator, is left out: networks here treat every image by itself.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "preset": {},
    # Huang et al., 2024; gamma as for its Stacked MNIST, it does not transfer between data sets.
    "r3gan": {
        "network": "residual", "loss": "relativistic", "r1_gamma": 1.0, "r2_gamma": 1.0, "final_gamma": 0.1,
        "learning_rate": 2e-4, "final_learning_rate": 0.25, "beta1": 0.0, "beta2": 0.9, "final_beta2": 0.99,
        "ema_burn_in": True,
    },
    # Radford et al., 2016.
    "dcgan": {
        "network": "dcgan", "head_hidden": (), "loss": "non_saturating", "r1_gamma": 0.0, "r2_gamma": 0.0,
        "learning_rate": 2e-4, "final_learning_rate": 1.0, "beta1": 0.5, "beta2": 0.999, "ema_half_life": 0.0,
        "batch_size": 128,
    },
    # Gulrajani et al., 2017: five critic steps of 64 for one of the generator.
    "wgan_gp": {
        "loss": "wasserstein", "r1_gamma": 0.0, "r2_gamma": 0.0, "gradient_penalty": 10.0, "d_steps": 5, "batch_size": 320,
        "learning_rate": 1e-4, "final_learning_rate": 1.0, "beta1": 0.0, "beta2": 0.9, "ema_half_life": 0.0,
    },
    # Miyato et al., 2018.
    "sngan": {
        "loss": "hinge", "r1_gamma": 0.0, "r2_gamma": 0.0, "spectral_norm": True, "d_steps": 5, "batch_size": 320,
        "learning_rate": 2e-4, "final_learning_rate": 1.0, "beta1": 0.0, "beta2": 0.9, "ema_half_life": 0.0,
    },
}  # fmt: skip
# Energy-based GANs by preset and kind, beside its autoencoder and generator. The digits' margin was the best of .5, 1, 2
# and 4 on validation images, with one seed; that of the others is the paper's, not tuned.
ENERGY: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "digits": {"ebgan": {"margin": 1.0}, "began": {"gamma": 0.7}},
    "other": {"ebgan": {"margin": 10.0}, "began": {"gamma": 0.7}},
}
DATASET_PRESETS = {"digits": "digits"}  # every other data set starts from mnist-cpu


def preset_name(dataset: str | None, preset: str) -> str:
    """The preset that ``--preset`` and ``--dataset`` together name."""
    if preset == "auto":
        return DATASET_PRESETS.get(dataset or "digits", "mnist-cpu")
    close = difflib.get_close_matches(preset, PRESETS, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    require(preset in PRESETS, "preset", preset, f"{hint}choose auto, {', '.join(PRESETS)}.")
    return preset


def energy_settings(preset: str, model: SAEGANConfig, kind: Any) -> EnergyConfig:
    """The energy-based GAN of a kind and preset, with the autoencoder and the generator of ``model``."""
    gan = dataclasses.replace(energy_gan(model.gan), beta1=0.5, beta2=0.999)
    return EnergyConfig(
        kind=kind, sae=discriminator_sae(model.sae), gan=gan, **ENERGY.get(preset, ENERGY["other"])[kind]
    )


def _energy(preset: str, model: SAEGANConfig, arguments: Sequence[str]) -> EnergyConfig:
    """The energy-based GAN of a preset, with what its ``--kind`` wants."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--kind", default="ebgan")
    chosen = first.parse_known_args(arguments)[0].kind
    return energy_settings(preset, model, chosen if chosen in ENERGY["other"] else "ebgan")  # tyro refuses unknown ones


def parse(kind: type[Options], arguments: Sequence[str] | None = None) -> Options:
    """The command line as options: the preset first, with what the SAE's variant wants, then whatever the user set.

    Raises:
      ConfigError: a setting that cannot work.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--dataset")
    first.add_argument("--preset", default="auto")
    if "recipe" in kind.__dataclass_fields__:
        first.add_argument("--recipe", default="preset")
    first.add_argument("--sae.variant", dest="variant")
    chosen, _ = first.parse_known_args(arguments, argparse.Namespace(recipe="preset"))
    name = preset_name(chosen.dataset, chosen.preset)
    preset = PRESETS[name]
    shared: dict[str, Any] = {
        "dataset": chosen.dataset or preset.dataset,
        "preset": name,
        "log_every": preset.log_every,
        "save_every": preset.save_every,
        "picture_every": preset.picture_every,
    }
    model = preset.model
    if chosen.variant is not None:
        require_choice("sae.variant", chosen.variant, tuple(VARIANTS))
        wanted = {"variant": chosen.variant, **VARIANTS[chosen.variant].defaults}
        model = dataclasses.replace(model, sae=dataclasses.replace(model.sae, **wanted))
    close = difflib.get_close_matches(chosen.recipe, RECIPES, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    require(chosen.recipe in RECIPES, "recipe", chosen.recipe, f"{hint}choose {', '.join(RECIPES)}.")
    model = dataclasses.replace(model, gan=dataclasses.replace(model.gan, **RECIPES[chosen.recipe]))
    parts: dict[str, Any] = {"model": model, "sae": model.sae, "gan": model.gan, "vae": preset.vae}
    if "energy" in kind.__dataclass_fields__:
        parts["energy"] = _energy(name, model, arguments)
    parts["recipe"] = chosen.recipe
    own = {f.name: parts[f.name] for f in dataclasses.fields(kind) if f.name in parts}
    presets = "\n".join(f"  {key}: {value.purpose}" for key, value in PRESETS.items())
    return tyro.cli(
        kind,
        args=arguments,
        default=kind(**shared, **own),
        description=f"{kind.__doc__}\n\nPresets (--preset); defaults shown are those of {name}:\n{presets}",
    )
