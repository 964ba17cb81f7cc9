"""The arms of a comparison: what each changes, and how all are brought to one size and one budget."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.config import energy_settings
from saegan_jax.algorithms.base import Batch
from saegan_jax.algorithms.energy import EnergyConfig
from saegan_jax.algorithms.gan import Nets
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, autoencoder, sae
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.errors import ConfigError, require
from saegan_jax.training.systems import abstract_system, pretrained_shapes

BASELINE = "pixels"
# What an arm changes in the settings of the comparison.
PLACEMENTS: Mapping[str, Mapping[str, Any]] = {
    BASELINE: {"generator_input": "gaussian", "discriminator": "pixels"},
    "sparse": {"generator_input": "sparse", "discriminator": "pixels"},
    "sparse-copula": {"generator_input": "sparse", "discriminator": "pixels", "sampler": "copula"},
    "sparse-clusters": {"generator_input": "sparse", "discriminator": "pixels", "sampler": "clusters"},
    "sparse-bootstrap": {"generator_input": "sparse", "discriminator": "pixels", "sampler": "bootstrap"},
    "sparse-aligned": {"generator_input": "sparse", "discriminator": "pixels", "alignment": 0.3},
    "latent-codes": {"generator_input": "gaussian", "generator_output": "codes", "discriminator": "codes"},
    "latent-pixels": {"generator_input": "gaussian", "generator_output": "codes", "discriminator": "pixels"},
    "codes": {"generator_input": "gaussian", "discriminator": "codes"},
    "ensemble": {"generator_input": "gaussian", "discriminator": "ensemble"},
    "projected": {"generator_input": "gaussian", "discriminator": "projected"},
    "lossless": {"generator_input": "gaussian", "discriminator": "lossless"},
    "init": {"generator_input": "gaussian", "discriminator": "init"},
    "both": {"generator_input": "sparse", "discriminator": "ensemble"},
    "both-codes": {"generator_input": "sparse", "discriminator": "codes"},
}
ENERGY = ("ebgan", "began")
CONTROLS = ("dense", "random")
CHANGES = (*CONTROLS, "augment")
Settings = SAEGANConfig | EnergyConfig
PLAIN: Mapping[str, Any] = {
    "generator_output": "images",
    "alignment": 0.0,
    "sampler": "factorised",
    "encoder": "trained",
}


def dense(config: SAEConfig) -> SAEConfig:
    """The same autoencoder without sparsity: sigmoid codes without the KL, or ReLU codes without a count or a penalty."""
    changes = VARIANTS[config.variant].dense_control
    if changes is not None:
        return replace(config, **changes)
    return replace(config, variant="l1", beta=0.0, auxk=0.0, levels=(), rho_hat="batch", k=min(config.k, config.d_sae))


def arm_settings(name: str, model: SAEGANConfig, *, preset: str = "digits") -> Settings:
    """The settings of the arm ``name``: a placement, and after each ``+`` a change.

    ``dense`` puts a dense autoencoder of equal size in the sparse one's place, ``random`` one that is not trained, and
    ``augment`` adds DiffAugment. The margin of an energy-based GAN is that of the ``preset``.

    Raises:
      ConfigError: no such arm.
    """
    placement, *changes = name.split("+")
    places = (*PLACEMENTS, *ENERGY)
    require(placement in places, "arms", name, f"a placement is one of {', '.join(places)}.")
    for change in changes:
        require(change in CHANGES, "arms", name, f"after + comes one of {', '.join(CHANGES)}.")
    require(
        placement != BASELINE or not set(changes) & set(CONTROLS),
        "arms",
        name,
        f"{BASELINE} has no autoencoder to replace.",
    )
    if placement in ENERGY:
        require(
            set(changes) <= {"dense"},
            "arms",
            name,
            "its autoencoder is trained in the game, and sees images as they are.",
        )
        return energy_settings(preset, replace(model, sae=dense(model.sae)) if changes else model, placement)
    model = replace(model, **{**PLAIN, **PLACEMENTS[placement]})
    if "dense" in changes:
        own = dense(model.sae)
        # A generator of dense codes may have all units on.
        model = replace(model, sae=replace(own, k=own.d_sae) if model.generator_output == "codes" else own)
    if "random" in changes:
        model = replace(model, encoder="random")
    if "augment" in changes:
        model = replace(model, gan=replace(model.gan, augment=("translation", "cutout")))
    return model


def with_controls(arms: Sequence[str]) -> tuple[str, ...]:
    """``arms``, each with an autoencoder followed by its controls."""
    found: list[str] = []
    for name in arms:
        placement, *changes = name.split("+")
        own: tuple[str, ...] = ("dense",) if placement in ENERGY else CONTROLS
        if placement == BASELINE or set(changes) & set(CONTROLS):
            own = ()
        found += [name, *(f"{name}+{control}" for control in own)]
    return tuple(dict.fromkeys(found))


def count_parameters(
    model: Settings, *, image_shape: tuple[int, int, int], n_classes: int, pretrained: Any = None
) -> Nets:
    """Number of trainable parameters of each network; ``pretrained`` are its shapes, where they are known."""
    _, state = abstract_system(
        model, image_shape=image_shape, n_seeds=1, n_classes=n_classes, pretrained=pretrained
    )  # fmt: skip
    return trainable(state.params)


def trainable(params: Nets) -> Nets:
    """Number of parameters of each network."""
    return Nets(*(sum(leaf.size for leaf in jax.tree.leaves(part)) for part in params))


def _widened(units: tuple[int, ...], factor: float) -> tuple[int, ...]:
    return tuple(max(1, round(u * factor)) for u in units)


def _generator(model: SAEGANConfig, factor: float) -> SAEGANConfig:
    """The generator's dense layers times ``factor``, nothing else."""
    gan = model.gan
    if model.generator_output == "codes":
        return replace(model, generator_hidden=_widened(model.generator_hidden, factor))
    if gan.network == "dcgan":
        return replace(model, gan=replace(gan, mix=max(1, round((gan.mix or 8 * gan.width) * factor))))
    if gan.network == "mlp":
        d_hidden = gan.hidden if gan.d_hidden is None else gan.d_hidden
        return replace(model, gan=replace(gan, hidden=_widened(gan.hidden, factor), d_hidden=d_hidden))
    return model


def _discriminator(model: SAEGANConfig, factor: float) -> SAEGANConfig:
    """All critics' dense layers times ``factor``, nothing else."""
    gan = model.gan
    if gan.network == "mlp":
        gan = replace(gan, d_hidden=_widened(gan.hidden if gan.d_hidden is None else gan.d_hidden, factor))
    elif gan.network == "dcgan":
        gan = replace(gan, head_hidden=_widened(gan.head_hidden, factor))
    return replace(model, gan=gan, code_hidden=_widened(model.code_hidden, factor))


def matched(
    model: Settings, target: Nets, *, image_shape: tuple[int, int, int], n_classes: int
) -> tuple[Settings, Nets]:
    """``model`` with its dense layers widened or narrowed until both networks have nearly ``target`` parameters.

    Returns:
      The settings and the numbers of parameters reached: within about one unit of each dense layer, or as they are where an
      architecture has no dense layer to vary. An energy-based GAN's discriminator is the autoencoder, and stays as it is.
    """
    pretrained = pretrained_shapes(model, image_shape=image_shape)

    def count(tried: Settings) -> Nets:
        return count_parameters(tried, image_shape=image_shape, n_classes=n_classes, pretrained=pretrained)

    if not isinstance(model, SAEGANConfig):
        return model, count(model)

    for index, vary in enumerate((_generator, _discriminator)):
        low, high = 1 / 64, 64.0
        start, best = model, (abs(count(model)[index] - target[index]), model)
        for _ in range(22):
            middle = (low * high) ** 0.5
            tried = vary(start, middle)
            found = count(tried)[index]
            best = min(best, (abs(found - target[index]), tried), key=lambda pair: pair[0])
            low, high = (middle, high) if found < target[index] else (low, middle)
            if best[0] <= 1e-3 * target[index]:
                break
        model = best[1]
    return model, count(model)


def program_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations of one call, counted by XLA in the compiled program; loops within it count once.

    Raises:
      ConfigError: a back end that does not count them.
    """
    analysis = jax.jit(function).lower(*arguments).compile().cost_analysis() or {}
    if not analysis.get("flops", 0) > 0:
        fix = "this back end does not count operations; compare at equal steps."
        raise ConfigError("equal", "flops", fix)
    return float(analysis["flops"])


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of an arm's parts.

    Attributes:
      before: of training the autoencoder and encoding the training images; 0 without one.
      step: of one step of the GAN.
    """

    before: float
    step: float


class Operations(NamedTuple):
    """Floating-point operations of one GAN step, one step of the autoencoder, and encoding one image; 0 where there is none."""

    step: float
    sae_step: float
    encode: float


@functools.cache  # fractions of the data differ in the number of images alone
def operations(model: Settings, image_shape: tuple[int, int, int], n_classes: int) -> Operations:
    """Counts of the compiled programs."""

    def batch(n: int) -> Batch:
        return Batch(jax.ShapeDtypeStruct((n, *image_shape), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.int32))  # type: ignore[arg-type]

    algorithm, state = abstract_system(model, image_shape=image_shape, n_seeds=1, n_classes=n_classes)
    step = program_flops(algorithm.step, state, batch(model.gan.batch_size))
    if isinstance(model, EnergyConfig) or not model.uses_sae:
        return Operations(step, 0.0, 0.0)
    own = sae(model.sae, image_shape=image_shape)
    start = jax.eval_shape(own.init, jax.random.key(0))
    trained = model.encoder == "trained"
    sae_step = program_flops(own.step, start, batch(model.sae.batch_size)) if trained else 0.0
    encode = autoencoder(model.sae, image_shape=image_shape).encode
    return Operations(step, sae_step, program_flops(encode, start.params, batch(1).image))


def cost(model: Settings, *, image_shape: tuple[int, int, int], n_classes: int, n_images: int) -> Cost:
    """What an arm's training costs; compiles its steps, once for all numbers of images."""
    counted = operations(model, image_shape, n_classes)
    return Cost(model.sae.steps * counted.sae_step + n_images * counted.encode, counted.step)


def with_steps(model: Settings, steps: int) -> Settings:
    """The same trained for ``steps``."""
    gan: Any = replace(model.gan, steps=steps)
    return replace(model, gan=gan)
