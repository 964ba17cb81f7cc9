"""Translate images by a trained CycleGAN: a PNG of sources, translations and the way back, and an .npz beside it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.text import Text

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.cyclegan import Direction
from saegan_jax.data.domains import load_domains
from saegan_jax.errors import ConfigError, require, require_choice
from saegan_jax.files import write_bytes
from saegan_jax.images import to_unit_float
from saegan_jax.report import image_grid
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options, require_place
from saegan_jax.runs.restore import Restored, restore_run
from saegan_jax.runs.translations import NAMES, cycled, held_out
from saegan_jax.training.members import members_of

SHOWN = 1024  # images in the picture, sources and the way back counted; the .npz has all
COLUMNS = 16
BATCH = 500  # images translated at a time, which bounds the memory
ROWS = 3  # source, translation, back


@dataclass(frozen=True, kw_only=True)
class Translate:
    """Translate images by a run of train_cyclegan, and back again: a PNG, and an .npz with all of them.

    The picture has rows of sources, of their translations, and of these translated back; members are below each other. By
    default the sources are test images of the run's own domain; with --images no data set is needed. Nothing in the run
    folder is changed: a training may go on in it. The same options and checkpoint give the same bytes.

    The .npz holds source, translation and back (uint8, n x height x width x channels, for each member in turn), member (int32,
    the seed's number that translated each), direction, step, run, and of test images label (int32) and seed. back is made
    from the translation as it was before it was rounded to 8 bits.
    """

    run: Path
    """Run folder."""
    direction: Direction = "ab"
    """ab: from domain A to B, and back; ba: from B to A."""
    n: int = 64
    """Number of test images to translate; of --images all are."""
    images: Path | None = None
    """Images to translate instead: an .npy, or an .npz with the key images; uint8, n x height x width x channels."""
    seed: int = 0
    """Chooses the test images; 0 takes the first of those that the training was scored on."""
    out: Path | None = None
    """PNG to write, the .npz goes beside it; by default <run>-step<step>-<direction>-seed<seed>.png in the current folder,
    with the name of --images in place of the seed."""
    step: int | None = None
    """Checkpoint to translate by; by default the newest complete one."""
    member: int | None = None
    """Member of an ensemble to translate by, counted from 0; by default each, in rows of its own."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""

    def __post_init__(self) -> None:
        require_choice("direction", self.direction, get_args(Direction))
        require(self.n >= 1, "n", self.n, "translate at least one image.")
        check_options(self)
        if self.out is not None:
            require(self.out.suffix == ".png", "out", str(self.out), "it is a PNG; give it a name that ends in .png.")


class Sources(NamedTuple):
    """What is translated: ``(n, height, width, channels)`` uint8, labels or None, and two names of it.

    Attributes:
      tag: in the default name of the files.
      what: in the message.
    """

    image: np.ndarray
    label: np.ndarray | None
    tag: str
    what: str


def read_images(path: Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """The images of a file.

    Raises:
      ConfigError: no such file, no NumPy file, or no uint8 images of the run's shape.
    """
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.lib.npyio.NpzFile):
                known = ", ".join(found.files) or "nothing"
                require("images" in found.files, "images", str(path), f"it holds {known}; the key must be images.")
                found = found["images"]
    except ConfigError:
        raise
    except Exception as error:  # a damaged file makes NumPy and zipfile raise nearly anything
        fix = f"it is no .npy or .npz file that can be read ({type(error).__name__}: {error})."
        raise ConfigError("images", str(path), fix) from None
    wanted = f"the run translates uint8 images of shape (n, {', '.join(map(str, image_shape))})"
    fits = found.dtype == np.uint8 and found.ndim == 4 and found.shape[1:] == image_shape
    require(fits, "images", str(path), f"it holds {found.dtype} of shape {found.shape}; {wanted}.")
    require(len(found) > 0, "images", str(path), "there is no image in it.")
    return found


def sources_of(options: Translate, restored: Restored) -> Sources:
    """The images of the file, or test images of the domain that the direction starts from.

    Raises:
      ConfigError: a file that cannot be used, or fewer test images than asked for.
    """
    if options.images is not None:
        image = read_images(options.images, restored.image_shape)
        return Sources(image, None, options.images.stem, f"images of {options.images.name}")
    name, letter = restored.options.domains, options.direction[0].upper()
    domains = load_domains(name, manual_dir=options.manual_dir, data_dir=options.data_dir)
    held = held_out(domains, options.direction, n=options.n, seed=options.seed)
    have = len(held.label)
    require(have == options.n, "n", options.n, f"domain {letter} of {name} has {have} test images; ask for no more.")
    return Sources(to_bytes(np.asarray(held.image)), held.label, f"seed{options.seed}", f"test images of {name}")


def to_bytes(images: np.ndarray) -> np.ndarray:
    """[0, 1] to uint8."""
    return np.rint(images * 255).astype(np.uint8)


def there_and_back(algorithm: Algorithm, state: Any, images: np.ndarray, direction: Direction) -> np.ndarray:
    """Translations of uint8 images and the way back, ``(2, n, height, width, channels)`` in [0, 1]."""
    parts = []
    for start in range(0, len(images), BATCH):
        found = cycled(algorithm, state, to_unit_float(jnp.asarray(images[start : start + BATCH])), direction)
        parts.append(np.stack([found.there, found.back]))
    return np.concatenate(parts, axis=1)


def arrange(strips: np.ndarray) -> tuple[np.ndarray, int]:
    """The images to show, ``(members, 3, n, h, w, c)`` to ``(m, h, w, c)``, and how many go in a row.

    Three rows of as many as fit beside each other, an empty one, three rows of the next; two empty ones before the next
    member.
    """
    members, _, n = strips.shape[:3]
    n = min(n, max(1, SHOWN // (ROWS * members)))
    columns = min(n, COLUMNS)
    full = np.full((members, ROWS, -(-n // columns) * columns, *strips.shape[3:]), 255, np.uint8)
    full[:, :, :n] = strips[:, :, :n]
    blocks = full.reshape(members, ROWS, -1, columns, *strips.shape[3:]).swapaxes(1, 2)
    rows = np.pad(blocks, [(0, 0), (0, 0), (0, 1), *[(0, 0)] * 4], constant_values=255)
    rows = rows.reshape(members, -1, *rows.shape[3:])
    rows = np.pad(rows, [(0, 0), (0, 1), *[(0, 0)] * 4], constant_values=255)
    return rows.reshape(-1, *strips.shape[3:])[: -2 * columns], columns


def run(options: Translate) -> None:
    """Restore, translate, write."""
    require_place(options.out)
    restored = restore_run(options.run, step=options.step, member=options.member)
    fix = "it translates nothing; give a run of train_cyclegan."
    require(restored.algorithm.translate is not None, "run", str(options.run), fix)
    n_seeds, step, direction = restored.n_seeds, restored.step, options.direction
    sources = sources_of(options, restored)
    name = options.run.resolve().name
    out = options.out or Path(f"{name}-step{step}-{direction}-{sources.tag}.png")
    beside = out.with_suffix(".npz")
    fix = f"its {beside.name} would replace --images; choose another name."
    require(options.images is None or beside.resolve() != options.images.resolve(), "out", str(out), fix)
    members = range(n_seeds) if options.member is None else [options.member]
    states = members_of(restored.state, n_seeds)
    found = []
    for member in members:  # one at a time, so that a member's images do not depend on the others being translated
        pixels = there_and_back(restored.algorithm, states[member], sources.image, direction)
        finite = bool(np.isfinite(pixels).all())
        require(finite, "member", member, "its training failed, and its images are not finite; translate by another.")
        found.append(np.concatenate([sources.image[None], to_bytes(pixels)]))
    strips = np.stack(found)  # (members, 3, n, h, w, c)
    n = len(sources.image)
    content = dict(zip(("source", "translation", "back"), np.concatenate(strips, axis=1), strict=True))
    content |= {
        "member": np.repeat(np.array(members, np.int32), n),
        "direction": np.array(direction),
        "step": np.array(step),
        "run": np.array(name),
    }
    if sources.label is not None:
        content |= {"label": np.tile(sources.label, len(members)), "seed": np.array(options.seed)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **content)
    shown, columns = arrange(strips)
    write_bytes(beside, buffer.getvalue())
    image_grid(shown, out, columns=columns)
    by = f" by each of {len(members)} members" if len(members) > 1 else ""
    text = f"{out} and {beside.name}: {n} {sources.what}, {NAMES[direction]} and back{by}, from {name} at step {step}"
    Console().print(Text(text), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Translate:
    """The command line as options."""
    return read_options(Translate, arguments)
