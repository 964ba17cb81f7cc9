"""Coloured shapes drawn from independent factors that are known: what codes of them stand for can be measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saegan_jax.data.dataset import Dataset, Split

SIDE = 32
CLASSES = ("square", "ellipse", "triangle")
FACTORS = {"shape": 3, "hue": 8, "size": 4, "orientation": 6, "x": 6, "y": 6}
"""Levels of every factor, in the order of the columns; each level is as likely as any other, whatever the other factors are."""
SIZES = {"train": 10_000, "validation": 1_000, "test": 1_000}
RADII = (5.0, 9.0)
"""Distance from a shape's centre to its farthest point, in pixels: smallest and largest."""
CENTRES = (10.0, 22.0)
"""Place of the centre, in pixels from the left or the top: first and last."""
TOGETHER = 100
TURN = 90.0
"""Degrees over which orientations are spread: no shape looks the same at two of them."""


class ShapesWithFactors(NamedTuple):
    """dataset: the images, labelled by shape; factors: of every split int32 (n, 6), levels counted from 0."""

    dataset: Dataset
    factors: dict[str, NDArray[np.int32]]


def shapes() -> Dataset:
    """12,000 images of 32x32x3 on black: 10,000 train, 1,000 validation, 1,000 test; always the same ones."""
    return shapes_with_factors().dataset


def shapes_with_factors() -> ShapesWithFactors:
    """:func:`shapes`, and the factors that each image was drawn from: :data:`FACTORS`."""
    levels = np.array(list(FACTORS.values()), np.uint64)
    total = sum(SIZES.values())
    # PCG64's raw stream never changes for a fixed seed; the bias of the remainder is below 1e-18.
    raw = np.random.PCG64(0).random_raw((total, len(levels)))
    drawn = (raw % levels).astype(np.int32)
    ends = np.cumsum(list(SIZES.values()))[:-1]
    factors = dict(zip(SIZES, np.split(drawn, ends), strict=True))
    train, validation, test = (Split(render(f), f[:, 0].copy()) for f in factors.values())
    dataset = Dataset("shapes", train, validation, test, num_classes=len(CLASSES), classes=CLASSES)
    return ShapesWithFactors(dataset, factors)


def render(factors: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The images of factors ``(n, 6)``: uint8 ``(n, 32, 32, 3)``, edges smooth over one pixel."""
    # Few at a time, which stay in the cache.
    return np.concatenate([_render(factors[i : i + TOGETHER]) for i in range(0, len(factors), TOGETHER)])


def _render(factors: NDArray[np.int32]) -> NDArray[np.uint8]:
    shape, hue, size, orientation, x, y = factors.T
    radius = _spaced(RADII, size, FACTORS["size"])
    centre_x, centre_y = (_spaced(CENTRES, level, FACTORS["x"]) for level in (x, y))
    angle = np.deg2rad(orientation * (TURN / FACTORS["orientation"])).astype(np.float32)
    pixel = np.arange(SIDE, dtype=np.float32) + 0.5
    right = pixel.reshape(1, 1, -1) - centre_x.reshape(-1, 1, 1)
    down = pixel.reshape(1, -1, 1) - centre_y.reshape(-1, 1, 1)
    cos, sin = (f(angle).reshape(-1, 1, 1) for f in (np.cos, np.sin))
    u, v = cos * right + sin * down, cos * down - sin * right
    coverage = np.zeros((len(factors), SIDE, SIDE), np.float32)
    for kind, distance in enumerate((_square, _ellipse, _triangle)):
        chosen = shape == kind
        coverage[chosen] = np.clip(0.5 - distance(u[chosen], v[chosen], radius[chosen].reshape(-1, 1, 1)), 0, 1)
    colour = _colours(FACTORS["hue"])[hue].reshape(-1, 1, 1, 3)
    return np.rint(255 * coverage[..., None] * colour).astype(np.uint8)


def _spaced(ends: tuple[float, float], level: NDArray[np.int32], n: int) -> NDArray[np.float32]:
    return (ends[0] + (ends[1] - ends[0]) * level / (n - 1)).astype(np.float32)


def _square(u: NDArray[np.float32], v: NDArray[np.float32], radius: NDArray[np.float32]) -> NDArray[np.float32]:
    """Signed distance to the edge, in pixels, negative inside."""
    return np.maximum(np.abs(u), np.abs(v)) - radius / np.float32(np.sqrt(2))


def _ellipse(u: NDArray[np.float32], v: NDArray[np.float32], radius: NDArray[np.float32]) -> NDArray[np.float32]:
    """Twice as long as wide; exact on the axes, near enough elsewhere."""
    return (np.sqrt(u**2 + 4 * v**2) - radius) / np.float32(1.5)


def _triangle(u: NDArray[np.float32], v: NDArray[np.float32], radius: NDArray[np.float32]) -> NDArray[np.float32]:
    """Three equal sides."""
    slope = np.float32(np.sqrt(3) / 2)
    edges = np.maximum(np.maximum(slope * u + v / 2, v / 2 - slope * u), -v)
    return edges - radius / np.float32(2)


def _colours(n: int) -> NDArray[np.float32]:
    """``n`` full colours around the circle of hues, ``(n, 3)``."""
    turn = 6 * np.arange(n).reshape(-1, 1) / n
    return np.clip(np.abs((turn + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1).astype(np.float32)
