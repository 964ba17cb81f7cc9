"""Settings of a GAN in groups, each of which checks itself; :class:`GANConfig` is all of them together."""

from dataclasses import dataclass
from typing import Literal, get_args

from saegan_jax.algorithms.augment import Augmentation
from saegan_jax.algorithms.gan.networks import NETWORKS
from saegan_jax.algorithms.gan.objectives import ADVERSARIAL_LOSSES
from saegan_jax.errors import (
    require,
    require_choice,
    require_integer,
    require_non_negative,
    require_positive,
)
from saegan_jax.networks.layers import ConvForm

Network = Literal["mlp", "dcgan", "residual", "unrolled"]
LossName = Literal["relativistic", "non_saturating", "minimax", "least_squares", "hinge", "wasserstein"]
Precision = Literal["float32", "bfloat16"]
HiddenPenalty = Literal["l1", "l2", "hoyer"]
HiddenLayers = Literal["last", "all"]


def check_units(**layers: tuple[int, ...]) -> None:
    """Raise :class:`saegan_jax.errors.ConfigError` for the first field with a layer that has no unit."""
    for name, units in layers.items():
        for size in units:
            require_integer(**{name: size})
        require(all(size > 0 for size in units), name, units, "every hidden layer needs at least one unit.")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The generator's network, and what the discriminator shares with it."""

    network: Network = "mlp"
    """Architecture of generator and image discriminator; unrolled is the tiny pair of the Unrolled GAN paper."""
    hidden: tuple[int, ...] = (256, 256)
    """Units of each hidden layer (mlp); empty for a single dense map."""
    mix: int = 0
    """Units of the generator's first dense layer; 0 for 8 times its width (dcgan)."""
    scale: float = 1.0
    """For detail far finer than the range of the data: the discriminator reads images times this, and the generator's last
    layer is divided by it, so that an optimiser's step moves less (mlp)."""
    width: int = 32
    """Channels next to the image; inner layers have a multiple of it (dcgan, residual, unrolled)."""
    stages: int = 2
    """Times the image is halved, so that its sides must be divisible by 2^stages (dcgan, residual)."""
    blocks: int = 1
    """Residual blocks at each size (residual)."""
    conv_form: ConvForm = "auto"
    """Convolutions as matrix products, or XLA's native ones (dcgan, residual); auto is native on a TPU, matrix elsewhere."""
    d_noise: int = 64
    """Dimensions of the generator's Gaussian noise."""

    def __post_init__(self) -> None:
        require_choice("network", self.network, tuple(NETWORKS))
        require_choice("conv_form", self.conv_form, get_args(ConvForm))
        check_units(hidden=self.hidden)
        require_integer(
            mix=self.mix, width=self.width, stages=self.stages, blocks=self.blocks, d_noise=self.d_noise
        )  # fmt: skip
        require_positive(
            scale=self.scale, width=self.width, stages=self.stages, blocks=self.blocks, d_noise=self.d_noise
        )  # fmt: skip
        require_non_negative(mix=self.mix)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The image discriminator, where it differs from the generator, and what both networks are told and see."""

    d_hidden: tuple[int, ...] | None = None
    """The discriminator's hidden layers, where they differ from the generator's (mlp)."""
    d_width: int = 0
    """The discriminator's width, where it differs from the generator's; 0 for the same."""
    head_hidden: tuple[int, ...] = ()
    """Units of dense layers between the discriminator's convolutions and its last layer (dcgan)."""
    precision: Precision = "float32"
    """Of what the networks compute; parameters, losses and optimiser stay float32. bfloat16 is for accelerators."""
    conditional: bool = False
    """Generate by class: the generator reads the label beside the noise, the discriminator projects on it."""
    spectral_norm: bool = False
    """Divide every kernel of the discriminator by its largest singular value."""
    augment: tuple[Augmentation, ...] = ()
    """DiffAugment: what the discriminator sees of reals and fakes is changed at random, differentiably."""

    def __post_init__(self) -> None:
        require_choice("precision", self.precision, get_args(Precision))
        check_units(d_hidden=self.d_hidden or (), head_hidden=self.head_hidden)
        for change in self.augment:
            require_choice("augment", change, get_args(Augmentation))
        require_integer(d_width=self.d_width)
        require_non_negative(d_width=self.d_width)


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The adversarial loss and the weights of the penalties."""

    loss: LossName = "relativistic"
    """Adversarial loss; relativistic is RpGAN, each real logit paired with a fake one."""
    r1_gamma: float = 1.0
    """Weight gamma of gamma/2 R1, the squared gradient norm at reals; pixels in [-1, 1]."""
    r2_gamma: float = 1.0
    """Weight gamma of gamma/2 R2, the squared gradient norm at fakes; pixels in [-1, 1]."""
    final_gamma: float = 1.0
    """Share of both gammas reached at the end of the schedule."""
    gradient_penalty: float = 0.0
    """Weight of WGAN-GP's penalty between reals and fakes, usually 10."""
    dragan_penalty: float = 0.0
    """Weight of DRAGAN's penalty around reals, usually 10."""
    lecam: float = 0.0
    """Weight of LeCam's pull of the logits towards the other side's running mean."""
    penalties: tuple[tuple[str, float], ...] = ()
    """Name and weight of further penalties that a program has registered."""
    hidden_weight: float = 0.0
    """Weight of a penalty on the generator's hidden activations, which asks them to be sparse; 0 for none."""
    hidden_penalty: HiddenPenalty = "l1"
    """Of what: l1, their mean magnitude; hoyer, sparsity whatever their size; l2, their mean square, a control."""
    hidden_layers: HiddenLayers = "last"
    """last: what the generator's last layer reads; all: what every layer but the first reads."""

    def __post_init__(self) -> None:
        require_choice("loss", self.loss, tuple(ADVERSARIAL_LOSSES))
        require_non_negative(
            r1_gamma=self.r1_gamma, r2_gamma=self.r2_gamma, final_gamma=self.final_gamma,
            gradient_penalty=self.gradient_penalty, dragan_penalty=self.dragan_penalty, lecam=self.lecam,
            hidden_weight=self.hidden_weight,
        )  # fmt: skip
        require_choice("hidden_penalty", self.hidden_penalty, get_args(HiddenPenalty))
        require_choice("hidden_layers", self.hidden_layers, get_args(HiddenLayers))
        for name, weight in self.penalties:
            require_non_negative(**{f"penalties.{name}": weight})


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Adam for both networks."""

    learning_rate: float = 2e-4
    """Adam's step size for both networks."""
    final_learning_rate: float = 1.0
    """Share of learning_rate reached at the end of the schedule."""
    generator_rate: float = 1.0
    """The generator's share of the learning rate."""
    beta1: float = 0.0
    """Adam's decay of the first moment."""
    beta2: float = 0.99
    """Adam's decay of the second moment."""
    final_beta2: float | None = None
    """Beta2 at the end of the schedule; None keeps it constant."""

    def __post_init__(self) -> None:
        require_positive(learning_rate=self.learning_rate, generator_rate=self.generator_rate)
        decays = {"beta1": self.beta1, "beta2": self.beta2}
        if self.final_beta2 is not None:
            decays["final_beta2"] = self.final_beta2
        for name, value in decays.items():
            require(0 <= value < 1, name, value, "it is a decay rate and must lie in [0, 1).")
        share = self.final_learning_rate
        require(0 <= share <= 1, "final_learning_rate", share, "it is a share of learning_rate, from 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Length of the training, and the averaged weights."""

    ema_half_life: float = 8000.0
    """Half-life of the generator's averaged weights, in training images; 0 takes the last weights."""
    ema_burn_in: bool = False
    """Let the half-life grow from 0 along the schedule."""
    schedule_steps: int = 0
    """Steps of the cosine along which learning rate, gammas, beta2 and half-life move; constant after it; 0 for all steps."""
    batch_size: int = 64
    """Real images a step, shared equally by its discriminator steps; the generator makes as many as one share."""
    steps: int = 10000
    """Number of training steps."""

    def __post_init__(self) -> None:
        require_integer(schedule_steps=self.schedule_steps, batch_size=self.batch_size, steps=self.steps)
        require_positive(batch_size=self.batch_size, steps=self.steps)
        require_non_negative(ema_half_life=self.ema_half_life, schedule_steps=self.schedule_steps)

    @property
    def images_per_generator_step(self) -> int:
        """One share of the batch: what one discriminator step, and the generator's, are taken on."""
        return self.batch_size


@dataclass(frozen=True, kw_only=True)
class GANConfig(GeneratorConfig, DiscriminatorConfig, ObjectiveConfig, OptimiserConfig, ScheduleConfig):
    """Settings of the generator, the discriminator and their training."""

    d_steps: int = 1
    """Discriminator steps for one of the generator."""
    reuse_fakes: bool = False
    """Take the generator's step on the fakes that the discriminator has just learnt from, as DCGAN tutorials do, instead of
    fresh ones: one pass of the generator less. Needs d_steps 1."""

    def __post_init__(self) -> None:
        for group in GANConfig.__bases__:
            group.__post_init__(self)  # type: ignore[attr-defined]
        require_integer(d_steps=self.d_steps)
        require_positive(d_steps=self.d_steps)
        require(
            self.batch_size % self.d_steps == 0,
            "batch_size",
            self.batch_size,
            f"it is shared equally by d_steps={self.d_steps} discriminator steps; use a multiple.",
        )
        require(
            not self.hidden_weight or self.network != "mlp" or bool(self.hidden),
            "hidden_weight",
            self.hidden_weight,
            "a single dense map has no hidden activations; name hidden layers, or set it to 0.",
        )
        require(
            not self.reuse_fakes or self.d_steps == 1,
            "reuse_fakes",
            self.reuse_fakes,
            f"with d_steps={self.d_steps} there is no one batch of fakes to reuse; use one discriminator step.",
        )

    @property
    def images_per_generator_step(self) -> int:
        """One share of the batch: what one discriminator step, and the generator's, are taken on."""
        return self.batch_size // self.d_steps
