"""Mixtures of Gaussians in the plane as cases, with the published rows."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from saegan_jax.algorithms.base import Batch
from saegan_jax.algorithms.gan import GANConfig, gan
from saegan_jax.data.mixtures import POINT_SHAPE, Mixture, MixtureName, draw_points, mixture
from saegan_jax.evaluation.modes import Sampling, mixture_measures, score_modes
from saegan_jax.metrics import reverse_kl_floor
from saegan_jax.report.modes import MIXTURE_METRICS
from saegan_jax.report.points import points_picture
from saegan_jax.runs.modes.case import Case

SAMPLES = 2500
CEILING = 1 - np.exp(-4.5)  # of a 2-D Gaussian within three standard deviations
# Lin et al., PacGAN: the power of two samples in generative adversarial networks, 2018, tables 1 and 2; ten trials.
PUBLISHED: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "ring": {
        "GAN": (6.3, 0.982, 0.45), "ALI": (6.6, 0.976, 0.36), "PacGAN2": (7.9, 0.956, 0.07), "PacGAN4": (7.8, 0.959, 0.07),
    },
    "grid": {
        "GAN": (17.3, 0.948, 0.70), "ALI": (24.1, 0.957, 0.14), "PacGAN2": (23.8, 0.913, 0.13), "PacGAN4": (24.8, 0.936, 0.04),
    },
}  # fmt: skip
# Chosen with three or four seeds; there is no test split to spare, every sample being fresh.
RECIPE = GANConfig(
    hidden=(128, 128, 128), scale=5.0, d_noise=2, r1_gamma=0.004, r2_gamma=0.004, final_gamma=0.01, learning_rate=3e-3,
    final_learning_rate=0.0, beta1=0.5, ema_half_life=2000.0, batch_size=256, steps=32000,
)  # fmt: skip


def _batch(target: Mixture, n: int, key: jax.Array, data: Any) -> Batch:
    """Fresh points."""
    return draw_points(key, target, n=n)


def draw_picture(sampling: Sampling, target: Mixture, title: str, folder: Path, step: int, state: Any) -> None:
    """The samples that are scored, of every member, beside the centres."""
    points, path = target.points(sampling.images(state)), folder / "samples" / f"{step:07d}.png"
    points_picture(points, target.centers, path, title=f"{title}, step {step:,}")


def mixture_case(name: MixtureName, config: GANConfig, *, seeds: int, folder: Path) -> Case:
    """One mixture; the GAN has ``seeds`` members."""
    target, algorithm = mixture(name), gan(config, image_shape=POINT_SHAPE)
    modes, sampling = len(target.centers), Sampling(algorithm, SAMPLES, seeds)
    kl = float(reverse_kl_floor(SAMPLES, num_modes=modes).mean)
    names = [metric.name for metric in MIXTURE_METRICS]
    floors = dict(zip(names, (float(modes), float(CEILING), kl), strict=True))
    return Case(
        name=name,
        folder=folder,
        config=config,
        image_shape=POINT_SHAPE,
        algorithm=algorithm,
        draw=partial(_batch, target, config.batch_size),
        data=(),
        score=partial(score_modes, sampling, partial(mixture_measures, target), floors),
        picture=partial(draw_picture, sampling, target, name, folder),
        floors=floors,
        published={method: dict(zip(names, values, strict=True)) for method, values in PUBLISHED[name].items()},
        settings={"samples": SAMPLES},
    )
