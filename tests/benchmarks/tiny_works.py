"""Works that compile in a second or less, and what every result must have."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.harness.agreement import Observation
from benchmarks.workloads import gan, sae
from benchmarks.workloads.package import Algorithm, GANConfig
from benchmarks.workloads.work import Work

SHAPE = (8, 8, 1)
OBLONG = (8, 4, 2)
# A short half-life: otherwise so few images change the averages by no more than rounding does.
GAN = GANConfig(network="dcgan", width=4, d_noise=8, batch_size=8, r1_gamma=2.0, r2_gamma=0.5, ema_half_life=80.0)
PLAIN = {"loss": "non_saturating", "r1_gamma": 0.0, "r2_gamma": 0.0, "beta1": 0.5}


@functools.cache  # one work, one compilation
def tiny_sae() -> Work:
    return sae.work(8, d_sae=8, image_shape=SHAPE, chunk=2)._replace(name="tiny")


@functools.cache
def tiny_topk() -> Work:
    return sae.work(8, variant="topk", d_sae=12, k=3, image_shape=SHAPE, chunk=2)._replace(name="tiny")


@functools.cache
def tiny_gan(*, shape: tuple[int, int, int] = OBLONG, **changes: object) -> Work:
    config = dataclasses.replace(GAN, **changes)
    return gan.work(f"tiny_{config.loss}", config, image_shape=shape, chunk=2)


def tiny_mlp() -> Work:
    return tiny_gan(**PLAIN, network="mlp", hidden=(12, 10), shape=(8, 6, 3))


@flax.struct.dataclass
class Toy:
    key: jax.Array
    step: jax.Array
    w: jax.Array
    params: Any = None


TOY_FLOPS = 2 * 2 * 8 * 64 * 4
"""Operations of the two products in a toy's step on batches of 8."""


def toy_algorithm(batch_size: int, *, d_in: int = 64) -> Algorithm:
    """``w <- x^T x w / 10^4`` of each batch of images of so many pixels."""

    def step(state, batch):
        x = batch.image.reshape(batch_size, -1)
        w = x.T @ (x @ state.w) / 1e4
        return state.replace(step=state.step + 1, w=w), w[0, 0]

    def init(key):
        return Toy(key, jnp.int32(0), jnp.ones((d_in, 4)))

    return Algorithm(init, step, lambda *a: None)


def toy(name: str = "toy") -> Work:
    """A work without peers, to whom only costs and rates matter."""
    return Work(
        name,
        "toy",
        None,
        toy_algorithm(8),
        8,
        SHAPE,
        2,
        lambda config, state: (),
        lambda *a: Observation({}, {}, {}),
        lambda params: (),
        peers=False,
    )


def check_form(result: Mapping[str, Any]) -> None:
    """The form of every result."""
    assert {"name", "command", "commit", "device", "versions", "settings", "rows"} <= result.keys()
    assert result["versions"].keys() >= {"python", "jax"}
    assert result["rows"]
    for row in result["rows"]:
        assert {"work", "arm", "metric", "unit", "mean", "median", "low", "high", "values"} <= row.keys()
        assert row["low"] <= row["median"] <= row["high"]
        assert row["mean"] == pytest.approx(np.mean(row["values"]))
        assert all(math.isfinite(v) for v in row["values"])
