"""The atlas of a sparse autoencoder: for every unit its atom, the images it is most active on, its class and its neighbours."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.evaluation.autoencoders import decoder
from saegan_jax.metrics import class_purity, nearest_units, unit_statistics
from saegan_jax.steering import typical_activity
from saegan_jax.training.sweep import encode_all

ACTIVITIES = 20_000_000  # of units on images that are kept at once
MOST_IMAGES = 10_000
ENCODED = 1000  # images at a time
TOP = 8
NEIGHBOURS = 6


class Atlas(NamedTuple):
    """Units of one autoencoder; ``m`` of them are shown.

    Attributes:
      units: ``(m,)``, their numbers.
      d_sae: units that there are.
      atoms: ``(m, height, width, channels)`` float32, rows of the decoder as images, or as patches.
      density, strength, top_activity: see :class:`saegan_jax.metrics.UnitStatistics`.
      top: ``(m, 8)``, rows of ``images``; -1 for none.
      purity, label, purity_floor: see :class:`saegan_jax.metrics.ClassPurity`.
      nearest, cosine: ``(m, 6)``, see :class:`saegan_jax.metrics.NearestUnits`; numbers of units shown.
      images: ``(k, height, width, channels)`` uint8, those that any ``top`` names, once each.
      image_label: ``(k,)``, their classes.
      n_images: images that were encoded.
      usual: ``(m,)``, the median activity where a unit is active; 0 where it never is.
    """

    units: np.ndarray
    d_sae: int
    atoms: np.ndarray
    density: np.ndarray
    strength: np.ndarray
    top: np.ndarray
    top_activity: np.ndarray
    purity: np.ndarray
    label: np.ndarray
    purity_floor: float
    nearest: np.ndarray
    cosine: np.ndarray
    images: np.ndarray
    image_label: np.ndarray
    n_images: int
    usual: np.ndarray


def feature_atlas(
    config: SAEConfig, params: Any, images: np.ndarray, labels: np.ndarray, *, num_classes: int, most: int
) -> Atlas:
    """Encode images, and say of every unit what it stands for.

    Args:
      config: of the autoencoder.
      params: its parameters, of one member.
      images: ``(n, height, width, channels)`` uint8; of more than 10,000 (fewer for large dictionaries) equally spaced ones.
      labels: ``(n,)``.
      num_classes: of the labels.
      most: units to show: where there are more, the densest.

    Returns:
      See :class:`Atlas`. A unit of a convolutional autoencoder is as active on an image as at its most active position.

    Raises:
      ValueError: codes or a dictionary that are not finite.
    """
    shape = images.shape[1:]
    positions = math.prod(autoencoder(config, image_shape=shape).positions)
    n = max(1, min(len(images), MOST_IMAGES, ACTIVITIES // config.d_sae))
    chosen = np.linspace(0, len(images) - 1, n).astype(int)
    images, labels = images[chosen], labels[chosen]
    activity = activity_on(config, params, images, positions=positions)
    threshold = config.active_above
    density = (activity > threshold).mean(axis=0)
    units = np.sort(np.argsort(-density, kind="stable")[:most])
    activity, W_dec = activity[:, units], decoder(config, params)[units]
    found = unit_statistics(activity, threshold=threshold, count=TOP)
    classes = class_purity(activity, labels, num_classes=num_classes, threshold=threshold)
    nearest = nearest_units(W_dec, count=NEIGHBOURS)
    kept, rows = np.unique(found.top, return_inverse=True)
    first = int(kept[0] < 0)  # -1 comes first
    atom = (config.patch_size, config.patch_size, shape[2]) if config.patch_size else shape
    return Atlas(
        units=units,
        d_sae=config.d_sae,
        atoms=W_dec.reshape(-1, *atom),
        density=found.density,
        strength=found.strength,
        top=rows.reshape(found.top.shape) - first,
        top_activity=found.top_activity,
        purity=classes.purity,
        label=classes.label,
        purity_floor=classes.floor,
        nearest=units[nearest.unit],
        cosine=nearest.cosine,
        images=images[kept[first:]],
        image_label=labels[kept[first:]],
        n_images=n,
        usual=np.asarray(typical_activity(jnp.where(activity > threshold, activity, 0.0))),
    )


def activity_on(config: SAEConfig, params: Any, images: np.ndarray, *, positions: int) -> np.ndarray:
    """How active each unit is on each image, at its most active position: ``(n, d_sae)``.

    Whole codes are kept of a part of the images at a time: those of many positions are far larger than what is returned.
    """
    together = max(1, min(ENCODED, ACTIVITIES // (config.d_sae * positions)))
    parts = (images[i : i + together] for i in range(0, len(images), together))
    codes = (encode_all(config, params, jnp.asarray(part)).reshape(len(part), positions, -1) for part in parts)
    return np.concatenate([code.max(axis=1) for code in codes])
