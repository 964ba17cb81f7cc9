"""Numbers of parameters, and bringing the networks of every arm to those of the baseline."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from saegan_jax.algorithms.gan import Nets
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.training.systems import abstract_system, pretrained_shapes

ImageShape = tuple[int, int, int]
Widen = Callable[[SAEGANConfig, float], SAEGANConfig]
WIDEST = 64.0  # factor of the search, and 1 / 64 the narrowest
TRIES = 22
CLOSE = 1e-3  # share of the wanted number of parameters that ends the search


def count_parameters(settings: Any, *, image_shape: ImageShape, n_classes: int, pretrained: Any = None) -> Nets:
    """Number of trainable parameters of each network; ``pretrained`` are its shapes, where they are known."""
    _, state = abstract_system(settings, image_shape=image_shape, n_seeds=1, n_classes=n_classes, pretrained=pretrained)
    return trainable(state.params)


def trainable(params: Nets) -> Nets:
    """Number of parameters of each network."""
    return Nets(*(sum(leaf.size for leaf in jax.tree.leaves(part)) for part in params))


def _widened(units: tuple[int, ...], factor: float) -> tuple[int, ...]:
    return tuple(max(1, round(u * factor)) for u in units)


def widen_generator(model: SAEGANConfig, factor: float) -> SAEGANConfig:
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


def widen_critics(model: SAEGANConfig, factor: float) -> SAEGANConfig:
    """All critics' dense layers times ``factor``, nothing else."""
    gan = model.gan
    if gan.network == "mlp":
        gan = replace(gan, d_hidden=_widened(gan.hidden if gan.d_hidden is None else gan.d_hidden, factor))
    elif gan.network == "dcgan":
        gan = replace(gan, head_hidden=_widened(gan.head_hidden, factor))
    return replace(model, gan=gan, code_hidden=_widened(model.code_hidden, factor))


WIDTHS: tuple[Widen, ...] = (widen_generator, widen_critics)


def closest(count: Callable[[Any], int], widen: Widen, model: SAEGANConfig, target: int) -> SAEGANConfig:
    """``model`` widened by the factor, found by bisection, whose ``count`` is nearest to ``target``."""
    low, high = 1 / WIDEST, WIDEST
    best = (abs(count(model) - target), model)
    for _ in range(TRIES):
        middle = (low * high) ** 0.5
        tried = widen(model, middle)
        found = count(tried)
        best = min(best, (abs(found - target), tried), key=lambda pair: pair[0])
        low, high = (middle, high) if found < target else (low, middle)
        if best[0] <= CLOSE * target:
            break
    return best[1]


def matched(
    settings: Any, target: Nets, *, widths: Sequence[Widen] = WIDTHS, image_shape: ImageShape, n_classes: int
) -> tuple[Any, Nets]:
    """``settings`` with dense layers widened or narrowed until both networks have nearly ``target`` parameters.

    Args:
      settings: of an arm.
      target: parameters of the generator and of the discriminator.
      widths: how its generator and its critics are widened; none for networks that stay as they are.
      image_shape: ``(height, width, channels)``.
      n_classes: of the data.

    Returns:
      The settings and the numbers of parameters reached: within about one unit of each dense layer, or as they are where an
      architecture has no dense layer to vary.
    """
    pretrained = pretrained_shapes(settings, image_shape=image_shape)
    count = partial(count_parameters, image_shape=image_shape, n_classes=n_classes, pretrained=pretrained)
    for index, widen in enumerate(widths):
        settings = closest(partial(_part, count, index), widen, settings, target[index])
    return settings, count(settings)


def _part(count: Callable[[Any], Nets], index: int, settings: Any) -> int:
    """Parameters of one of the networks."""
    return count(settings)[index]
