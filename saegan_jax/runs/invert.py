"""Find the latent of which a trained generator draws an image that is given."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.text import Text

from saegan_jax.algorithms.base import cannot_sample
from saegan_jax.errors import require, require_positive
from saegan_jax.files import write_bytes
from saegan_jax.report import image_grid
from saegan_jax.report.sprites import to_pixels
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options, require_writable
from saegan_jax.runs.control import read_images
from saegan_jax.runs.restore import Restored, restore_run
from saegan_jax.steering import Inverted, invert, layers
from saegan_jax.steering.cut import Layer, activations_before, images_after
from saegan_jax.training.members import members_of

MOST_STARTS = 1024
DRAWN = 1000  # latents of the prior, whose norms the found one is compared with


@dataclass(frozen=True, kw_only=True)
class Invert:
    """Find the latent of which the generator of a run draws an image, by gradient descent from several starts.

    Writes a PNG with the image, then what each start found, the nearest first; and an .npz with image, images, latent and error
    (root mean square difference of pixels in [0, 1]), in the same order. The latent is what the generator's first layer reads.
    Nothing keeps it where the prior draws, so that its norm is printed beside that of latents of the prior.
    """

    run: Path
    """Run folder."""
    image: str
    """Image file of the run's size, or test:N for a test image of its data set."""
    starts: int = 16
    """Latents of the prior that the descent starts from."""
    steps: int = 500
    """Steps of Adam."""
    learning_rate: float = 0.1
    """Learning rate at the first step; it falls to 0 as a cosine."""
    seed: int = 0
    """Seed of the starts."""
    out: Path | None = None
    """PNG to write, the .npz goes beside it; by default <run>-inverted.png in the current folder."""
    step: int | None = None
    """Checkpoint to read; by default the newest complete one."""
    member: int = 0
    """Member of an ensemble, counted from 0."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, where test:N is an MNIST image and they are not prepared yet."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""

    def __post_init__(self) -> None:
        check_options(self)
        fix = f"start from at least one latent and at most {MOST_STARTS}."
        require(1 <= self.starts <= MOST_STARTS, "starts", self.starts, fix)
        require_positive(steps=self.steps, learning_rate=self.learning_rate)


def first_layer(restored: Restored, run: Path, state: Any) -> Layer:
    """The layer that reads the latent.

    Raises:
      ConfigError: a run that draws no images of a latent by a network.
    """
    sample = restored.algorithm.sample
    found = () if sample is cannot_sample else layers(sample, state)
    fix = "it has no generator that draws images of a latent; give a run of a GAN or a variational autoencoder."
    require(bool(found), "run", str(run), fix)
    return found[0]


@partial(jax.jit, static_argnames=("sample", "layer", "steps"))
def _descend(
    sample: Any, layer: Layer, state: Any, target: jax.Array, start: jax.Array, rate: float, steps: int
) -> tuple[Inverted, jax.Array]:
    draw = partial(images_after, sample, layer, state)
    found = invert(draw, target, start, steps=steps, learning_rate=rate)
    return found, draw(found.latent)


# Under jit: otherwise the input of every layer is computed and kept.
_drawn = jax.jit(activations_before, static_argnames=("sample", "layer", "n"))


def norms(latents: jax.Array | np.ndarray) -> np.ndarray:
    """The length of each latent: ``(n, ...) -> (n,)``."""
    return np.linalg.norm(np.asarray(latents).reshape(len(latents), -1), axis=1)


def run(options: Invert) -> None:
    """Restore, descend, write."""
    out = options.out or Path(f"{options.run.resolve().name}-inverted.png")
    require_writable(out, suffix=".png")
    restored = restore_run(options.run, step=options.step, member=options.member)
    state = members_of(restored.state, restored.n_seeds)[options.member]
    layer = first_layer(restored, options.run, state)
    directories: dict[str, Any] = {"manual_dir": options.manual_dir, "data_dir": options.data_dir}
    (target,) = read_images([("image", options.image)], restored, **directories)
    sample, key = restored.algorithm.sample, jax.random.key(options.seed)
    drawn = _drawn(sample, layer, state, key, max(DRAWN, options.starts))
    start = drawn[: options.starts]
    found, images = _descend(sample, layer, state, jnp.asarray(target), start, options.learning_rate, options.steps)
    order = np.argsort(np.asarray(found.error), kind="stable")
    error, latent = np.asarray(found.error)[order], np.asarray(found.latent)[order]
    fix = "its training failed, and its images are not finite; choose another."
    require(bool(np.isfinite(error[0])), "member", options.member, fix)
    shown = np.concatenate([target[None], np.asarray(images)[order]])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, image=to_pixels(target), images=to_pixels(shown[1:]), latent=latent, error=error)
    write_bytes(out.with_suffix(".npz"), buffer.getvalue())
    image_grid(to_pixels(shown), out, columns=math.ceil(math.sqrt(len(shown))))
    low, high = np.quantile(norms(drawn), [0.025, 0.975])
    before = float(np.nanmin(np.asarray(found.errors)[0]))
    text = (
        f"{out} and {out.with_suffix('.npz').name}: root mean square error {error[0]:.3g}, {before:.3g} at the nearest start; "
        f"norm of the latent {norms(latent)[0]:.3g}, of 95 % of the prior's {low:.3g} to {high:.3g}"
    )
    Console().print(Text(text), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Invert:
    """The command line as options."""
    return read_options(Invert, arguments)
