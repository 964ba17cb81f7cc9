"""Images drawn of codes that a user chose: variations of an image, units on and off or alone, mixtures and ways between two."""

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.data import load
from saegan_jax.data.decode import UnreadableError, bombs_are_errors, decode, with_channels
from saegan_jax.errors import ConfigError, require
from saegan_jax.images import to_unit_float
from saegan_jax.runs.restore import Restored
from saegan_jax.steering import interpolate, mix, typical_activity, with_unit

TEST = "test:"  # before the number of a test image
ASKED = 4096  # codes from the prior that say how active a unit usually is


class Controls(NamedTuple):
    """What was asked for; of ``like``, ``mix``, ``interpolate`` and ``only`` at most one is given.

    Attributes:
      like: an image, whose code is kept.
      mix: two images.
      interpolate: two images.
      on: units to turn on, each with its value, or None for its usual one.
      off: units to turn off.
      only: units that are each drawn alone, as ``on``: no other unit is on.
    """

    like: str | None = None
    mix: tuple[str, str] | None = None
    interpolate: tuple[str, str] | None = None
    on: tuple[tuple[int, float | None], ...] = ()
    off: tuple[int, ...] = ()
    only: tuple[tuple[int, float | None], ...] = ()

    def __bool__(self) -> bool:
        return any(x is not None and x != () for x in self)

    def check(self) -> None:
        """Raise :class:`saegan_jax.errors.ConfigError` for controls that exclude each other."""
        given = {"like": self.like, "mix": self.mix, "interpolate": self.interpolate, "only": self.only or None}
        named = [name for name, value in given.items() if value is not None]
        fix = f"only one of {', '.join(given)} says which codes are drawn; leave the others out."
        require(len(named) <= 1, " and ".join(named), "all at once", fix)
        lists = {
            "on": tuple(unit for unit, _ in self.on),
            "off": self.off,
            "only": tuple(unit for unit, _ in self.only),
        }
        for name, units in lists.items():
            require(min(units, default=0) >= 0, name, units, "units are counted from 0.")
        fix = "these units are drawn alone; leave on and off out."
        require(not self.only or not (self.on or self.off), "only", lists["only"], fix)
        both = sorted({unit for unit, _ in self.on} & set(self.off))
        require(not both, "off", both, "these units are turned on as well; name each once.")


class Drawn(NamedTuple):
    """Images as they are shown and saved, in rows of ``columns``.

    Attributes:
      images: ``(m, height, width, channels)`` float32 in [0, 1]: sources first, where there are any.
      codes: ``(m, d_code)``, the code of each.
      columns: of the picture.
    """

    images: np.ndarray
    codes: np.ndarray
    columns: int


def parse_on(text: str, name: str = "on") -> tuple[int, float | None]:
    """``J`` or ``J=VALUE``, of the option ``name``.

    Raises:
      ConfigError: anything else.
    """
    unit, _, value = text.partition("=")
    try:
        found = int(unit), float(value) if value else None
    except ValueError:
        raise ConfigError(
            name, text, f"give a unit's number, or number=value, as in --{name} 5 or --{name} 5=2.5."
        ) from None
    require(found[1] is None or np.isfinite(found[1]), name, text, "the value must be finite.")
    return found


def check_reads_codes(restored: Restored, run: Path) -> None:
    """Raise :class:`saegan_jax.errors.ConfigError` for a run whose generator reads no codes."""
    fix = (
        "its generator reads no codes; train with `saegan train saegan --generator-input sparse --discriminator joint`."
    )
    require(restored.algorithm.encode is not None, "run", str(run), fix)


def named_images(
    controls: Controls, restored: Restored, *, manual_dir: Path | None = None, data_dir: Path | None = None
) -> list[np.ndarray]:
    """The images that ``controls`` name, each ``(height, width, channels)`` float32 in [0, 1].

    Raises:
      ConfigError: no such file or number, a file that is no image, or an image of another size.
    """
    names = {"like": [controls.like], "mix": controls.mix or (), "interpolate": controls.interpolate or ()}
    given = [(field, name) for field, found in names.items() for name in found if name is not None]
    return read_images(given, restored, manual_dir=manual_dir, data_dir=data_dir)


def read_images(
    given: Sequence[tuple[str, str]],
    restored: Restored,
    *,
    manual_dir: Path | None = None,
    data_dir: Path | None = None,
) -> list[np.ndarray]:
    """Images of a run's size, each ``(height, width, channels)`` float32 in [0, 1].

    Args:
      given: for each the option that names it, for messages, and a file, or ``test:N`` for a test image of the data set.
      restored: the run.
      manual_dir, data_dir: where the data are.

    Raises:
      ConfigError: no such file or number, a file that is no image, or an image of another size.
    """
    test = np.zeros((0, *restored.image_shape), np.uint8)
    if any(name.startswith(TEST) for _, name in given):
        own = restored.options.image_files
        test = load(restored.options.dataset, manual_dir=manual_dir, data_dir=data_dir, **own).test.image
    pixels = [
        _test_image(name, test, restored, field)
        if name.startswith(TEST)
        else file_image(name, restored.image_shape, field)
        for field, name in given
    ]
    return [np.asarray(to_unit_float(jnp.asarray(image))) for image in pixels]


def file_image(name: str, image_shape: tuple[int, int, int], field: str) -> np.ndarray:
    """The image of a file, ``(height, width, channels)`` uint8, made of its pixels as training images are.

    Raises:
      ConfigError: no such file, no image, or one of another size than ``image_shape``.
    """
    height, width, channels = image_shape
    fix = f"there is no such image; give a file, or {TEST}N for a test image of the run's data set."
    require(os.path.isfile(name), field, name, fix)  # unlike pathlib silent about folders one may not read
    try:
        with bombs_are_errors():
            found = decode(name).image
    except UnreadableError as error:
        raise ConfigError(field, name, f"it cannot be read as an image ({error}); give a PNG or JPEG file.") from None
    fix = f"the image has {found.shape[1]}x{found.shape[0]} pixels and the run's {width}x{height}; resize it."
    require(found.shape[:2] == (height, width), field, name, fix)
    return with_channels(found, channels)


def _test_image(name: str, test: np.ndarray, restored: Restored, field: str) -> np.ndarray:
    number = name.removeprefix(TEST)
    fix = f"the data set {restored.options.dataset} has the test images 0 to {len(test) - 1}."
    require(number.isdecimal() and int(number) < len(test), field, name, fix)
    return np.asarray(test[int(number)])


def edited(controls: Controls, codes: jax.Array, usual: Callable[[], jax.Array]) -> jax.Array:
    """``codes (n, d_code)`` with units turned on and off; ``usual()``, ``(d_code,)``, is how active each unit usually is.

    Raises:
      ConfigError: no such unit, or one to be turned on that is never active and has no value.
    """
    d_code = codes.shape[1]
    for unit in controls.off:
        check_unit(unit, d_code, "off")
    for unit, given in controls.on:
        codes = with_unit(codes, unit, value_of(unit, given, d_code, usual, "on"))
    for unit in controls.off:
        codes = with_unit(codes, unit, 0.0)
    return codes


def check_unit(unit: int, d_code: int, name: str) -> None:
    """Raise :class:`saegan_jax.errors.ConfigError` of the option ``name`` for a unit that does not exist."""
    require(0 <= unit < d_code, name, unit, f"the codes have the units 0 to {d_code - 1}.")


def value_of(unit: int, given: float | None, d_code: int, usual: Callable[[], jax.Array], name: str) -> float:
    """How active a unit is to be: as ``given``, or as it usually is.

    Raises:
      ConfigError: no such unit, or one that is never active and has no value.
    """
    check_unit(unit, d_code, name)
    value = float(usual()[unit]) if given is None else given
    fix = f"the unit is never active in codes of the prior, which would say how active; give --{name} UNIT=VALUE."
    require(value > 0 or given is not None, name, unit, fix)
    return value


def draw_controlled(
    controls: Controls, restored: Restored, state: Any, images: Sequence[np.ndarray], *, seed: int, n: int
) -> Drawn:
    """Images of the codes that ``controls`` ask for, from one member; the same seed gives the same noise.

    Args:
      controls: see :class:`Controls`.
      restored: the run.
      state: of the member.
      images: :func:`named_images` of the controls.
      seed: of codes and noise.
      n: images to draw.

    Raises:
      ConfigError: units that do not exist.
    """
    algorithm, key = restored.algorithm, jax.random.fold_in(jax.random.key(seed), 0)
    assert algorithm.encode is not None
    assert algorithm.draw_codes is not None
    code_key, noise_key = jax.random.split(key)
    draw_codes = algorithm.draw_codes
    usual = cache(lambda: typical_activity(draw_codes(state, jax.random.fold_in(key, 2), ASKED)))
    sources = np.stack(images) if images else np.zeros((0, *restored.image_shape), np.float32)
    found = algorithm.encode(state, jnp.asarray(sources)) if len(sources) else None
    if controls.interpolate is not None:
        assert found is not None
        codes = edited(controls, interpolate(found[0], found[1], max(n, 2)), usual)
        drawn = _one_noise(algorithm, state, noise_key, codes)
        shown = np.concatenate([sources[:1], drawn, sources[1:]])
        return Drawn(shown, np.asarray(jnp.concatenate([found[:1], codes, found[1:]])), len(shown))
    if controls.only:
        (d_code,) = jax.eval_shape(lambda: draw_codes(state, key, 1)).shape[1:]
        return _alone(controls, algorithm, state, noise_key, jnp.zeros((n, d_code), jnp.float32), usual)
    if found is None:
        base = algorithm.draw_codes(state, code_key, n)
        changed = edited(controls, base, usual)
        pairs = [np.asarray(algorithm.sample(state, noise_key, n, code=codes)) for codes in (base, changed)]
        return Drawn(np.concatenate(pairs), np.asarray(jnp.concatenate([base, changed])), n)
    wanted = found if controls.mix is None else mix(found[:1], found[1:])
    codes = edited(controls, jnp.broadcast_to(wanted, (n, wanted.shape[1])), usual)
    drawn = np.asarray(algorithm.sample(state, noise_key, n, code=codes))
    shown = np.concatenate([sources, drawn])
    return Drawn(shown, np.asarray(jnp.concatenate([found, codes])), min(len(shown), 16))


def _alone(
    controls: Controls,
    algorithm: Algorithm,
    state: Any,
    key: jax.Array,
    empty: jax.Array,
    usual: Callable[[], jax.Array],
) -> Drawn:
    """For each unit a row of images, of the codes ``empty (n, d_code)`` with that unit on; all rows have the same noise."""
    n, d_code = empty.shape
    values = {unit: value_of(unit, given, d_code, usual, "only") for unit, given in controls.only}
    codes = [with_unit(empty, unit, value) for unit, value in values.items()]
    rows = [np.asarray(algorithm.sample(state, key, n, code=code)) for code in codes]
    return Drawn(np.concatenate(rows), np.asarray(jnp.concatenate(codes)), n)


def _one_noise(algorithm: Algorithm, state: Any, key: jax.Array, codes: jax.Array) -> np.ndarray:
    """Images of ``codes`` that share their noise: only the code changes from one to the next."""
    return np.asarray(jax.vmap(lambda code: algorithm.sample(state, key, 1, code=code[None])[0])(codes))
