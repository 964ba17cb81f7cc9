"""What grows in ``python -m benchmarks.scaling``: one axis at a time around the works that are timed elsewhere."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

from benchmarks.workloads import gan as gans
from benchmarks.workloads.package import Algorithm, GANConfig, SAEConfig, gan, sae

Axis = Literal["batch", "width", "d_sae", "seeds"]
AXES: tuple[Axis, ...] = ("batch", "width", "d_sae", "seeds")
SHAPE = (28, 28, 1)
SAE = SAEConfig(variant="kl", d_sae=128, decoder_norm=0.0, batch_size=256, steps=1_000_000)
TOPK = replace(SAE, variant="topk", d_sae=1024, k=25)
DCGAN = gans.PLAIN


class Point(NamedTuple):
    """One program: what trains, how many examples a step, how many seeds (None: one, without vmap), steps in a call."""

    algorithm: Algorithm
    batch_size: int
    members: int | None
    steps: int


class Series(NamedTuple):
    """One axis of one work.

    Attributes:
      name: as in the results.
      axis: what grows.
      values: of the axis, growing; there is no last one.
      point: the program at a value.
      shape: of the images.
    """

    name: str
    axis: Axis
    values: Callable[[], Iterable[int]]
    point: Callable[[int], Point]
    shape: tuple[int, int, int] = SHAPE


def _powers(first: int, factor: int) -> Iterable[int]:
    return (first * factor**i for i in range(40))


def doubling(first: int, factor: int = 2) -> Callable[[], Iterable[int]]:
    """``first`` times the powers of ``factor``."""
    return partial(_powers, first, factor)


def _steps(at_default: int, relative: float) -> int:
    """Steps in a call: fewer where each is larger."""
    return int(min(1000, max(1, at_default / relative)))


def _sae(config: SAEConfig, *, steps: int, seeds: int = 1) -> Point:
    return Point(sae(config, image_shape=SHAPE), config.batch_size, seeds if seeds > 1 else None, steps)


def _gan(config: GANConfig, *, steps: int, seeds: int = 1) -> Point:
    return Point(gan(config, image_shape=SHAPE), config.batch_size, seeds if seeds > 1 else None, steps)


SERIES = (
    Series(
        "SAE 784-128, batch",
        "batch",
        doubling(8, 4),
        lambda v: _sae(replace(SAE, batch_size=v), steps=_steps(100, v / 256)),
    ),
    Series(
        "DCGAN 28x28 width 32, batch",
        "batch",
        doubling(4),
        lambda v: _gan(replace(DCGAN, batch_size=v), steps=_steps(8, v / 64)),
    ),
    Series(
        "DCGAN 28x28 batch 64, width",
        "width",
        doubling(4),
        lambda v: _gan(replace(DCGAN, width=v), steps=_steps(8, (v / 32) ** 2)),
    ),
    Series(
        "TopK SAE batch 256, d_sae",
        "d_sae",
        doubling(64, 4),
        lambda v: _sae(replace(TOPK, d_sae=v), steps=_steps(12, v / 1024)),
    ),
    Series(
        "SAE 784-128 batch 256, seeds",
        "seeds",
        doubling(1),
        lambda v: _sae(SAE, seeds=v, steps=_steps(100, v)),
    ),
    Series(
        "DCGAN 28x28 width 32 batch 64, seeds",
        "seeds",
        doubling(1),
        lambda v: _gan(DCGAN, seeds=v, steps=_steps(8, v)),
    ),
)
