"""Settings of energy-based GANs."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from saegan_jax.algorithms.energy.kinds import KINDS
from saegan_jax.algorithms.gan.config import GANConfig, GeneratorConfig, OptimiserConfig, ScheduleConfig, check_units
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig
from saegan_jax.errors import require, require_choice, require_non_negative, require_positive

Kind = Literal["ebgan", "began"]
Distance = Literal["squared", "absolute"]
# Settings of an autoencoder that only a training of its own has, and what they are in a discriminator.
_TRAINING_ONLY: dict[str, Any] = {
    "auxk": 0.0, "resample_every": 0, "sparsity_warmup": 0, "rho_hat": "batch", "weight_decay": 0.0,
}  # fmt: skip


def discriminator_sae(config: SAEConfig) -> SAEConfig:
    """``config`` without the care of dead units and what else only a training of its own can have."""
    return replace(config, **_TRAINING_ONLY)


@dataclass(frozen=True, kw_only=True)
class EnergyGANConfig(GeneratorConfig, OptimiserConfig, ScheduleConfig):
    """The generator, both networks' optimiser, batch size and steps of an energy-based GAN."""

    def __post_init__(self) -> None:
        for group in EnergyGANConfig.__bases__:
            group.__post_init__(self)  # type: ignore[attr-defined]


def energy_gan(config: GANConfig) -> EnergyGANConfig:
    """What of ``config`` an energy-based GAN has: no image discriminator and no penalties."""
    return EnergyGANConfig(**{f.name: getattr(config, f.name) for f in fields(EnergyGANConfig)})


@dataclass(frozen=True, kw_only=True)
class EnergyConfig:
    """Settings of an energy-based GAN: the autoencoder that is the discriminator, the generator, and the game between them."""

    kind: Kind = "ebgan"
    """ebgan: fakes are pushed up to a margin. began: the two mean energies are held at a ratio."""
    distance: Distance = "squared"
    """Energy of an image, pixels in [0, 1]: half the squared error, or the absolute error, summed over pixels and channels."""
    margin: float = 10.0
    """Energy from which a fake is left alone, in the energies' unit; several times that of well reconstructed reals (ebgan)."""
    pulling_away: float = 0.1
    """Weight of the mean squared cosine between fakes' pre-activations in the generator's loss (ebgan)."""
    gamma: float = 0.5
    """Wanted ratio of fake to real energy; lower is sharper and less diverse (began)."""
    lambda_k: float = 1e-3
    """Step size of k, the weight of the fakes' energy, for each unit by which the energies are off their ratio (began)."""
    hidden: tuple[int, ...] = ()
    """Units of dense layers between the image and the sparse autoencoder, mirrored behind it; empty for that one alone."""
    pretrained: bool = False
    """Start from an autoencoder trained on reals alone, with the steps, batch size and learning rate of sae."""
    sae: SAEConfig = field(default_factory=lambda: SAEConfig(decoder_norm=3.0))
    """The autoencoder; its sparsity term, weighed with beta, is of the reals alone."""
    gan: EnergyGANConfig = field(default_factory=lambda: EnergyGANConfig(learning_rate=1e-3, beta1=0.5, beta2=0.999))
    """The generator, both networks' optimiser, batch size and steps."""

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, tuple(KINDS))
        require_choice("distance", self.distance, get_args(Distance))
        require_positive(margin=self.margin)
        require_non_negative(pulling_away=self.pulling_away, lambda_k=self.lambda_k)
        require(0 < self.gamma <= 1, "gamma", self.gamma, "it is a ratio above 0, up to 1; try 0.5.")
        check_units(hidden=self.hidden)
        self._check_autoencoder()
        require(
            not KINDS[self.kind].compares_fakes or self.gan.batch_size > 1,
            "gan.batch_size",
            self.gan.batch_size,
            "pulling away compares the fakes of a batch; use at least 2.",
        )

    def _check_autoencoder(self) -> None:
        hidden, variant = self.hidden, self.sae.variant
        fix = "only the sparse autoencoder alone is trained beforehand; set hidden=(), or turn it off."
        require(not (self.pretrained and hidden), "pretrained", self.pretrained, fix)
        single = [name for name, v in VARIANTS.items() if not v.competes_over_batch]
        fix = (
            "its units compete over the batch, and an image's energy may not depend on the others; use one of "
            f"{', '.join(single)}."
        )
        require(not VARIANTS[variant].competes_over_batch, "sae.variant", variant, fix)
        for name, value in _TRAINING_ONLY.items():
            found = getattr(self.sae, name)
            require(found == value, f"sae.{name}", found, f"a discriminator does not have it; set it to {value!r}.")
        fix = "patches are of images, and hidden layers come between; set it to 0, or hidden=()."
        require(not hidden or self.sae.patch_size == 0, "sae.patch_size", self.sae.patch_size, fix)
