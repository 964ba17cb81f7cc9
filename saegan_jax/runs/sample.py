"""Draw images from a trained run: a PNG grid, and all of them in an .npz beside it."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.text import Text

from saegan_jax.algorithms.base import Algorithm, cannot_sample
from saegan_jax.errors import require
from saegan_jax.files import write_bytes
from saegan_jax.report import image_grid
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options, require_place
from saegan_jax.runs.control import Controls, check_reads_codes, draw_controlled, named_images, parse_on
from saegan_jax.runs.restore import Restored, restore_run
from saegan_jax.training.systems import draw

SHOWN = 1024  # images in the picture; the .npz has all
COLUMNS = 16  # of an ensemble's picture


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw images from a run of train_saegan, train_gan or train_sae: a PNG grid, and an .npz with all of them.

    The data set is not needed, and nothing in the run folder is changed: a training may go on in it. Samples come from
    the averaged weights where the system keeps them. The same seed, count and checkpoint give the same bytes.

    A generator that reads sparse codes can be asked for an image's code (--like), a mixture of two (--mix), the way from one to
    the other (--interpolate), for units turned on or off (--on, --off: without an image the first row is drawn as it is and the
    second with the change, of the same noise), and for units alone (--only, a row for each). An image is a file, or test:N for
    a test image of the run's data set. The .npz then holds code too, sources first.

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

    like: str | None = None
    """Image whose code is kept: variations of it are drawn."""
    mix: tuple[str, str] | None = None
    """Two images: what is strongest in both codes is drawn."""
    interpolate: tuple[str, str] | None = None
    """Two images: n images on the way between their codes, of one noise."""
    on: tuple[str, ...] = ()
    """Units to turn on, as J or J=VALUE; by default at the median of their activity."""
    off: tuple[int, ...] = ()
    """Units to turn off."""
    only: tuple[str, ...] = ()
    """Units to draw alone, as J or J=VALUE: a row of n images for each, of whose code no other unit is on."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, where test:N is an MNIST image and they are not prepared yet."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""

    @property
    def controls(self) -> Controls:
        """Those that were given."""
        on, only = (tuple(parse_on(text, name) for text in getattr(self, name)) for name in ("on", "only"))
        return Controls(self.like, self.mix, self.interpolate, on, self.off, only)

    def __post_init__(self) -> None:
        self.controls.check()
        fix = "codes stand for classes here; leave one of them out."
        require(not self.controls or self.label is None, "label", self.label, fix)
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


def draw_members(options: Sample, restored: Restored) -> tuple[list[int], np.ndarray, np.ndarray | None, int | None]:
    """Images of every member that was asked for.

    Returns:
      Numbers of the members; ``(members, m, height, width, channels)`` uint8; the codes ``(members, m, d_code)`` that they were
      drawn from, and columns of the picture, where these were asked for.

    Raises:
      ConfigError: a member whose training failed.
    """
    algorithm = of_class(restored, options.label)
    members = list(range(restored.n_seeds)) if options.member is None else [options.member]
    images, codes, columns = [], [], None
    named = named_images(options.controls, restored, manual_dir=options.manual_dir, data_dir=options.data_dir)
    for member in members:  # one at a time, so that a member's images do not depend on the others being drawn
        state = restored.state
        own = jax.tree.map(lambda x, i=member: x[i], state) if restored.n_seeds > 1 else state
        if options.controls:
            drawn = draw_controlled(options.controls, restored, own, named, seed=options.seed, n=options.n)
            pixels, columns = drawn.images, drawn.columns
            codes.append(drawn.codes)
        else:
            pixels = draw(algorithm, own, seed=options.seed, n=options.n, n_seeds=1)[0]
        finite = bool(np.isfinite(pixels).all())
        require(finite, "member", member, "its training failed, and its images are not finite; draw from another.")
        images.append(np.rint(pixels * 255).astype(np.uint8))
    return members, np.stack(images), np.stack(codes) if codes else None, columns


def run(options: Sample) -> None:
    """Restore, draw, write."""
    require_place(options.out)
    restored = restore_run(options.run, step=options.step, member=options.member)
    fix = "it is a CycleGAN, which translates images and draws none; saegan translate is its command."
    require(restored.algorithm.sample is not cannot_sample, "run", str(options.run), fix)
    if options.controls:
        check_reads_codes(restored, options.run)
    members, images, codes, columns = draw_members(options, restored)
    name, step, n = options.run.resolve().name, restored.step, images.shape[1]
    out = options.out or Path(f"{name}-step{step}-seed{options.seed}.png")
    extra: dict[str, Any] = {} if codes is None else {"code": codes.reshape(-1, codes.shape[-1])}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        images=images.reshape(-1, *images.shape[2:]),
        member=np.repeat(np.array(members, np.int32), n),
        seed=np.array(options.seed),
        step=np.array(step),
        run=np.array(name),
        **extra,
    )
    shown, usual_columns = arrange(images) if columns is None else (images.reshape(-1, *images.shape[2:]), columns)
    write_bytes(out.with_suffix(".npz"), buffer.getvalue())
    image_grid(shown, out, columns=usual_columns)
    what = f"{n} images" + (f" of each of {len(members)} members" if len(members) > 1 else "")
    text = f"{out} and {out.with_suffix('.npz').name}: {what} from {name} at step {step}"
    Console().print(Text(text), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Sample:
    """The command line as options."""
    return read_options(Sample, arguments)
