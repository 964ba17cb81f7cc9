"""Unpaired image to image translation: CycleGAN, plain and through the sparse codes of one autoencoder for both domains."""

from functools import partial
from typing import Any

import jax
import optax

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.cyclegan.config import CycleGANConfig, Direction, TranslationConfig
from saegan_jax.algorithms.cyclegan.guides import (
    DISTANCES,
    CodeStatistics,
    Guides,
    code_statistics,
    fit_guides,
    guide_parts,
    guide_shapes,
)
from saegan_jax.algorithms.cyclegan.history import History, empty_history, query
from saegan_jax.algorithms.cyclegan.state import CycleGANInfo, CycleGANState, GuidedInfo, TwoDomains
from saegan_jax.algorithms.cyclegan.step import (
    Parts,
    init_state,
    learning_rate_share,
    train_step,
    translate,
    translation_codes,
)
from saegan_jax.algorithms.cyclegan.translators import TRANSLATORS, Translator, require_halvings
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.algorithms.sae import sae as sparse_autoencoder
from saegan_jax.networks.translators import PatchDiscriminator
from saegan_jax.spmd import step_on_any_mesh

__all__ = [
    "DISTANCES",
    "TRANSLATORS",
    "CodeStatistics",
    "CycleGANConfig",
    "CycleGANInfo",
    "CycleGANState",
    "Direction",
    "GuidedInfo",
    "Guides",
    "History",
    "TranslationConfig",
    "Translator",
    "TwoDomains",
    "code_statistics",
    "cyclegan",
    "empty_history",
    "fit_guides",
    "guide_parts",
    "learning_rate_share",
    "pretrained_shapes",
    "query",
    "translation",
]


def cyclegan(config: CycleGANConfig, *, image_shape: tuple[int, int, int], sae: SAEConfig | None = None) -> Algorithm:
    """CycleGAN on images in [0, 1] of two domains, plain or sparse.

    Generators: ``sum over directions of mean (D(G(x)) - 1)^2 + cycle |G'(G(x)) - x| + identity |G(y) - y|``, L1 as means over
    pixels in [-1, 1]. Guided (plain): and ``concept_weight`` times the distance of a translation's codes from those of its
    source, and ``semantic_weight`` times the cross-entropy of its class. Discriminators: ``1/2 mean (D(y) - 1)^2 + 1/2 mean
    D(fake)^2``, on patches, the fakes being those that the generators were trained on, by way of the history. Sparse:
    ``G_AB(x) = Dec_B(TopK(E(x) + Delta_AB(TopK(E(x)))))`` with E(x) the pre-activations of an autoencoder trained on both
    domains, so that at most k numbers (and which they are) pass from one image to the other.

    Args:
      config: see :class:`CycleGANConfig`.
      image_shape: ``(height, width, channels)``.
      sae: settings of the autoencoder, of variant topk (sparse), of any (concept consistency).

    Returns:
      An :class:`saegan_jax.algorithms.base.Algorithm` that translates and cannot sample.
      ``init(key, pretrained=None)``: ``pretrained`` are the autoencoder's trained parameters, Flax's ``{"params": ...}``
      (sparse), or the :class:`Guides` of :func:`fit_guides` (guided); the plain kind takes none. The state holds a copy, so
      that every member of an ensemble may have another.
      ``step(state, TwoDomains) -> (state, CycleGANInfo)``, guided a :class:`GuidedInfo`. ``translate(state, images, direction)
      -> images``, ``(batch, height, width, channels)`` in [0, 1], ``direction`` "ab" or "ba", static. ``codes(state, images,
      direction) -> (batch, d_sae)``, what the translation is drawn from; None for the plain kind.

    Raises:
      ConfigError: sides that cannot be halved so often, or an autoencoder that has no such codes.
      ValueError: sparse, or a concept weight, without ``sae``; and from ``init``, either without ``pretrained``.

    Source: Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial networks, 2017, eq. 3, sections
    4 and 5.2; least squares: Mao et al., Least squares generative adversarial networks, 2017; semantic consistency:
    Hoffman et al., CyCADA: Cycle-consistent adversarial domain adaptation, 2018.
    """
    require_halvings("d_stages", config.d_stages, image_shape)
    translator = TRANSLATORS[config.kind](config, image_shape=image_shape, sae=sae)
    parts = Parts(
        config=config,
        translator=translator,
        discriminator=PatchDiscriminator(config.d_width, config.d_stages),
        optimiser=optax.adam(config.learning_rate, b1=config.beta1, b2=config.beta2),
        guides=guide_parts(config, image_shape=image_shape, sae=sae),
    )
    return Algorithm(
        init=partial(init_state, parts, image_shape),
        step=step_on_any_mesh(partial(train_step, parts)),
        translate=partial(translate, parts),
        codes=None if translator.codes is None else partial(translation_codes, parts),
    )


def translation(config: TranslationConfig, *, image_shape: tuple[int, int, int]) -> Algorithm:
    """:func:`cyclegan` of both settings in one."""
    return cyclegan(config.cyclegan, image_shape=image_shape, sae=config.sae)


def pretrained_shapes(config: TranslationConfig, *, image_shape: tuple[int, int, int]) -> Any:
    """Shapes of what ``init`` needs: the autoencoder's parameters, or guides; None where nothing pretrained is read."""
    if config.cyclegan.guided:
        return guide_shapes(config.cyclegan, config.sae, image_shape=image_shape)
    if translation(config, image_shape=image_shape).codes is None:
        return None
    algorithm = sparse_autoencoder(config.sae, image_shape=image_shape)
    return jax.eval_shape(lambda key: algorithm.init(key).params, jax.random.key(0))
