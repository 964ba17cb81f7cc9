"""Stacks of MNIST digits as cases: published protocols and their rows. A new one is one record in :data:`PROTOCOLS`."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Batch, Examples
from saegan_jax.algorithms.gan import GANConfig, gan
from saegan_jax.data import Dataset
from saegan_jax.data.stacked import stacked, stacks
from saegan_jax.evaluation.features import FeatureNetwork
from saegan_jax.evaluation.modes import SAMPLE_SEED, Sampling, score_modes, stacked_measures
from saegan_jax.metrics import reverse_kl_floor
from saegan_jax.report import image_grid
from saegan_jax.runs.modes.case import Case
from saegan_jax.runs.presets import MNIST_GAN

ProtocolName = Literal["quarter", "half", "veegan", "four"]
FIXED_STACKS = 128_000
SHOWN = 48  # samples of each member's picture
COLUMNS = 16
# Chosen with one to four members; every batch is fresh, so that there is no split to hold out.
# The tiny critic wants a much higher rate than the generator, or it tells nothing apart.
RECIPE = GANConfig(
    network="unrolled", width=8, d_width=2, d_noise=256, r1_gamma=0.1, r2_gamma=0.1, learning_rate=1e-2, generator_rate=0.1,
    final_learning_rate=0.05, ema_half_life=8000.0, batch_size=64, steps=8000,
)  # fmt: skip
# What went furthest on single digits; not tried on stacks, for want of an accelerator.
DCGAN_RECIPE = replace(MNIST_GAN, steps=30000)


class Protocol(NamedTuple):
    """What a published table was made with.

    Attributes:
      about: for the help and the note.
      stack: images in one sample.
      samples: how many are scored.
      networks: settings of the GAN that the protocol fixes.
      recipe: settings of the GAN that suit these networks.
      fixed: of a set of 128,000 stacks made once of training and test images, instead of fresh ones of training images.
      published: modes and reverse KL by method.
    """

    about: str
    stack: int
    samples: int
    networks: Mapping[str, Any]
    recipe: GANConfig
    fixed: bool
    published: Mapping[str, tuple[float, float]]


TINY: Mapping[str, Any] = {"network": "unrolled", "width": 8, "d_noise": 256}
DCGAN: Mapping[str, Any] = {"network": "dcgan", "width": 64, "d_width": 64, "d_noise": 100}
# Metz et al., Unrolled generative adversarial networks, 2017, table 1; Lin et al., PacGAN, 2018, tables 3 and 4;
# Srivastava et al., VEEGAN, 2017, table 1; Huang et al., The GAN is dead; long live the GAN!, 2024, table 2.
PROTOCOLS: Mapping[ProtocolName, Protocol] = {
    "quarter": Protocol(
        "tiny networks, the critic a quarter of the generator's width (Unrolled GAN)", 3, 25_600, {**TINY, "d_width": 2},
        RECIPE, False, {"DCGAN": (30.6, 5.99), "Unrolled GAN, 10 steps": (327.2, 4.66), "PacDCGAN4": (667, 1.81)},
    ),
    "half": Protocol(
        "tiny networks, the critic half of the generator's width (Unrolled GAN)", 3, 25_600, {**TINY, "d_width": 4},
        RECIPE, False, {"DCGAN": (628, 2.58), "Unrolled GAN, 10 steps": (817.4, 1.43), "PacDCGAN3": (867, 0.90)},
    ),
    "veegan": Protocol(
        "128,000 fixed stacks, DCGAN of width 64 (VEEGAN, PacGAN); for an accelerator", 3, 26_000, DCGAN, DCGAN_RECIPE, True,
        {"DCGAN": (99, 3.40), "VEEGAN": (150, 2.95), "PacDCGAN2": (1000, 0.06), "R3GAN": (1000, 0.029)},
    ),
    "four": Protocol(
        "stacks of four, 10,000 modes; for an accelerator", 4, 260_000, DCGAN, DCGAN_RECIPE, False,
        {"WGAN-GP": (9538, 0.914), "MEG": (10000, 0.048)},
    ),
}  # fmt: skip


class Stacks(NamedTuple):
    """What batches are made from: single images, and the rows of indices of fixed stacks, None for fresh ones.

    Indices take a thousandth of the memory that the images of the stacks would take.
    """

    images: Examples
    chosen: jax.Array | None


def _batch(n: int, stack: int, key: jax.Array, data: Stacks) -> Batch:
    """Fresh stacks, or fixed ones at random."""
    images, chosen = data
    if chosen is None:
        return stacked(images, stacks(key, images, n=n, stack=stack))
    return stacked(images, chosen[jax.random.randint(key, (n,), 0, len(chosen))])


def draw_picture(sampling: Sampling, folder: Path, step: int, state: Any) -> None:
    """Samples of every member, the first three of a stack as colours."""
    shown = sampling.images(state, seed=SAMPLE_SEED + 1)[..., :3]
    path = folder / "samples" / f"{step:07d}.png"
    image_grid(np.nan_to_num(shown).reshape(-1, *shown.shape[2:]), path, columns=COLUMNS)


def protocol_data(protocol: Protocol, dataset: Dataset) -> Stacks:
    """The images that a protocol stacks."""
    splits = (dataset.train, dataset.test) if protocol.fixed else (dataset.train,)
    images, labels = (np.concatenate([part[i] for part in splits]) for i in range(2))
    examples, fixed = Examples(jnp.asarray(images), jnp.asarray(labels)), protocol.fixed
    return Stacks(
        examples, stacks(jax.random.key(0), examples, n=FIXED_STACKS, stack=protocol.stack) if fixed else None
    )


def perfect_scores(protocol: Protocol, label: np.ndarray) -> dict[str, float]:
    """What a perfect generator scores, where single images have these labels: classes are not equally frequent."""
    n_modes, share = 10**protocol.stack, np.bincount(label, minlength=10).astype(np.float64)
    frequencies = reduce(np.multiply.outer, [share / share.sum()] * protocol.stack).reshape(-1)
    expected = reverse_kl_floor(protocol.samples, num_modes=n_modes, probabilities=frequencies)
    return {"modes": float(n_modes), "reverse_kl": float(expected.mean)}


def stacked_case(
    name: ProtocolName, config: GANConfig, dataset: Dataset, network: FeatureNetwork, *, seeds: int, folder: Path
) -> Case:
    """One protocol, its GAN with ``seeds`` members; ``network`` classifies single digits."""
    protocol = PROTOCOLS[name]
    height, width, _ = dataset.image_shape
    shape = (height, width, protocol.stack)
    algorithm, data = gan(config, image_shape=shape), protocol_data(protocol, dataset)
    floors = perfect_scores(protocol, np.asarray(data.images.label))
    scored, shown = (Sampling(algorithm, n, seeds) for n in (protocol.samples, SHOWN))
    return Case(
        name=name,
        folder=folder,
        config=config,
        image_shape=shape,
        algorithm=algorithm,
        draw=partial(_batch, config.batch_size, protocol.stack),
        data=data,
        score=partial(score_modes, scored, partial(stacked_measures, network), floors),
        picture=partial(draw_picture, shown, folder),
        floors=floors,
        published={method: {"modes": modes, "reverse_kl": kl} for method, (modes, kl) in protocol.published.items()},
        settings={"samples": protocol.samples, "stack": protocol.stack, "classifier": network.hash},
    )
