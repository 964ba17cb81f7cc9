"""Presets: starting values of all options, by data set and machine."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from saegan_jax.algorithms.energy import EnergyConfig, discriminator_sae, energy_gan
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.algorithms.vae import VAEConfig
from saegan_jax.errors import require_choice


@dataclass(frozen=True)
class Preset:
    """Starting values, and what they are for.

    Attributes:
      purpose: one line of the help.
      dataset: the data set, unless another is named.
      model: of the SAE and the GAN, and of every placement in comparisons.
      pairs: the same for `train saegan`, unless it is told of another critic or generator; None: ``model``.
    """

    purpose: str
    dataset: str
    model: SAEGANConfig
    log_every: int
    save_every: int
    picture_every: int
    vae: VAEConfig = field(default_factory=VAEConfig)
    pairs: SAEGANConfig | None = None


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

DIGITS = SAEGANConfig(
    sae=SAEConfig(d_sae=128, beta=1.0, steps=3000, learning_rate=5e-3),
    gan=GANConfig(d_noise=32, r1_gamma=0.2, r2_gamma=0.2, learning_rate=1e-3, steps=10000),
)
MNIST_CPU = SAEGANConfig(sae=SAEConfig(d_sae=256, decoder_norm=3.0, learning_rate=5e-3, steps=2000), gan=MNIST_GAN)

# Pairs of image and code, as in the comparisons in which they gain. Of the digits there are few images: few units, and no more
# steps than these, or samples lean to the training images.
DIGITS_PAIRS = dataclasses.replace(
    DIGITS,
    gan=dataclasses.replace(DIGITS.gan, steps=4000),
    discriminator="joint",
    code_dropout=1.0,
    sampler="clusters",
    sae=dataclasses.replace(DIGITS.sae, variant="topk", **{**VARIANTS["topk"].defaults, "d_sae": 32, "k": 2}),
)
MNIST_PAIRS = dataclasses.replace(
    MNIST_CPU,
    discriminator="joint",
    code_dropout=1.0,
    sampler="learned",
    prior_steps=500,
    sae=dataclasses.replace(MNIST_CPU.sae, variant="topk", **{**VARIANTS["topk"].defaults, "steps": 400, "auxk": 0.0}),
)

PRESETS: Mapping[str, Preset] = {
    "digits": Preset(
        "8x8 digits on a CPU, under three minutes",
        "digits",
        DIGITS,
        log_every=200,
        save_every=1000,
        picture_every=1000,
        vae=DIGITS_VAE,
        pairs=DIGITS_PAIRS,
    ),
    "mnist-cpu": Preset(
        "28x28 images on a CPU, minutes",
        "mnist",
        MNIST_CPU,
        log_every=100,
        save_every=1000,
        picture_every=1000,
        vae=MNIST_VAE,
        pairs=MNIST_PAIRS,
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
    "vectors": Preset(
        "activations of any model; not tuned",
        "digits",
        SAEGANConfig(
            sae=SAEConfig(
                variant="topk",
                d_sae=1024,
                k=32,
                pre_bias="mean",
                auxk=1 / 32,
                learning_rate=1e-3,
                batch_size=1024,
                steps=10000,
            ),
            gan=MNIST_GAN,
        ),
        log_every=100,
        save_every=1000,
        picture_every=1000,
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

# Energy-based GANs by preset and kind, beside its autoencoder and generator. The digits' margin was the best of .5, 1, 2
# and 4 on validation images, with one seed; that of the others is the paper's, not tuned.
ENERGY: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "digits": {"ebgan": {"margin": 1.0}, "began": {"gamma": 0.7}},
    "other": {"ebgan": {"margin": 10.0}, "began": {"gamma": 0.7}},
}
DATASET_PRESETS = {"digits": "digits", "vectors": "vectors"}  # every other data set starts from mnist-cpu


def preset_name(dataset: str | None, preset: str) -> str:
    """The preset that ``--preset`` and ``--dataset`` together name."""
    if preset == "auto":
        return DATASET_PRESETS.get((dataset or "digits").partition(":")[0], "mnist-cpu")
    require_choice("preset", preset, ("auto", *PRESETS))
    return preset


def energy_settings(preset: str, model: SAEGANConfig, kind: Any) -> EnergyConfig:
    """The energy-based GAN of a kind and preset, with the autoencoder and the generator of ``model``."""
    gan = dataclasses.replace(energy_gan(model.gan), beta1=0.5, beta2=0.999)
    return EnergyConfig(
        kind=kind, sae=discriminator_sae(model.sae), gan=gan, **ENERGY.get(preset, ENERGY["other"])[kind]
    )
