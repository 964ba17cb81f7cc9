"""Two-dimensional mixtures of Gaussians: how many modes a GAN finds, how well, and how evenly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown

from experiments.modes import SAMPLE_SEED, Case, Metric, result, rows, tables, train_case
from saegan_jax.algorithms.gan import GANConfig, gan
from saegan_jax.data.mixtures import POINT_SHAPE, MixtureName, draw_points, mixture
from saegan_jax.errors import require, require_choice
from saegan_jax.metrics import mixture_quality, reverse_kl_floor
from saegan_jax.report.points import points_picture
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import main
from saegan_jax.training.callbacks import Scores
from saegan_jax.training.run_folder import to_json
from saegan_jax.training.systems import draw

SAMPLES = 2500
CEILING = 1 - np.exp(-4.5)  # of a 2-D Gaussian within three standard deviations
METRICS = (
    Metric("modes", "modes", "count", True),
    Metric("high_quality", "high quality", "share", True),
    Metric("reverse_kl", "reverse KL, nats", "nats", False),
)
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


@dataclass(frozen=True, kw_only=True)
class Gaussians:
    """Train a GAN on a ring of 8 and a grid of 25 Gaussians, all seeds in one program, beside PacGAN's published table.

    A stopped command continues where it was. 2,500 samples of the averaged weights are scored: high quality is within three
    sigma of a centre (a perfect generator has 98.89 %), a mode counts when it has a high-quality sample, and the reverse KL is
    that of the nearest centres of all samples against equal shares.
    """

    mixtures: tuple[MixtureName, ...] = get_args(MixtureName)
    """Which."""
    gan: GANConfig = field(default_factory=lambda: RECIPE)
    """The GAN; r1_gamma and r2_gamma count in the plane's units divided by 1.25 (ring) and 5 (grid)."""
    seed: int = 0
    """First seed."""
    seeds: int = 10
    """Members of each mixture, trained at once."""
    log_every: int = 500
    """Steps between two rows of metrics."""
    look_every: int = 4000
    """Steps between two scores, pictures and checkpoints; a multiple of log_every."""
    out: Path = Path("runs/gaussians")
    """Folder of the runs, one a mixture."""
    results: Path | None = None
    """JSON to write, its Markdown beside it; by default results.json in --out."""

    def __post_init__(self) -> None:
        check_options(self)
        require_choice("gan.network", self.gan.network, ("mlp",))
        suffix = self.results is None or self.results.suffix == ".json"
        require(suffix, "results", str(self.results), "give it a name that ends in .json.")


def case_of(options: Gaussians, name: MixtureName, folder: Path) -> Case:
    """One mixture."""
    target, config, n_seeds = mixture(name), options.gan, options.seeds
    algorithm = gan(config, image_shape=POINT_SHAPE)
    modes = len(target.centers)
    floors = {"modes": float(modes), "high_quality": float(CEILING)}
    floors["reverse_kl"] = float(reverse_kl_floor(SAMPLES, num_modes=modes).mean)

    def points(state: Any) -> np.ndarray:
        return target.points(draw(algorithm, state, seed=SAMPLE_SEED, n=SAMPLES, n_seeds=n_seeds))

    def score(step: int, state: Any) -> Scores:
        found = [
            mixture_quality(own, target.centers, sigma=target.sigma)._asdict()
            if np.isfinite(own).all()
            else {metric.name: float("nan") for metric in METRICS}
            for own in points(state)
        ]
        return Scores({m.name: [float(one[m.name]) for one in found] for m in METRICS}, floors)

    def picture(step: int, state: Any) -> None:
        points_picture(
            points(state), target.centers, folder / "samples" / f"{step:07d}.png", title=f"{name}, step {step:,}"
        )

    return Case(
        name=name,
        config=config,
        algorithm=algorithm,
        draw=lambda key, data: draw_points(key, target, n=config.batch_size),
        data=(),
        score=score,
        picture=picture,
        floors=floors,
        published={
            method: dict(zip((m.name for m in METRICS), values, strict=True))
            for method, values in PUBLISHED[name].items()
        },
        settings={"samples": SAMPLES},
    )


def run(options: Gaussians) -> None:
    """Train what is missing, then write and show the table."""
    console, made = Console(), []
    cases = {name: case_of(options, name, options.out / name) for name in options.mixtures}
    for name, case in cases.items():
        console.print(f"[bold]{name}")
        train_case(
            case, options.out / name, seed=options.seed, seeds=options.seeds,
            log_every=options.log_every, look_every=options.look_every,
        )  # fmt: skip
        made += rows(case, options.out / name, METRICS)
    note = (
        f"{options.seeds} seeds in one program, {options.gan.steps:,} steps of batch {options.gan.batch_size}, {SAMPLES:,} "
        "samples; mean [bootstrap 95 % interval over seeds]. Published rows: ten trials, from the PacGAN paper. *Best "
        "evaluation*: each seed's best value of each measure among its evaluations; the final state is the result."
    )
    found = result("mixtures of Gaussians", note, {"gan": to_json(options.gan), "seeds": options.seeds}, made)
    found.write(options.results or options.out / "results.json", tables(found, METRICS))
    console.print(Markdown(tables(found, METRICS)))


def parse_options(arguments: Sequence[str] | None = None) -> Gaussians:
    """The command line as options."""
    return tyro.cli(Gaussians, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
