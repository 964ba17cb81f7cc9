"""Every system once, and how the costs split: ``python -m benchmarks.aot`` compiles it for TPUs that are not there, and
``python -m benchmarks.forms`` times it on the device that is there."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from benchmarks.workloads import gan as gans
from benchmarks.workloads.images import images_for
from benchmarks.workloads.package import (
    CycleGANConfig,
    EnergyConfig,
    Forecast,
    GANConfig,
    Placement,
    SAEConfig,
    SAEGANConfig,
    TranslationConfig,
    VAEConfig,
    build_system,
    forecast,
    forecast_system,
    topk_mask,
)
from benchmarks.workloads.scan import Scanned
from benchmarks.workloads.selection import Selected, by_sorting

SMALL, COLOUR, VECTORS = (28, 28, 1), (64, 64, 3), (64, 64, 1)
ONE = "data=1"
MOST_IMAGES, LARGEST_DATA = 8192, 256 * 2**20


class Case(NamedTuple):
    """One program: a work on a mesh of a slice.

    Attributes:
      work: of :data:`WORKS`.
      slice: of TPUs, as in v5e:2x4.
      mesh: as in data=8.
    """

    work: str
    slice: str = "v5e:2x4"
    mesh: str = ONE

    @property
    def arm(self) -> str:
        """As in the results."""
        return f"{self.slice.partition(':')[0]}, {self.mesh}"


class Program(Protocol):
    """A compiled program on the device that is there."""

    compiled: Any
    compile_s: float

    def run(self, calls: int) -> None:
        """That many calls; returns when their results are there."""


class Planned(NamedTuple):
    """A work.

    Attributes:
      forecast: ``forecast(chip=..., mesh=...)``.
      batch_size: examples of one member's step.
      n_seeds: members.
      program: ``program(steps=...)``, of so many steps a call; None for a work that cannot be run without something trained.
    """

    forecast: Callable[..., Forecast]
    batch_size: int
    n_seeds: int = 1
    program: Callable[..., Program] | None = None


def system(settings: Any, *, batch_size: int, image_shape: tuple[int, int, int] = SMALL, n_seeds: int = 1) -> Planned:
    """A step of a system in the registry."""
    given: dict[str, Any] = {"image_shape": image_shape, "batch_size": batch_size, "n_seeds": n_seeds}
    return Planned(
        partial(forecast_system, settings, **given), batch_size, n_seeds, partial(scanned, settings, **given)
    )


def scanned(settings: Any, *, image_shape: tuple[int, int, int], batch_size: int, n_seeds: int, steps: int) -> Scanned:
    """A scan over steps of a system that needs nothing trained, on synthetic images."""
    pixels = images_for(image_shape, batch_size=batch_size, wanted=MOST_IMAGES, most_bytes=LARGEST_DATA)
    algorithm, members = build_system(settings, image_shape=image_shape, n_classes=0), n_seeds if n_seeds > 1 else None
    return Scanned(algorithm, pixels, batch_size=batch_size, steps=steps, members=members)


def of_gan(settings: GANConfig, **options: Any) -> Planned:
    """A step of a GAN."""
    return system(settings, batch_size=settings.batch_size, **options)


def select(search: Callable[[jax.Array], jax.Array], *, chip: str, mesh: Mesh) -> Forecast:
    """The choice of the largest of 65,536 in each of 4,096 rows, as a step without a state."""
    rows = jax.ShapeDtypeStruct((4096, 65536), jnp.float32)
    placed = Placement(mesh, {}, PartitionSpec("data"))

    def step(state: Any, x: Any) -> tuple[Any, Any]:
        return state, jnp.where(search(x), x, 0.0)

    return forecast(step, {}, rows, chip=chip, placed=placed)


def selection(search: Callable[[jax.Array], jax.Array]) -> Planned:
    """A way to choose."""
    return Planned(partial(select, search), 4096, program=partial(Selected, search))


K = 32
SAE = SAEConfig(d_sae=128, decoder_norm=0.0, batch_size=256, steps=1_000_000)
LARGE = replace(SAE, variant="topk", d_sae=65536, k=K, batch_size=4096)
R1_R2 = gans.RELATIVISTIC
WIDE = replace(gans.PLAIN, stages=4, width=64)
JOINT = SAEGANConfig(
    generator_input="sparse", discriminator="joint", sae=SAEConfig(variant="topk", d_sae=256, k=20), gan=R1_R2
)
WORKS: Mapping[str, Callable[[], Planned]] = {
    "select_halving": lambda: selection(partial(topk_mask, k=K, search="halving")),
    "select_digits": lambda: selection(partial(topk_mask, k=K, search="digits")),
    "select_sort": lambda: selection(partial(by_sorting, k=K)),
    "sae_b256": lambda: system(SAE, batch_size=256),
    "sae_b256_8_seeds": lambda: system(SAE, batch_size=256, n_seeds=8),
    "sae_topk_large": lambda: system(LARGE, batch_size=4096, image_shape=VECTORS),
    "sae_topk_large_without_auxk": lambda: system(replace(LARGE, auxk=0.0), batch_size=4096, image_shape=VECTORS),
    "gan_mlp": lambda: of_gan(replace(gans.PLAIN, network="mlp", hidden=(256, 256))),
    "gan_rpgan": lambda: of_gan(R1_R2),
    "gan_rpgan_matrix": lambda: of_gan(replace(R1_R2, conv_form="matrix")),
    "gan_rpgan_bfloat16": lambda: of_gan(replace(R1_R2, precision="bfloat16")),
    "gan_rpgan_8_seeds": lambda: of_gan(R1_R2, n_seeds=8),
    "gan_rpgan_8_seeds_matrix": lambda: of_gan(replace(R1_R2, conv_form="matrix"), n_seeds=8),
    "gan_64x64": lambda: of_gan(WIDE, image_shape=COLOUR),
    "gan_64x64_matrix": lambda: of_gan(replace(WIDE, conv_form="matrix"), image_shape=COLOUR),
    "gan_64x64_bfloat16": lambda: of_gan(replace(WIDE, precision="bfloat16"), image_shape=COLOUR),
    "gan_64x64_b2048": lambda: of_gan(replace(WIDE, batch_size=2048), image_shape=COLOUR),
    "saegan_joint": lambda: system(JOINT, batch_size=R1_R2.batch_size),
    "vae": lambda: system(VAEConfig(), batch_size=128),
    "energy": lambda: system(EnergyConfig(), batch_size=64),
    "cyclegan": lambda: system(TranslationConfig(cyclegan=CycleGANConfig()), batch_size=8, image_shape=COLOUR),
}
CASES: tuple[Case, ...] = (
    *map(Case, ("select_halving", "select_digits", "select_sort", "sae_b256", "sae_b256_8_seeds")),
    *map(Case, ("gan_rpgan", "gan_rpgan_matrix", "sae_topk_large")),
    Case("sae_topk_large", mesh="data=8"),
    Case("sae_topk_large", "v5e:16x16", "data=16,model=16"),
    Case("gan_rpgan", mesh="data=8"),
    *map(Case, ("vae", "energy", "gan_mlp", "gan_64x64", "gan_64x64_matrix", "saegan_joint")),
    Case("gan_rpgan_8_seeds"),
    Case("sae_topk_large", mesh="model=8"),
    Case("gan_rpgan_8_seeds", mesh="seed=8"),
    *map(Case, ("gan_rpgan_bfloat16", "gan_64x64_bfloat16", "cyclegan")),
    Case("gan_64x64", mesh="data=8"),
    Case("sae_topk_large", "v5p:2x2x1"),
    Case("sae_topk_large", "v6e:2x2"),
    Case("gan_rpgan", "v6e:2x2"),
    Case("gan_64x64_b2048", "v5e:16x16", "data=256"),
    *map(Case, ("gan_rpgan_8_seeds_matrix", "sae_topk_large_without_auxk")),
)
"""What is published, in the order of its compiling."""
