"""The arms of a comparison: one record for each use of the sparse autoencoder. A new arm is one line in :data:`ARMS`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, get_args

from saegan_jax.algorithms.energy import EnergyConfig
from saegan_jax.algorithms.gan.config import HiddenPenalty
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.errors import require
from saegan_jax.report.comparison import BASELINE
from saegan_jax.runs.compare.sizes import WIDTHS, Widen
from saegan_jax.runs.presets import energy_settings

Settings = SAEGANConfig | EnergyConfig
HIDDEN_WEIGHT = 0.1
"""Of penalties on hidden activations: of 0.01, 0.1 and 1 the best for each of them, or within 1 % of it, by the mean Frechet
distance to validation images of the digits, four seeds."""


def dense(config: SAEConfig) -> SAEConfig:
    """The same autoencoder without sparsity: sigmoid codes without the KL, or ReLU codes without a count or a penalty."""
    changes = VARIANTS[config.variant].dense_control
    if changes is not None:
        return replace(config, **changes)
    return replace(config, variant="l1", beta=0.0, auxk=0.0, levels=(), rho_hat="batch", k=min(config.k, config.d_sae))


def with_dense_codes(model: SAEGANConfig) -> SAEGANConfig:
    """A dense autoencoder of equal size in the sparse one's place; a generator of its codes may have all units on.

    The joint critic and its generator read dense codes standardised: none of them is off.
    """
    autoencoder = dense(model.sae)
    if model.generator_output == "codes":
        autoencoder = replace(autoencoder, k=autoencoder.d_sae)
    return replace(model, sae=autoencoder, standardise=model.discriminator == "joint")


def with_random_encoder(model: SAEGANConfig) -> SAEGANConfig:
    """An autoencoder that is not trained."""
    return replace(model, encoder="random")


def with_k_means_labels(model: SAEGANConfig) -> SAEGANConfig:
    """Labels of as many k-means clusters in the place of codes, and their shares for the prior."""
    sae = replace(
        model.sae, variant="topk", k=1, tied=False, auxk=0.0, levels=(), rho_hat="batch", sparse_decoder=False
    )
    return replace(model, encoder="kmeans", sampler="bootstrap", sae=sae)


def with_hidden_penalty(name: HiddenPenalty, model: SAEGANConfig) -> SAEGANConfig:
    """A penalty on what the generator's last layer reads."""
    return replace(model, gan=replace(model.gan, hidden_penalty=name, hidden_weight=HIDDEN_WEIGHT))


def with_augmentation(model: SAEGANConfig) -> SAEGANConfig:
    """DiffAugment."""
    return replace(model, gan=replace(model.gan, augment=("translation", "cutout")))


def with_kept_codes(model: SAEGANConfig) -> SAEGANConfig:
    """Samples of codes of training images: what a perfect prior could reach, and no generative model."""
    return replace(model, sampler="bootstrap")


def with_dropped_codes(model: SAEGANConfig) -> SAEGANConfig:
    """Random parts of codes beside the joint critic."""
    return replace(model, code_dropout=1.0)


HIDDEN: Mapping[str, Callable[[SAEGANConfig], SAEGANConfig]] = {
    f"hidden-{name}": partial(with_hidden_penalty, name) for name in get_args(HiddenPenalty)
}
CHANGES: Mapping[str, Callable[[SAEGANConfig], SAEGANConfig]] = {
    "dense": with_dense_codes,
    "random": with_random_encoder,
    "kmeans": with_k_means_labels,
    "augment": with_augmentation,
    "bootstrap": with_kept_codes,
    "dropout": with_dropped_codes,
    **HIDDEN,
}
"""What may follow each ``+`` in an arm's name."""


class Family(NamedTuple):
    """What arms of one training have in common.

    Attributes:
      training: its name in :data:`saegan_jax.runs.registry.TRAININGS`.
      options: the settings that this training takes, from those of an arm.
      changes: those of :data:`CHANGES` that it can have.
      refusal: why it cannot have the others.
      controls: changes that its controls have, one each.
      widths: how its generator and its critics are widened; none where its networks stay as they are.
      encodes_first: an autoencoder is there before the GAN, and encodes the training images.
    """

    training: str
    options: Callable[[Any], Any]
    changes: tuple[str, ...]
    refusal: str
    controls: tuple[str, ...]
    widths: tuple[Widen, ...] = WIDTHS
    encodes_first: bool = False


def as_they_are(settings: Any) -> Any:
    """The settings of an arm are those of its training."""
    return settings


def of_the_gan(settings: SAEGANConfig) -> Any:
    """The plain GAN takes those of the GAN alone."""
    return settings.gan


PLAIN_GAN = Family("gan", of_the_gan, ("augment", *HIDDEN), f"{BASELINE} has no autoencoder to replace.", (), widths=())
SAE_GAN = Family("saegan", as_they_are, tuple(CHANGES), "", ("dense", "random"), encodes_first=True)
ENERGY_GAN = Family(
    "energy",
    as_they_are,
    ("dense",),
    "its autoencoder is trained in the game, and sees images as they are.",
    ("dense",),
    widths=(),
)


def same_model(preset: str, model: SAEGANConfig) -> Settings:
    """Settings of an arm that is a SAE-GAN."""
    return model


class Placement(NamedTuple):
    """One use of the sparse autoencoder.

    Attributes:
      family: of arms that are trained alike.
      places: what it changes in the settings of the comparison.
      settings: ``settings(preset, model)``, those of the arm from the changed ones.
    """

    family: Family
    places: Mapping[str, Any] = {}
    settings: Callable[[str, SAEGANConfig], Settings] = same_model


def _gaussian(discriminator: str, **places: Any) -> Placement:
    """The generator reads noise alone, and the autoencoder enters elsewhere."""
    return Placement(SAE_GAN, {"generator_input": "gaussian", "discriminator": discriminator, **places})


def _sparse(discriminator: str, **places: Any) -> Placement:
    """The generator reads sparse codes."""
    return Placement(SAE_GAN, {"generator_input": "sparse", "discriminator": discriminator, **places})


def _energy(kind: str) -> Placement:
    """The autoencoder is the discriminator; its margin or ratio is the preset's."""
    return Placement(ENERGY_GAN, settings=partial(energy_settings, kind=kind))


UNUSED: Mapping[str, Any] = {
    "generator_output": "images",
    "alignment": 0.0,
    "sampler": "factorised",
    "encoder": "trained",
    "standardise": False,
    "pairing": "other",
    "code_dropout": 0.0,
}
"""What a placement has that names nothing else."""
ARMS: Mapping[str, Placement] = {
    BASELINE: Placement(PLAIN_GAN, {"generator_input": "gaussian", "discriminator": "pixels"}),
    "joint": _sparse("joint", sampler="learned"),
    "joint-clusters": _sparse("joint", sampler="clusters"),
    "joint-same": _sparse("joint", sampler="learned", pairing="same"),
    "joint-shuffled": _sparse("joint", sampler="learned", pairing="shuffled"),
    "sparse": _sparse("pixels"),
    "sparse-copula": _sparse("pixels", sampler="copula"),
    "sparse-clusters": _sparse("pixels", sampler="clusters"),
    "sparse-bootstrap": _sparse("pixels", sampler="bootstrap"),
    "sparse-aligned": _sparse("pixels", alignment=0.3),
    "latent-codes": _gaussian("codes", generator_output="codes"),
    "latent-pixels": _gaussian("pixels", generator_output="codes"),
    "codes": _gaussian("codes"),
    "ensemble": _gaussian("ensemble"),
    "projected": _gaussian("projected"),
    "lossless": _gaussian("lossless"),
    "init": _gaussian("init"),
    "both": _sparse("ensemble"),
    "both-codes": _sparse("codes"),
    "ebgan": _energy("ebgan"),
    "began": _energy("began"),
}


class Arm(NamedTuple):
    """One arm: its name, with what follows each ``+``, the family that it is trained with, and its settings."""

    name: str
    family: Family
    settings: Any

    def replace(self, **changes: Any) -> "Arm":
        """The same with other settings."""
        return self._replace(settings=replace(self.settings, **changes))

    def with_steps(self, steps: int) -> "Arm":
        """The same, its GAN trained for ``steps``."""
        return self.replace(gan=replace(self.settings.gan, steps=steps))

    def with_sae_batch(self, most: int) -> "Arm":
        """The same, its autoencoder's batch ``most`` examples or fewer: a small share of the data may have fewer."""
        sae = self.settings.sae
        return self.replace(sae=replace(sae, batch_size=min(sae.batch_size, most)))


def placement_of(name: str) -> tuple[Placement, tuple[str, ...]]:
    """The placement that an arm's name begins with, and the changes after each ``+``.

    Raises:
      ConfigError: no such placement, or a change that it cannot have.
    """
    first, *changes = name.split("+")
    require(first in ARMS, "arms", name, f"a placement is one of {', '.join(ARMS)}.")
    for change in changes:
        require(change in CHANGES, "arms", name, f"after + comes one of {', '.join(CHANGES)}.")
    family = ARMS[first].family
    require(set(changes) <= set(family.changes), "arms", name, family.refusal)
    return ARMS[first], tuple(changes)


def make_arm(name: str, model: SAEGANConfig, *, preset: str = "digits") -> Arm:
    """The arm ``name``: a placement, and after each ``+`` a change.

    Args:
      name: for instance ``codes``, or ``codes+dense``.
      model: the settings that all arms share.
      preset: whose margin or ratio an energy-based GAN has.

    Raises:
      ConfigError: no such arm.
    """
    placement, changes = placement_of(name)
    model = replace(model, **{**UNUSED, **placement.places})
    for change in changes:
        model = CHANGES[change](model)
    return Arm(name, placement.family, placement.settings(preset, model))


def controls_of(name: str) -> tuple[str, ...]:
    """The controls of an arm; none of one that is a control itself."""
    placement, changes = placement_of(name)
    if set(changes) & set(SAE_GAN.controls):
        return ()
    return tuple(f"{name}+{control}" for control in placement.family.controls)


def arm_names(names: Sequence[str], *, controls: bool) -> tuple[str, ...]:
    """The baseline, then ``names``, each followed by its controls where they are wanted; no name twice."""
    wanted = (BASELINE, *names)
    found = (known for name in wanted for known in (name, *(controls_of(name) if controls else ())))
    return tuple(dict.fromkeys(found))
