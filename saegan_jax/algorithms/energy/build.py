"""Energy-based GANs whose discriminator is the sparse autoencoder: an image's energy is its reconstruction error."""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.energy.config import EnergyConfig
from saegan_jax.algorithms.energy.discriminator import EnergyNet, energy_net
from saegan_jax.algorithms.energy.kinds import KINDS, Judged
from saegan_jax.algorithms.gan.networks import image_generator
from saegan_jax.algorithms.gan.parts import Game, gaussian_latent, init_params
from saegan_jax.algorithms.gan.schedule import OptimiserHyper, optimiser_hyper, scheduled
from saegan_jax.algorithms.gan.state import GANState
from saegan_jax.algorithms.gan.step import Context, Pairs, Rules, init_state, sample, train_step
from saegan_jax.algorithms.nets import Nets
from saegan_jax.algorithms.sae import Start, project_params, remove_parallel_gradient
from saegan_jax.images import to_unit
from saegan_jax.spmd import step_on_any_mesh


class EnergyInfo(NamedTuple):
    """Scalars of one step, batch means; energies in the unit of :attr:`EnergyConfig.distance`.

    Attributes:
      discriminator_loss, generator_loss: all terms, weighed.
      real_energy, fake_energy: as the discriminator saw them in its step.
      sparsity: the variant's term on reals, before its weight.
      l0: active codes of a real image.
      pulling_away: mean squared cosine of the generator's fakes, before its weight; 0 for BEGAN.
      above_margin: share of fakes above the margin, which give the discriminator no gradient; 0 for BEGAN.
      k: after the step.
      convergence: BEGAN's measure ``M = L(x) + |gamma L(x) - L(G)|``, smaller is better; 0 for EBGAN.
    """

    discriminator_loss: jax.Array
    generator_loss: jax.Array
    real_energy: jax.Array
    fake_energy: jax.Array
    sparsity: jax.Array
    l0: jax.Array
    pulling_away: jax.Array
    above_margin: jax.Array
    k: jax.Array
    convergence: jax.Array


def discriminator_loss(
    config: EnergyConfig, net: EnergyNet, params: Any, k: jax.Array, pairs: Pairs, context: Context
) -> tuple[jax.Array, tuple[jax.Array, tuple[Judged, jax.Array]]]:
    """The kind's loss of both energies, and ``S(x)`` of the reals; reports what it found in reals, and the fakes' energies."""
    of_real, of_fake = net.judge(params, pairs.real), net.judge(params, pairs.fake)
    total = KINDS[config.kind].discriminator(config, k, of_real.energy, of_fake.energy)
    return total + of_real.penalty, (k, (of_real, of_fake.energy))


def generator_loss(
    config: EnergyConfig,
    net: EnergyNet,
    fake: jax.Array,
    discriminator: Any,
    k: jax.Array,
    latent: jax.Array,
    pairs: Pairs,
    context: Context,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The kind's loss of the fakes' energies; reports these, and how alike the fakes are."""
    judged = net.judge(discriminator, fake)
    loss, alike = KINDS[config.kind].generator(config, judged)
    return loss, (judged.energy, alike)


def finish(
    config: EnergyConfig, k: jax.Array, discriminator: tuple[Any, Any], generator: tuple[Any, Any]
) -> tuple[jax.Array, EnergyInfo]:
    """BEGAN's balance, and the step's :class:`EnergyInfo`."""
    loss_d, (of_real, fake_before) = discriminator
    loss_g, (fake, alike) = generator
    k, convergence, above = KINDS[config.kind].balance(config, k, of_real.energy, fake_before, fake)
    return k, EnergyInfo(
        discriminator_loss=loss_d,
        generator_loss=loss_g,
        real_energy=of_real.energy.mean(),
        fake_energy=fake_before.mean(),
        sparsity=of_real.sparsity,
        l0=(of_real.codes > config.sae.active_above).astype(jnp.float32).sum() / fake.shape[0],
        pulling_away=alike,
        above_margin=above,
        k=k,
        convergence=convergence,
    )


def _init_networks(
    config: EnergyConfig, net: EnergyNet, generator: nn.Module, key: jax.Array, start: Start | None
) -> Nets:
    generator_key, discriminator_key = jax.random.split(key)
    return Nets(
        init_params(generator, generator_key, (1, config.gan.d_noise)),
        net.init(discriminator_key, start),
    )


def _game(config: EnergyConfig, net: EnergyNet, image_shape: tuple[int, int, int]) -> Game:
    """Images in [0, 1] on both sides; no critic gives logits."""
    generator = image_generator(config.gan, image_shape)

    def generate(params: Any, pretrained: Any, latent: jax.Array, label: jax.Array | None) -> jax.Array:
        return to_unit(generator.apply(params, latent))

    return Game(
        init=partial(_init_networks, config, net, generator),
        latent=gaussian_latent(config.gan.d_noise),
        generate=generate,
        critics={},
        to_critic_space=lambda pretrained, images: images,
        to_image=lambda pretrained, generated: generated,
    )


def init(rules: Rules, hyper: OptimiserHyper, key: jax.Array, pretrained: Start | None = None) -> GANState:
    """The state before the first step; ``pretrained`` is where the discriminator starts, and is not kept beside it."""
    game = rules.game
    started = rules._replace(game=game._replace(init=lambda key, _: game.init(key, pretrained)))
    return init_state(started, hyper, lambda key, params: jnp.zeros((), jnp.float32), key)


def energy(
    config: EnergyConfig, *, image_shape: tuple[int, int, int], member: OptimiserHyper | None = None
) -> Algorithm:
    """A GAN whose discriminator is a sparse autoencoder and scores an image x by its reconstruction error E(x).

    =======  ============================================  ==========================================================
    kind     discriminator                                 generator
    =======  ============================================  ==========================================================
    ebgan    mean E(x) + mean max(0, m - E(G(z))) + S(x)   mean E(G(z)) + w PT(pre-activations of G(z))
    began    mean E(x) - k mean E(G(z)) + S(x)             mean E(G(z)); k <- clip(k + lambda_k (gamma L(x) - L(G)), 0, 1)
    =======  ============================================  ==========================================================

    S is the autoencoder's sparsity term with its weight beta, of the real images alone: fakes need not have sparse codes.
    PT is :func:`saegan_jax.losses.pulling_away`. L(x) is the mean energy of the reals in the discriminator's step, L(G) that of
    the fakes in the generator's. The generator's gradient passes through the autoencoder, which its step does not move.

    Args:
      config: see :class:`EnergyConfig`.
      image_shape: ``(height, width, channels)``.
      member: this member's settings of the optimisers; by default those of ``config.gan``.

    Returns:
      An :class:`Algorithm` on images in [0, 1] over a :class:`saegan_jax.algorithms.gan.GANState`, whose ``objective`` is
      BEGAN's k, a scalar in [0, 1] that stays 0 for EBGAN. ``init(key, pretrained)`` takes a
      :class:`saegan_jax.algorithms.sae.Start`, trained parameters or a centre, where there are no hidden layers.

    Raises:
      ConfigError: an image size that the networks cannot make.

    Source: Zhao, Mathieu and LeCun, Energy-based generative adversarial network, 2017, eq. 1, 2 and 4; Berthelot, Schumm and
    Metz, BEGAN: boundary equilibrium generative adversarial networks, 2017, section 3.4.
    """
    net = energy_net(config, image_shape=image_shape)
    rules = Rules(
        game=_game(config, net, image_shape),
        discriminator_loss=partial(discriminator_loss, config, net),
        generator_loss=partial(generator_loss, config, net),
        finish=partial(finish, config),
        schedule=partial(scheduled, config.gan),
        beta1=config.gan.beta1,
        generator_rate=config.gan.generator_rate,
        project_gradients=lambda g, p: g | {"sae": remove_parallel_gradient(config.sae, g["sae"], p["sae"])},
        project_params=lambda p: p | {"sae": project_params(config.sae, p["sae"])},
    )
    hyper = optimiser_hyper(config.gan) if member is None else member
    step = step_on_any_mesh(partial(train_step, rules))
    return Algorithm(init=partial(init, rules, hyper), step=step, sample=partial(sample, rules))
