"""Draw images from a trained run: a PNG grid, and all of them in an .npz beside it."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.text import Text

from experiments.common import main
from experiments.config import RunOptions, TrainGAN, TrainSAE, TrainSAEGAN
from saegan_jax.algorithms.base import Algorithm
from saegan_jax.errors import ConfigError, require
from saegan_jax.report import image_grid
from saegan_jax.training.checkpoint import Checkpoints
from saegan_jax.training.files import write_bytes
from saegan_jax.training.run_folder import from_json, read_config
from saegan_jax.training.systems import draw, rebuild
from saegan_jax.training.writers import warn

SHOWN = 1024  # images in the picture; the .npz has all
COLUMNS = 16  # of an ensemble's picture
# What a script trains: its options, the field of the model's settings, and the phase that samples are drawn from.
SYSTEMS: dict[str, tuple[type[RunOptions], str, str]] = {
    "sae": (TrainSAE, "sae", "sae"),
    "gan": (TrainGAN, "gan", "gan"),
    "saegan": (TrainSAEGAN, "model", "gan"),
}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw images from a run of train_saegan, train_gan or train_sae: a PNG grid, and an .npz with all of them.

    The data set is not needed, and nothing in the run folder is changed: a training may go on in it. Samples come from
    the averaged weights where the system keeps them. The same seed, count and checkpoint give the same bytes.

    The .npz holds images (uint8, n x height x width x channels), member (int32, the seed's number that drew each), seed,
    step and run.
    """

    run: Path
    """Run folder."""
    n: int = 64
    """Number of images, of each member."""
    seed: int = 0
    """Seed of the samples, the same for every member."""
    out: Path | None = None
    """PNG to write, the .npz goes beside it; by default <run>-step<step>-seed<seed>.png in the current folder."""
    step: int | None = None
    """Checkpoint to draw from; by default the newest complete one."""
    member: int | None = None
    """Member of an ensemble to draw from, counted from 0; by default each, in rows of its own."""

    def __post_init__(self) -> None:
        require(self.n >= 1, "n", self.n, "draw at least one image.")
        require(0 <= self.seed < 2**31, "seed", self.seed, "it must be a number from 0 to 2^31 - 1.")
        if self.out is not None:
            require(self.out.suffix == ".png", "out", str(self.out), "it is a PNG; give it a name that ends in .png.")


def load(options: Sample) -> tuple[Algorithm, Any, int, int]:
    """``(algorithm, state, n_seeds, step)`` of the run's checkpoint.

    Raises:
      ConfigError: no run, a run of another version, no such member or step, or no checkpoint that can be read.
    """
    config = read_config(options.run)
    try:
        kind, field, phase = SYSTEMS[config["script"]]
        trained = from_json(kind, config["options"])
        height, width, channels = config["image_shape"]
    except (KeyError, TypeError, AttributeError) as error:
        fix = f"its config.json is not that of a run that this version can draw from ({type(error).__name__}: {error})."
        raise ConfigError("run", str(options.run), fix) from None
    if options.member is not None:
        members = f"the run has {trained.seeds}, counted from 0."
        require(0 <= options.member < trained.seeds, "member", options.member, members)
    settings = getattr(trained, field)
    algorithm, like = rebuild(settings, image_shape=(height, width, channels), n_seeds=trained.seeds)
    with Checkpoints(options.run / "checkpoints" / phase, read_only=True) as checkpoints:
        restored = checkpoints.restore(like, step=options.step)
        reasons = "; ".join(f"step {step}: {reason}" for step, reason in checkpoints.damaged)
    if restored is None:
        fix = f"it has no checkpoint that can be read ({reasons or 'nothing has been saved yet'})."
        raise ConfigError("run", str(options.run), fix)
    if reasons:
        warn(f"Damaged checkpoints were skipped ({reasons}).")
    step, state = restored
    return algorithm, state, trained.seeds, step


def arrange(images: np.ndarray) -> tuple[np.ndarray, int]:
    """The images to show, ``(members, n, h, w, c)`` to ``(m, h, w, c)``, and how many go in a row.

    Members begin on rows of their own, below each other; where they take several, an empty row sets them apart.
    """
    members, n = images.shape[:2]
    n = min(n, max(1, SHOWN // members))
    if members == 1:
        return images[0, :n], math.ceil(math.sqrt(n))
    columns = min(n, COLUMNS)
    gap = columns * (n > columns)
    blank = np.full((members, -n % columns + gap, *images.shape[2:]), 255, np.uint8)
    shown = np.concatenate([images[:, :n], blank], axis=1).reshape(-1, *images.shape[2:])
    return shown[: len(shown) - gap], columns


def run(options: Sample) -> None:
    """Restore, draw, write."""
    algorithm, state, n_seeds, step = load(options)
    members = range(n_seeds) if options.member is None else [options.member]
    name = options.run.resolve().name
    out = options.out or Path(f"{name}-step{step}-seed{options.seed}.png")
    drawn = []
    for member in members:  # one at a time, so that a member's images do not depend on the others being drawn
        own = jax.tree.map(lambda x, i=member: x[i], state) if n_seeds > 1 else state
        pixels = draw(algorithm, own, seed=options.seed, n=options.n, n_seeds=1)
        drawn.append(np.rint(pixels * 255).astype(np.uint8))
    images = np.concatenate(drawn)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        images=images.reshape(-1, *images.shape[2:]),
        member=np.repeat(np.array(members, np.int32), options.n),
        seed=np.array(options.seed),
        step=np.array(step),
        run=np.array(name),
    )
    shown, columns = arrange(images)
    write_bytes(out.with_suffix(".npz"), buffer.getvalue())
    image_grid(shown, out, columns=columns)
    what = f"{options.n} images" + (f" of each of {len(members)} members" if len(members) > 1 else "")
    text = f"{out} and {out.with_suffix('.npz').name}: {what} from {name} at step {step}"
    Console().print(Text(text), soft_wrap=True)


if __name__ == "__main__":
    main(lambda: run(tyro.cli(Sample)))
