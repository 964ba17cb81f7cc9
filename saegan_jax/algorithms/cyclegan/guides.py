"""Frozen networks that ask a translation to keep what its source shows: codes of an autoencoder, classes of a classifier."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from saegan_jax import losses
from saegan_jax.algorithms.cyclegan.config import ConceptDistance, CycleGANConfig
from saegan_jax.algorithms.cyclegan.state import TwoDomains
from saegan_jax.algorithms.sae import Autoencoder, SAEConfig, autoencoder, sae
from saegan_jax.errors import require
from saegan_jax.images import any_to_unit_float, to_unit
from saegan_jax.networks.classifiers import Classifier

ImageShape = tuple[int, int, int]
LEAST_DENSITY = 1e-3
"""A unit that is active in a smaller share of either domain's images cannot be compared, and is left out."""
MOST_IMAGES = 8192
"""Images of each domain, evenly taken, from which statistics are fitted."""
CLASSIFIER_WIDTH, CLASSIFIER_FEATURES = 24, 48
"""Channels and features of the classifiers that are trained against: others than those that score translations."""


@flax.struct.dataclass
class CodeStatistics:
    """How the autoencoder's units behave in one domain, of training images; each ``(d_sae,)``.

    Attributes:
      center: mean code.
      inverse_scale: 1 over the root mean square of the units' standard deviations, one number for all of them, so that seldom
        units do not outweigh the others; 0 for units that are left out, see :data:`LEAST_DENSITY`.
      threshold: the pre-activation that as large a share of images exceeds as has the unit active.
      inverse_spread: 1 over the pre-activations' standard deviation.
    """

    center: jax.Array
    inverse_scale: jax.Array
    threshold: jax.Array
    inverse_spread: jax.Array

    @property
    def compared(self) -> jax.Array:
        """Which units are not left out, ``(d_sae,)`` bool."""
        return (self.inverse_scale > 0) & (self.inverse_spread > 0)


@flax.struct.dataclass
class Guides:
    """What a guided CycleGAN reads and never changes.

    Attributes:
      sae: parameters of the autoencoder of both domains, Flax's ``{"params": ...}``; ``()`` without concept consistency.
      statistics: :class:`TwoDomains` of :class:`CodeStatistics`; ``()`` likewise.
      classifiers: by domain, ``a`` and, where both domains have labels, ``b``; empty without semantic consistency.
    """

    sae: Any
    statistics: Any
    classifiers: dict[str, Any]


class Distance(NamedTuple):
    """A comparison of a source with its translation, by the autoencoder.

    Attributes:
      source, translation: ``(functions, params, statistics, images in [0, 1]) -> (batch, d_sae)``.
      loss: ``loss(source, translation, compared) -> (batch,)``; ``compared (d_sae,)``, bool, are the units of which it is.
    """

    source: Callable[..., jax.Array]
    translation: Callable[..., jax.Array]
    loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def centred_codes(functions: Autoencoder, params: Any, statistics: CodeStatistics, images: jax.Array) -> jax.Array:
    """``(h - m) / s`` with the domain's mean code and the scale of all its units, ``(batch, d_sae)``."""
    codes = functions.encode(params, images)
    return (codes - statistics.center.reshape(1, -1)) * statistics.inverse_scale.reshape(1, -1)


def activity(functions: Autoencoder, params: Any, statistics: CodeStatistics, images: jax.Array) -> jax.Array:
    """1 where a unit is above the domain's threshold, 0 elsewhere, ``(batch, d_sae)``."""
    return (activity_logits(functions, params, statistics, images) > 0).astype(jnp.float32)


def activity_logits(functions: Autoencoder, params: Any, statistics: CodeStatistics, images: jax.Array) -> jax.Array:
    """``(a - t) / s`` of the pre-activations, with the domain's threshold and spread, ``(batch, d_sae)``."""
    a = functions.pre_activations(params, images)
    return (a - statistics.threshold.reshape(1, -1)) * statistics.inverse_spread.reshape(1, -1)


def cosine(source: jax.Array, translation: jax.Array, compared: jax.Array) -> jax.Array:
    """:func:`saegan_jax.losses.code_cosine_distance`: units that are left out are 0 in both codes, and add nothing to it."""
    return losses.code_cosine_distance(source, translation)


def squared(source: jax.Array, translation: jax.Array, compared: jax.Array) -> jax.Array:
    """:func:`saegan_jax.losses.code_squared_error` of the compared units."""
    return losses.code_squared_error(source, translation, compared=compared)


def cross_entropy(source: jax.Array, translation: jax.Array, compared: jax.Array) -> jax.Array:
    """:func:`saegan_jax.losses.activity_cross_entropy` of the compared units."""
    return losses.activity_cross_entropy(source, translation, compared=compared)


DISTANCES: dict[ConceptDistance, Distance] = {
    "cosine": Distance(centred_codes, centred_codes, cosine),
    "squared": Distance(centred_codes, centred_codes, squared),
    "activity": Distance(activity, activity_logits, cross_entropy),
}
"""Distances of a translation's codes from those of its source, by name."""


class GuideParts(NamedTuple):
    """What the guides are made of; static.

    Attributes:
      config: see :class:`CycleGANConfig`.
      autoencoder: None without concept consistency.
      classifier: None without semantic consistency.
    """

    config: CycleGANConfig
    autoencoder: Autoencoder | None
    classifier: Classifier | None


def guide_parts(config: CycleGANConfig, *, image_shape: ImageShape, sae: SAEConfig | None) -> GuideParts:
    """The parts that ``config`` asks for.

    Raises:
      ConfigError: an autoencoder of patches, which has no one code an image.
      ValueError: a concept weight without ``sae``.
    """
    functions = None
    if config.concept_weight:
        if sae is None:
            raise ValueError("concept_weight > 0 needs sae, the settings of the autoencoder whose codes are compared.")
        fix = "a translation is compared with its source by one code an image; set it to 0."
        require(sae.patch_size == 0, "sae.patch_size", sae.patch_size, fix)
        functions = autoencoder(sae, image_shape=image_shape)
    network = Classifier(config.classes, CLASSIFIER_WIDTH, CLASSIFIER_FEATURES) if config.semantic_weight else None
    return GuideParts(config, functions, network)


def concept_loss(parts: GuideParts, guides: Guides, real: TwoDomains, fake: TwoDomains) -> jax.Array:
    """``sum over directions of mean distance(E(x), E(G(x)))``, each domain with its statistics; images in [-1, 1]; scalar."""
    assert parts.autoencoder is not None
    distance = DISTANCES[parts.config.concept_distance]
    params, statistics = jax.lax.stop_gradient((guides.sae, guides.statistics))

    def one(x: jax.Array, translated: jax.Array, source: CodeStatistics, target: CodeStatistics) -> jax.Array:
        wanted = distance.source(parts.autoencoder, params, source, to_unit(x))
        found = distance.translation(parts.autoencoder, params, target, to_unit(translated))
        return distance.loss(jax.lax.stop_gradient(wanted), found, source.compared & target.compared).mean()

    return one(real.a, fake.b, statistics.a, statistics.b) + one(real.b, fake.a, statistics.b, statistics.a)


def semantic_loss(parts: GuideParts, guides: Guides, real: TwoDomains, fake: TwoDomains) -> jax.Array:
    """``L(f_A, G_BA(b), p(f_A, b)) + L(f_A, G_AB(a), p(f_A, a))``, a scalar.

    L is the mean cross-entropy in nats, and ``p(f, x) = argmax f(x)``. With the labels of both domains ``L(f_A, G_BA(b), p(f_B,
    b)) + L(f_B, G_AB(a), p(f_A, a))``: each classifier reads images of the domain that it was trained on. Images in [-1, 1].
    """
    assert parts.classifier is not None
    network, params = parts.classifier, jax.lax.stop_gradient(guides.classifiers)

    def logits(domain: str, images: jax.Array) -> jax.Array:
        outputs: Any = network.apply({"params": params[domain]}, to_unit(images))
        return outputs[0]

    b = parts.config.labelled_domains[-1]
    there = losses.semantic_consistency(logits("a", real.a), logits(b, fake.b)).mean()
    return there + losses.semantic_consistency(logits(b, real.b), logits("a", fake.a)).mean()


def fit_guides(
    config: CycleGANConfig,
    sae: SAEConfig,
    sae_params: Any,
    images: TwoDomains,
    classifiers: dict[str, Any],
) -> Guides:
    """The guides of one member: the autoencoder, its statistics in each domain, and classifiers.

    Args:
      config: see :class:`CycleGANConfig`.
      sae: settings of the autoencoder.
      sae_params: its parameters; not read without concept consistency.
      images: training images, see :func:`code_statistics`.
      classifiers: parameters by domain, see :class:`Guides`.
    """
    if not config.concept_weight:
        return Guides((), (), classifiers)
    return Guides(sae_params, code_statistics(sae, sae_params, images), classifiers)


def code_statistics(sae: SAEConfig, params: Any, images: TwoDomains) -> TwoDomains:
    """:class:`TwoDomains` of :class:`CodeStatistics`, of at most :data:`MOST_IMAGES` images of each domain.

    Args:
      sae: settings of the autoencoder.
      params: its parameters.
      images: of each domain ``(n, height, width, channels)``, uint8 or float32 in [0, 1].
    """
    height, width, channels = images.a.shape[1:]
    functions = autoencoder(sae, image_shape=(height, width, channels))
    some = [any_to_unit_float(x[:: -(-x.shape[0] // MOST_IMAGES)]) for x in images]
    found = TwoDomains(*(_behaviour(functions, sae, params, x) for x in some))
    shared = (found.a.density >= LEAST_DENSITY) & (found.b.density >= LEAST_DENSITY)
    return TwoDomains(*(_statistics(one, shared) for one in found))


class _Behaviour(NamedTuple):
    """Of one domain's images: codes and pre-activations ``(n, d_sae)``, and shares in which units are active ``(d_sae,)``."""

    codes: jax.Array
    pre_activations: jax.Array
    density: jax.Array


def _behaviour(functions: Autoencoder, sae: SAEConfig, params: Any, images: jax.Array) -> _Behaviour:
    codes = functions.encode(params, images)
    active = (codes > sae.active_above).astype(jnp.float32)
    return _Behaviour(codes, functions.pre_activations(params, images), active.mean(axis=0))


def _statistics(found: _Behaviour, shared: jax.Array) -> CodeStatistics:
    n = found.codes.shape[0]
    spread = found.pre_activations.std(axis=0)
    units = jnp.maximum(shared.sum(), 1).astype(spread.dtype)
    variance = jnp.where(shared, found.codes.var(axis=0), 0.0).sum() / units
    scale = jnp.full_like(spread, jnp.sqrt(variance))
    rank = jnp.clip(jnp.round((1 - found.density) * n).astype(jnp.int32) - 1, 0, n - 1)
    ordered = jnp.sort(found.pre_activations, axis=0)
    threshold = jnp.take_along_axis(ordered, rank.reshape(1, -1), axis=0)[0]
    return CodeStatistics(found.codes.mean(axis=0), _inverse(scale, shared), threshold, _inverse(spread, shared))


def _inverse(scale: jax.Array, shared: jax.Array) -> jax.Array:
    usable = shared & (scale > 0)
    return jnp.where(usable, 1 / jnp.where(usable, scale, 1.0), 0.0)


def guide_shapes(config: CycleGANConfig, sae_config: SAEConfig, *, image_shape: ImageShape) -> Any:
    """Shapes of what :func:`fit_guides` returns, without training or data: what a checkpoint is restored into."""

    def fit(key: jax.Array) -> Guides:
        one = jnp.zeros((1, *image_shape), jnp.float32)
        network = guide_parts(config, image_shape=image_shape, sae=sae_config).classifier
        classifiers = {name: network.init(key, one)["params"] for name in config.labelled_domains} if network else {}
        params = sae(sae_config, image_shape=image_shape).init(key).params if config.concept_weight else ()
        return fit_guides(config, sae_config, params, TwoDomains(one, one), classifiers)

    return jax.eval_shape(fit, jax.random.key(0))
