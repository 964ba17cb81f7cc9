"""EBGAN and BEGAN: two ways to play energies against each other, each a record."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax import losses

if TYPE_CHECKING:
    from saegan_jax.algorithms.energy.config import EnergyConfig


class Judged(NamedTuple):
    """What the discriminator finds in a batch.

    Attributes:
      energy: ``(batch,)``.
      pre_activations: ``(batch, d_sae)``, or with patches ``(batch, rows, columns, d_sae)``.
      codes: of the same shape.
      penalty: scalar, the autoencoder's sparsity term with its weight, and the gated variant's auxiliary one.
      sparsity: scalar, the sparsity term alone.
    """

    energy: jax.Array
    pre_activations: jax.Array
    codes: jax.Array
    penalty: jax.Array
    sparsity: jax.Array


class EnergyKind(NamedTuple):
    """One way to play energies against each other.

    Attributes:
      discriminator: ``discriminator(config, k, real, fake) -> scalar`` of energies ``(batch,)``, without the sparsity term.
      generator: ``generator(config, judged) -> (scalar, pulling_away)``.
      balance: ``balance(config, k, real, fake_before, fake) -> (k, convergence, above_margin)``: the first two energies are
        those of the discriminator's step, the last those of the generator's.
      compares_fakes: whether the generator's loss compares the fakes of a batch.
    """

    discriminator: Callable[..., jax.Array]
    generator: Callable[..., tuple[jax.Array, jax.Array]]
    balance: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]
    compares_fakes: bool


def _margin_discriminator(config: "EnergyConfig", k: jax.Array, real: jax.Array, fake: jax.Array) -> jax.Array:
    return losses.energy_discriminator_loss(real, fake, margin=config.margin).mean()


def _margin_generator(config: "EnergyConfig", judged: Judged) -> tuple[jax.Array, jax.Array]:
    alike = losses.pulling_away(judged.pre_activations)
    return judged.energy.mean() + config.pulling_away * alike, alike


def _margin_balance(
    config: "EnergyConfig", k: jax.Array, real: jax.Array, fake_before: jax.Array, fake: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return k, jnp.zeros((), jnp.float32), (fake_before > config.margin).mean(dtype=jnp.float32)


def _ratio_discriminator(config: "EnergyConfig", k: jax.Array, real: jax.Array, fake: jax.Array) -> jax.Array:
    return real.mean() - k * fake.mean()


def _ratio_generator(config: "EnergyConfig", judged: Judged) -> tuple[jax.Array, jax.Array]:
    return judged.energy.mean(), jnp.zeros((), jnp.float32)


def _ratio_balance(
    config: "EnergyConfig", k: jax.Array, real: jax.Array, fake_before: jax.Array, fake: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    k, convergence = losses.began_balance(k, real, fake, gamma=config.gamma, lambda_k=config.lambda_k)
    return k, convergence, jnp.zeros((), jnp.float32)


KINDS: dict[str, EnergyKind] = {
    "ebgan": EnergyKind(_margin_discriminator, _margin_generator, _margin_balance, compares_fakes=True),
    "began": EnergyKind(_ratio_discriminator, _ratio_generator, _ratio_balance, compares_fakes=False),
}
