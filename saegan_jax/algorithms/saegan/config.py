"""Settings of a SAE-GAN: where the sparse autoencoder enters, and those of both systems."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from saegan_jax.algorithms.gan.config import GANConfig, check_units
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.algorithms.saegan.critics import DISCRIMINATORS
from saegan_jax.algorithms.saegan.generators import INPUTS, OUTPUTS
from saegan_jax.algorithms.saegan.k_means_encoder import check_k_means
from saegan_jax.errors import require, require_choice, require_integer, require_non_negative, require_positive
from saegan_jax.priors import PRIORS, Sampler

GeneratorInput = Literal["gaussian", "sparse"]
GeneratorOutput = Literal["images", "codes"]
Discriminator = Literal["pixels", "codes", "ensemble", "projected", "lossless", "joint", "init"]
Pairing = Literal["other", "same", "shuffled"]
Encoder = Literal["trained", "random", "kmeans"]


@dataclass(frozen=True, kw_only=True)
class GeneratorUse:
    """The sparse autoencoder at the generator: its codes as input, as output, or neither."""

    generator_input: GeneratorInput = "sparse"
    """gaussian: noise alone; sparse: codes drawn from the sparse prior, beside the noise."""
    sampler: Sampler = "factorised"
    """The sparse prior: factorised (independent units), copula (units on together as in the data), clusters (factorised within
    k-means clusters), learned (a network that draws one unit after the other), or bootstrap (codes of training images
    themselves: a diagnostic, no generative model)."""
    prior_steps: int = 2000
    """Steps of training the learned prior."""
    prior_clusters: int = 32
    """k-means clusters of the prior clusters: more follow the codes closer, until each is a training image."""
    generator_output: GeneratorOutput = "images"
    """images: the generator draws pixels; codes: it draws sparse codes (sae.k of them on), and the frozen decoder the image."""
    alignment: float = 0.0
    """Weight of ||E(G(h, noise)) - h||^2 / ||h||^2 in the generator's loss (sparse input only)."""
    standardise: bool = False
    """Take each unit's mean off the codes that are read, and divide by its deviation: for dense codes, of which none is off."""
    generator_hidden: tuple[int, ...] = (256, 256)
    """Units of each hidden layer of a generator of codes."""

    def __post_init__(self) -> None:
        require_choice("generator_input", self.generator_input, tuple(INPUTS))
        require_choice("sampler", self.sampler, tuple(PRIORS))
        require_choice("generator_output", self.generator_output, tuple(OUTPUTS))
        require_non_negative(alignment=self.alignment)
        require_integer(prior_steps=self.prior_steps, prior_clusters=self.prior_clusters)
        require_positive(prior_steps=self.prior_steps, prior_clusters=self.prior_clusters)
        check_units(generator_hidden=self.generator_hidden)
        require(
            not self.alignment or (INPUTS[self.generator_input].has_code and not OUTPUTS[self.generator_output].codes),
            "alignment",
            self.alignment,
            "it ties images to the codes they were made from; set generator_input='sparse' and generator_output='images', or "
            "alignment to 0.",
        )


@dataclass(frozen=True, kw_only=True)
class DiscriminatorUse:
    """The sparse autoencoder at the discriminator: what the critics read, and their networks."""

    discriminator: Discriminator = "ensemble"
    """pixels: images alone; codes: frozen SAE codes of real and fake images alone; ensemble: one critic on each; projected:
    critics on fixed random projections of the pre-activations; lossless: one critic on reconstruction, its error and codes,
    so that nothing is hidden from it; joint: one critic on pairs of an image and its code, so that the generator must draw an
    image that has the code it is given (sparse input only); init: codes of an encoder that starts as the SAE's and trains
    on."""
    pairing: Pairing = "other"
    """The code that a fake is made from, beside the joint critic: other: that of another real of the batch; same: that of the
    real that a relativistic loss pairs it with; shuffled: a control, in which reals are read beside the code of another."""
    code_dropout: float = 0.0
    """Share of the codes beside the joint critic, in training, of which only a random part is kept: each unit with probability
    u, uniform on [0, 1]. The generator so learns to draw something of codes that no training image has, those of a prior."""
    code_hidden: tuple[int, ...] = (128, 128)
    """Units of each hidden layer of the critic on codes; empty for a linear critic."""
    code_width: int = 16
    """Units that every position's codes are reduced to before that critic's hidden layers (convolutional SAE)."""
    levels: int = 3
    """Critics of projected; with a convolutional SAE each reads positions averaged over twice as many pixels as the last."""
    projected_width: int = 64
    """Dimensions of each of its projections."""

    def __post_init__(self) -> None:
        require_choice("discriminator", self.discriminator, tuple(DISCRIMINATORS))
        require_choice("pairing", self.pairing, get_args(Pairing))
        require_integer(code_width=self.code_width, levels=self.levels, projected_width=self.projected_width)
        require_positive(code_width=self.code_width, levels=self.levels, projected_width=self.projected_width)
        check_units(code_hidden=self.code_hidden)
        require(0 <= self.code_dropout <= 1, "code_dropout", self.code_dropout, "it is a share of the codes, 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class SAEGANConfig(GeneratorUse, DiscriminatorUse):
    """Where the sparse autoencoder enters, and the settings of both systems."""

    encoder: Encoder = "trained"
    """trained: the SAE is trained first; random: it is left at its initial values, a control; kmeans: its codes are labels of
    sae.d_sae k-means clusters of the training images, a control (sae.variant topk, sae.k 1)."""
    sae: SAEConfig = field(default_factory=SAEConfig)
    """The sparse autoencoder."""
    gan: GANConfig = field(default_factory=GANConfig)
    """The GAN."""

    def __post_init__(self) -> None:
        for group in SAEGANConfig.__bases__:
            group.__post_init__(self)  # type: ignore[attr-defined]
        require_choice("encoder", self.encoder, get_args(Encoder))
        if self.encoder == "kmeans":
            check_k_means(self.sae)
        codes_in, codes_out = INPUTS[self.generator_input].has_code, OUTPUTS[self.generator_output].codes
        require(
            self.sae.patch_size == 0 or not codes_out,
            "sae.patch_size",
            self.sae.patch_size,
            "the generator draws one code per image; set it to 0, or use convolutional codes elsewhere.",
        )
        require(
            DISCRIMINATORS[self.discriminator].normalisable or not self.gan.spectral_norm,
            "gan.spectral_norm",
            self.gan.spectral_norm,
            f"the encoder that discriminator={self.discriminator!r} trains would not be normalised; turn it off, or use "
            "another discriminator.",
        )
        require(
            not codes_out or not self.gan.hidden_weight,
            "gan.hidden_weight",
            self.gan.hidden_weight,
            "it penalises layers of a generator of images; set it to 0, or set generator_output='images'.",
        )
        require(
            not codes_out or self.sae.k <= self.sae.d_sae,
            "sae.k",
            self.sae.k,
            f"generated codes have that many units on, and there are d_sae={self.sae.d_sae}.",
        )

        require(
            not (self.standardise and codes_out),
            "standardise",
            self.standardise,
            "generated codes have units off, which must stay 0; turn it off, or set generator_output='images'.",
        )
        pairs = DISCRIMINATORS[self.discriminator].reads_pairs
        require(
            not pairs or (codes_in and not codes_out),
            "discriminator",
            self.discriminator,
            "it reads images beside the codes they were made from; set generator_input='sparse' and generator_output='images'.",
        )
        require(
            not self.code_dropout or (pairs and not self.alignment),
            "code_dropout",
            self.code_dropout,
            "it drops units of the codes that discriminator='joint' reads, and alignment asks for whole codes; set both or it "
            "to 0.",
        )
        require(
            not (pairs and self.gan.conditional),
            "gan.conditional",
            self.gan.conditional,
            f"the code is the label of discriminator={self.discriminator!r}; turn it off, or use another discriminator.",
        )

    @property
    def in_codes(self) -> bool:
        """Whether the game is played in codes alone: the generator draws them, and no critic reads images."""
        return OUTPUTS[self.generator_output].codes and DISCRIMINATORS[self.discriminator].codes_alone

    @property
    def uses_sae(self) -> bool:
        """Whether anything of the autoencoder enters the game."""
        return (
            INPUTS[self.generator_input].has_code
            or OUTPUTS[self.generator_output].codes
            or DISCRIMINATORS[self.discriminator].reads_sae
        )
