"""Adversarial systems: a game played with the losses, penalties and optimisers of a configuration."""

from functools import partial
from typing import Any

import jax

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.gan.config import GANConfig
from saegan_jax.algorithms.gan.hidden import hidden_penalty_of
from saegan_jax.algorithms.gan.losses import Objective, discriminator_loss, finish, generator_loss, init_objective
from saegan_jax.algorithms.gan.networks import ImageShape, image_networks
from saegan_jax.algorithms.gan.objectives import ADVERSARIAL_LOSSES
from saegan_jax.algorithms.gan.parts import Game, applied, gaussian_latent, generated, init_params
from saegan_jax.algorithms.gan.penalties import PENALTIES, penalties_of
from saegan_jax.algorithms.gan.schedule import GANHyper, hyper, scheduled
from saegan_jax.algorithms.gan.step import Rules, init_state, sample, train_step
from saegan_jax.algorithms.nets import Nets
from saegan_jax.errors import require
from saegan_jax.spmd import step_on_any_mesh


def known_classes(config: GANConfig, n_classes: int) -> int:
    """Classes that the system knows: ``n_classes`` of the data where it is conditional, else 0.

    Raises:
      ConfigError: conditional without classes.
    """
    if not config.conditional:
        return 0
    fix = "the data has no classes; pass n_classes, or turn it off."
    require(n_classes > 0, "conditional", config.conditional, fix)
    return n_classes


def objective_of(config: GANConfig, game: Game) -> Objective:
    """The losses of ``config`` on the critics of ``game``.

    Raises:
      ConfigError: augmentation of a game that is not played in pixels, or a penalty that nobody has registered.
    """
    fix = "it changes images, and this game is not played in pixels; leave it empty."
    require(not config.augment or game.in_pixels, "augment", config.augment, fix)
    return Objective(
        game=game,
        loss=ADVERSARIAL_LOSSES[config.loss],
        penalties=penalties_of(config),
        streams={name: 2 + i for i, name in enumerate(PENALTIES)},  # 0 and 1 are the augmentation's
        augment=config.augment,
        spectral_norm=config.spectral_norm,
    )


def adversarial(config: GANConfig, game: Game, *, n_classes: int = 0, member: GANHyper | None = None) -> Algorithm:
    """Train ``game`` with the losses, penalties and optimisers of ``config``.

    Discriminator, ``d_steps`` times, summed over critics: ``mean_n L_D(D(x_n), D(G(z_n))) + gamma_1/2 mean R1 + gamma_2/2
    mean R2`` and the other penalties. Generator, once, against the updated critics and with fresh latents (or with
    ``reuse_fakes`` the same): ``mean_n L_G + extra``. A conditional fake has the class of the real it is paired with.

    Args:
      config: see :class:`GANConfig`.
      game: see :class:`Game`.
      n_classes: of the data; needed where ``config.conditional``, else unused.
      member: this member's settings; by default those of ``config``. R1 and R2 are computed where ``config`` has them.

    Returns:
      An :class:`Algorithm` on images in [0, 1]. ``init(key, pretrained)`` keeps ``pretrained`` in the state, where the game's
      functions get it from. ``sample(state, key, n, label=None)`` of a conditional one draws the labels in the proportions
      of the reals seen, or makes those given, ``(n,)`` int32.

    Raises:
      ConfigError: conditional without classes, augmentation where there are no pixels, or an unknown penalty.

    Source: Goodfellow et al., "Generative adversarial networks" (2014); Huang et al., "The GAN is dead; long live the GAN!
    A modern GAN baseline" (2024), eq. 2 and section 2, for the relativistic loss with R1 and R2.
    """
    objective = objective_of(config, game)
    rules = Rules(
        game=game,
        discriminator_loss=partial(discriminator_loss, objective),
        generator_loss=partial(generator_loss, objective),
        finish=finish,
        schedule=partial(scheduled, config),
        beta1=config.beta1,
        generator_rate=config.generator_rate,
        d_steps=config.d_steps,
        reuse_fakes=config.reuse_fakes,
        n_classes=known_classes(config, n_classes),
        hidden_penalty=hidden_penalty_of(config),
    )
    settings = hyper(config) if member is None else member
    return Algorithm(
        init=partial(init_state, rules, settings, partial(init_objective, objective)),
        step=step_on_any_mesh(partial(train_step, rules)),
        sample=partial(sample, rules),
    )


def init_networks(nets: Nets, shapes: Nets, n_classes: int, key: jax.Array, pretrained: Any) -> Nets:
    """Parameters of both networks for inputs of these shapes."""
    generator_key, discriminator_key = jax.random.split(key)
    return Nets(
        init_params(nets.generator, generator_key, shapes.generator),
        init_params(nets.discriminator, discriminator_key, shapes.discriminator, n_classes=n_classes),
    )


def gan_game(config: GANConfig, *, image_shape: ImageShape, n_classes: int = 0) -> Game:
    """Gaussian noise in, one critic on pixels.

    Args:
      config: see :class:`GANConfig`.
      image_shape: ``(height, width, channels)``.
      n_classes: classes that both networks know; 0 for none.

    Raises:
      ConfigError: an image size that the networks cannot make.
    """
    nets = image_networks(config, image_shape, n_classes=n_classes)
    shapes = Nets((1, config.d_noise + n_classes), (1, *image_shape))
    discriminator = applied(nets.discriminator, config.precision)
    return Game(
        init=partial(init_networks, nets, shapes, n_classes),
        latent=gaussian_latent(config.d_noise),
        generate=generated(applied(nets.generator, config.precision), n_classes=n_classes),
        critics={
            "pixels": lambda params, pretrained, images, condition: discriminator(params, images, condition.label)
        },
    )


def gan(config: GANConfig, *, image_shape: ImageShape, n_classes: int = 0, member: GANHyper | None = None) -> Algorithm:
    """The plain GAN: Gaussian noise in, one critic on pixels; see :func:`adversarial`. ``init`` needs nothing pretrained."""
    game = gan_game(config, image_shape=image_shape, n_classes=known_classes(config, n_classes))
    return adversarial(config, game, n_classes=n_classes, member=member)
