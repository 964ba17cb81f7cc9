"""Generators as files: safetensors for what samples are drawn with, and JSON for the settings, no pickle.

Of a state only those arrays are written that ``sample``, ``encode`` and ``draw_codes`` read: the averaged weights, the encoder
and prior of codes, the counts of classes; neither discriminator nor optimiser. The traced functions say which they are.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.registry import SYSTEMS, System, system_of
from saegan_jax.errors import ConfigError, require
from saegan_jax.files import write_bytes, write_json
from saegan_jax.training.run_folder import from_json, to_json
from saegan_jax.training.systems import abstract_system, draw

GENERATOR_WEIGHTS, GENERATOR_CONFIG = "generator.safetensors", "generator.json"
FORMAT = 1
ImageShape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A generator read from files.

    Attributes:
      settings: of the system that it was trained in.
      image_shape: ``(height, width, channels)``.
      n_classes: of its training data.
      algorithm: the system's pure functions.
      shapes: of a whole state of the system.
      arrays: those parts of the state that samples depend on, by name.
    """

    settings: Any
    image_shape: ImageShape
    n_classes: int
    algorithm: Algorithm
    shapes: Any
    arrays: dict[str, jax.Array]

    def sample(
        self, key: jax.Array, n: int, *, label: jax.Array | None = None, code: jax.Array | None = None
    ) -> jax.Array:
        """``n`` images in [0, 1], ``(n, height, width, channels)``; see :class:`saegan_jax.algorithms.base.Algorithm`.

        Args:
          key: of latents and labels.
          n: static.
          label: ``(n,)`` int32, of conditional systems.
          code: ``(n, d_code)``, of generators that read codes.

        Raises:
          ConfigError: a label or a code for a generator that reads none.
        """
        given = {name: value for name, value in (("label", label), ("code", code)) if value is not None}
        fix = "this generator reads no codes; leave code out."
        require(code is None or self.algorithm.encode is not None, "code", "given", fix)
        gan = getattr(self.settings, "gan", self.settings)
        fix = "this generator knows no classes; leave label out."
        require(label is None or getattr(gan, "conditional", False), "label", "given", fix)
        return self._compiled.sample(self.arrays, key, n, **given)

    def draw(self, *, n: int, seed: int = 0) -> np.ndarray:
        """The images that ``saegan sample --n N --seed SEED`` draws of the run, before they are rounded to bytes.

        Returns:
          ``(n, height, width, channels)`` float32 in [0, 1], on the host.
        """
        return draw(self._compiled, self.arrays, seed=seed, n=n, n_seeds=1)[0]

    def encode(self, images: jax.Array) -> jax.Array:
        """Codes ``(n, d_code)`` of images ``(n, height, width, channels)`` float32 in [0, 1], as ``sample`` takes them.

        Raises:
          ConfigError: a generator that reads no codes.
        """
        return self._of_codes("encode")(self.arrays, images)

    def draw_codes(self, key: jax.Array, n: int) -> jax.Array:
        """``n`` codes from the prior, ``(n, d_code)``.

        Raises:
          ConfigError: a generator that reads no codes.
        """
        return self._of_codes("draw_codes")(self.arrays, key, n)

    def _of_codes(self, name: str) -> Callable[..., jax.Array]:
        found = getattr(self._compiled, name)
        require(found is not None, name, "called", "this generator reads no codes; only sample it.")
        return found

    @cached_property
    def _compiled(self) -> Algorithm:
        """The algorithm with functions of ``arrays`` in place of the state, each compiled once for every size."""

        def of_arrays(function: Callable[..., jax.Array] | None, *static: int) -> Any:
            if function is None:
                return None
            bound = lambda arrays, *rest, **given: function(rebuilt(self.shapes, arrays), *rest, **given)  # noqa: E731
            return jax.jit(bound, static_argnums=static)

        known = self.algorithm
        return known._replace(
            sample=of_arrays(known.sample, 2),
            encode=of_arrays(known.encode),
            draw_codes=of_arrays(known.draw_codes, 2),
        )


def named_leaves(state: Any) -> dict[str, Any]:
    """Every leaf of a state by its path, such as ``ema/params/Dense_0/kernel``."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def names_read(algorithm: Algorithm, shapes: Any, image_shape: ImageShape) -> list[str]:
    """Names of the leaves of a state that its samples depend on; nothing is computed.

    Args:
      algorithm: with ``sample``, and maybe ``encode`` and ``draw_codes``.
      shapes: of the state of one member.
      image_shape: ``(height, width, channels)``.
    """
    names, structure = list(named_leaves(shapes)), jax.tree.structure(shapes)

    def everything(leaves: list[Any], key: jax.Array, images: jax.Array) -> list[jax.Array]:
        state = jax.tree.unflatten(structure, leaves)
        found = [algorithm.sample(state, key, 1)]
        if algorithm.encode is not None and algorithm.draw_codes is not None:
            found += [algorithm.encode(state, images), algorithm.draw_codes(state, key, 1)]
            found.append(algorithm.sample(state, key, 1, code=found[-1]))
        return found

    key = jax.eval_shape(lambda: jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    traced = jax.make_jaxpr(everything)(jax.tree.leaves(shapes), key, image).jaxpr
    read = {id(variable) for equation in traced.eqns for variable in equation.invars}
    read |= {id(variable) for variable in traced.outvars}
    return [name for name, variable in zip(names, traced.invars[: len(names)], strict=True) if id(variable) in read]


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a PRNG key, which no file format has."""
    return bool(jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def rebuilt(shapes: Any, arrays: dict[str, jax.Array]) -> Any:
    """A state with ``arrays``, and zeros where nothing reads it; under ``jit`` these cost nothing."""

    def leaf(name: str, like: Any) -> jax.Array:
        if name in arrays:
            return jax.random.wrap_key_data(arrays[name]) if is_key(like) else arrays[name]
        return jnp.broadcast_to(jax.random.key(0), like.shape) if is_key(like) else jnp.zeros(like.shape, like.dtype)

    leaves = [leaf(name, like) for name, like in named_leaves(shapes).items()]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def export_generator(
    folder: str | Path,
    settings: Any,
    state: Any,
    *,
    image_shape: ImageShape,
    n_classes: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write ``generator.safetensors`` and ``generator.json``; the latter last, so that a folder that has it is complete.

    Args:
      folder: made if it does not exist.
      settings: of a system of :data:`saegan_jax.algorithms.registry.SYSTEMS` that draws samples.
      state: of one member.
      image_shape: ``(height, width, channels)``.
      n_classes: of its training data.
      overwrite: replace an earlier export.

    Returns:
      The folder.

    Raises:
      ConfigError: an export is there and ``overwrite`` is not set, or an array is not finite. Nothing is written then.
    """
    folder = Path(folder)
    existing = [name for name in (GENERATOR_CONFIG, GENERATOR_WEIGHTS) if (folder / name).exists()]
    fix = f"it has {' and '.join(existing)} already; choose another folder, or overwrite."
    require(overwrite or not existing, "folder", str(folder), fix)
    algorithm, shapes = abstract_system(settings, image_shape=image_shape, n_seeds=1, n_classes=n_classes)
    leaves = named_leaves(state)
    arrays = {}
    for name in names_read(algorithm, shapes, image_shape):
        leaf = leaves[name]
        arrays[name] = np.ascontiguousarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        finite = not jnp.issubdtype(arrays[name].dtype, jnp.inexact) or bool(np.isfinite(arrays[name]).all())
        require(finite, "state", name, "it is not finite: the training failed; export another member or step.")
    (system,) = (name for name, known in SYSTEMS.items() if known is system_of(settings))
    config = {
        "format": FORMAT, "system": system, "settings": to_json(settings), "image_shape": list(image_shape),
        "n_classes": n_classes,
    }  # fmt: skip
    (folder / GENERATOR_CONFIG).unlink(missing_ok=True)
    write_bytes(folder / GENERATOR_WEIGHTS, save(arrays))
    write_json(folder / GENERATOR_CONFIG, config)
    return folder


def import_generator(folder: str | Path) -> Generator:
    """Read what :func:`export_generator` wrote.

    Raises:
      ConfigError: a file is missing or damaged, of another format or a system that this version does not know, or its arrays
        are not those that the settings call for.
    """
    folder = Path(folder)
    system, config = _read_config(folder)
    try:
        settings: Any = from_json(system.config, config["settings"])
        height, width, channels = config["image_shape"]
        shape, n_classes = (height, width, channels), int(config["n_classes"])
    except (KeyError, TypeError, ValueError) as error:
        fix = f"its {GENERATOR_CONFIG} does not describe a generator that this version reads ({error})."
        raise ConfigError("folder", str(folder), fix) from None
    algorithm, shapes = abstract_system(settings, image_shape=shape, n_seeds=1, n_classes=n_classes)
    try:
        arrays = load((folder / GENERATOR_WEIGHTS).read_bytes())
    except (OSError, SafetensorError) as error:
        fix = f"its {GENERATOR_WEIGHTS} is missing or damaged ({error}); export or copy it again."
        raise ConfigError("folder", str(folder), fix) from None
    _check_arrays(folder, arrays, names_read(algorithm, shapes, shape), named_leaves(shapes))
    on_device = {name: jnp.asarray(array) for name, array in arrays.items()}
    return Generator(
        settings=settings, image_shape=shape, n_classes=n_classes, algorithm=algorithm, shapes=shapes, arrays=on_device
    )


def _read_config(folder: Path) -> tuple[System, dict[str, Any]]:
    """The system and the content of a folder's ``generator.json``."""
    try:
        config = json.loads((folder / GENERATOR_CONFIG).read_text())
        found, name = config["format"], config["system"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = f"its {GENERATOR_CONFIG} is missing or damaged ({type(error).__name__}: {error})."
        raise ConfigError("folder", str(folder), fix) from None
    fix = f"its {GENERATOR_CONFIG} is of format {found}, and this version reads {FORMAT}."
    require(found == FORMAT, "folder", str(folder), fix)
    require(name in SYSTEMS, "folder", str(folder), f"it is of a system {name!r}, which this version does not know.")
    return SYSTEMS[name], config


def _check_arrays(folder: Path, arrays: dict[str, np.ndarray], names: list[str], likes: dict[str, Any]) -> None:
    """Refuse arrays that are not those that samples depend on, all differences in one message."""
    problems = [f"{name} is missing" for name in names if name not in arrays]
    problems += [f"{name} is unexpected" for name in arrays if name not in names]
    for name in set(names) & arrays.keys():
        if not is_key(likes[name]) and (arrays[name].shape, arrays[name].dtype) != (
            likes[name].shape,
            likes[name].dtype,
        ):
            have, want = f"{arrays[name].dtype}{arrays[name].shape}", f"{likes[name].dtype}{likes[name].shape}"
            problems.append(f"{name} is {have}, expected {want}")
    shown = "; ".join(sorted(problems)[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
    require(not problems, "folder", str(folder), f"its {GENERATOR_WEIGHTS} does not fit its settings: {shown}.")
