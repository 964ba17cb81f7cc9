"""Draw images from a trained run: a PNG grid, and all of them in an .npz beside it."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.text import Text

from saegan_jax.algorithms.base import Algorithm, cannot_sample
from saegan_jax.errors import require
from saegan_jax.files import write_bytes
from saegan_jax.report import image_grid
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.restore import Restored, restore_run
from saegan_jax.training.systems import draw

SHOWN = 1024  # images in the picture; the .npz has all
COLUMNS = 16  # of an ensemble's picture


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
    label: int | None = None
    """Class to draw, of a conditional run; by default all, in the proportions of the training images."""
    member: int | None = None
    """Member of an ensemble to draw from, counted from 0; by default each, in rows of its own."""

    def __post_init__(self) -> None:
        require(self.n >= 1, "n", self.n, "draw at least one image.")
        check_options(self)
        if self.out is not None:
            require(self.out.suffix == ".png", "out", str(self.out), "it is a PNG; give it a name that ends in .png.")


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


def of_class(restored: Restored, label: int | None) -> Algorithm:
    """The run's algorithm, or one that samples ``label`` alone.

    Raises:
      ConfigError: a label of a run that knows no classes, or not this one.
    """
    if label is None:
        return restored.algorithm
    gan = getattr(restored.settings, "gan", restored.settings)
    known = restored.n_classes if getattr(gan, "conditional", False) else 0
    require(known > 0, "label", label, "the run knows no classes; train with --gan.conditional.")
    require(0 <= label < known, "label", label, f"the run knows the classes 0 to {known - 1}.")
    sample = restored.algorithm.sample
    return restored.algorithm._replace(
        sample=lambda state, key, n: sample(state, key, n, label=jnp.full(n, label, jnp.int32))
    )


def run(options: Sample) -> None:
    """Restore, draw, write."""
    restored = restore_run(options.run, step=options.step, member=options.member)
    fix = "it is a CycleGAN, which translates images and draws none; saegan translate is its command."
    require(restored.algorithm.sample is not cannot_sample, "run", str(options.run), fix)
    state, n_seeds, step = restored.state, restored.n_seeds, restored.step
    algorithm = of_class(restored, options.label)
    members = range(n_seeds) if options.member is None else [options.member]
    name = options.run.resolve().name
    out = options.out or Path(f"{name}-step{step}-seed{options.seed}.png")
    drawn = []
    for member in members:  # one at a time, so that a member's images do not depend on the others being drawn
        own = jax.tree.map(lambda x, i=member: x[i], state) if n_seeds > 1 else state
        pixels = draw(algorithm, own, seed=options.seed, n=options.n, n_seeds=1)
        finite = bool(np.isfinite(pixels).all())
        require(finite, "member", member, "its training failed, and its images are not finite; draw from another.")
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


def parse_options(arguments: Sequence[str] | None = None) -> Sample:
    """The command line as options."""
    return tyro.cli(Sample, args=arguments)
