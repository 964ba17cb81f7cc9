"""Which device holds what of a training: a mesh, and rules over the names and shapes of a state's leaves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from saegan_jax.algorithms.base import Examples
from saegan_jax.errors import require, require_choice
from saegan_jax.training.transforms import Step

DATA, SEED, MODEL = "data", "seed", "model"
AXES = (DATA, SEED, MODEL)
UNIT_AXIS: Mapping[str, int] = {
    "W_enc": -1, "W_dec": -2, "b_enc": -1, "threshold": -1, "r_mag": -1, "b_mag": -1,
    "mean_activation": -1, "density": -1, "steps_since_active": -1,
}  # fmt: skip
"""By name of a leaf, the axis that counts the units of a dictionary; Adam's moments have the names of their parameters."""


class Placement(NamedTuple):
    """Where state and batch of a training lie.

    Attributes:
      mesh: devices along named axes, all automatic.
      state_spec: a tree like the state, a ``PartitionSpec`` for each leaf.
      batch_spec: of every leaf of a member's batch.
    """

    mesh: Mesh
    state_spec: Any
    batch_spec: PartitionSpec


def open_mesh(
    text: str, *, n_seeds: int, batch_sizes: Mapping[str, int], devices: Sequence[Any] | None = None
) -> Mesh | None:
    """The mesh that a command line asks for: ``none``, ``auto``, or sizes of axes as in ``data=4,model=2``.

    Args:
      text: axes are ``data`` (examples of a batch), ``seed`` (members of an ensemble) and ``model`` (units of a dictionary).
        ``auto`` is all devices: as many as can be along ``seed``, the others along ``data``.
      n_seeds: members of the run.
      batch_sizes: by phase.
      devices: to choose from; by default those of this process.

    Returns:
      The mesh on the first devices; None for ``none``.

    Raises:
      ConfigError: an unknown axis, sizes that are no numbers, more devices than there are, or seeds or batches that the
        devices cannot share equally.
    """
    if text == "none":
        return None
    n_devices = jax.device_count() if devices is None else len(devices)
    sizes = automatic_sizes(n_devices, n_seeds) if text == "auto" else parse_sizes(text)
    needed = math.prod(sizes.values())
    there = "JAX sees" if devices is None else "the slice has"
    fix = f"it takes {needed} devices, and {there} {n_devices}; ask for at most {n_devices}, or auto."
    require(needed <= n_devices, "mesh", text, fix)
    share = sizes.get(SEED, 1)
    fix = f"{n_seeds} seeds cannot be shared equally by seed={share} devices; use a multiple of {share} seeds."
    require(n_seeds % share == 0, "mesh", text, fix)
    share = sizes.get(DATA, 1)
    for phase, size in batch_sizes.items():
        fix = f"a batch of {size} cannot be shared equally by data={share} devices; use a multiple of {share}."
        require(size % share == 0, f"{phase}.batch_size", size, fix)
    types = (AxisType.Auto,) * len(sizes)
    chosen = (jax.devices() if devices is None else devices)[:needed]
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=types, devices=chosen)


def automatic_sizes(n_devices: int, n_seeds: int) -> dict[str, int]:
    """All devices: as many along ``seed`` as divide the seeds, the others along ``data``."""
    seed = math.gcd(n_devices, n_seeds)
    sizes = {DATA: n_devices // seed, SEED: seed}
    return {name: size for name, size in sizes.items() if size > 1} or {DATA: 1}


def parse_sizes(text: str) -> dict[str, int]:
    """``data=4,model=2`` as a dict.

    Raises:
      ConfigError: an unknown axis, one named twice, or a size that is no number above zero.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        fix = "give each axis once with its number of devices, as in data=4,model=2; or auto, or none."
        require("=" in part, "mesh", text, fix)
        require_choice("mesh", name.strip(), AXES)
        require(size.strip().isdecimal() and int(size) > 0 and name.strip() not in sizes, "mesh", text, fix)
        sizes[name.strip()] = int(size)
    return sizes


def placement(mesh: Mesh, shapes: Any, *, n_seeds: int) -> Placement:
    """Members along ``seed``, units of dictionaries along ``model``, examples along ``data``, all else on every device.

    Args:
      mesh: see :func:`open_mesh`.
      shapes: of the state, stacked where there are several members.
      n_seeds: members in it.

    Raises:
      ConfigError: an axis ``model`` where the state has no dictionary, or one whose units cannot be shared equally.
    """
    spec = jax.tree_util.tree_map_with_path(lambda path, leaf: _leaf_spec(mesh, n_seeds > 1, path, leaf), shapes)
    size = mesh.shape.get(MODEL, 1)
    specs = jax.tree.leaves(spec, is_leaf=lambda x: isinstance(x, PartitionSpec))
    fix = "nothing here is a dictionary, whose units could be shared; leave model out."
    require(size == 1 or any(MODEL in one for one in specs), "mesh", f"{MODEL}={size}", fix)
    return Placement(mesh, spec, PartitionSpec(DATA) if DATA in mesh.shape else PartitionSpec())


def _leaf_spec(mesh: Mesh, stacked: bool, path: tuple[Any, ...], leaf: Any) -> PartitionSpec:
    axes: list[str | None] = [None] * len(leaf.shape)
    if stacked and SEED in mesh.shape:
        axes[0] = SEED
    name = jax.tree_util.keystr(path[-1:], simple=True)
    axis, size = UNIT_AXIS.get(name, 0), mesh.shape.get(MODEL, 1)
    if size > 1 and axis and len(axes) - stacked >= -axis:
        units = leaf.shape[axis]
        fix = f"{units} units cannot be shared equally by {MODEL}={size} devices; use a multiple of {size}."
        require(units % size == 0 or name != "W_enc", "d_sae", units, fix)
        axes[axis] = MODEL if units % size == 0 else None
    return PartitionSpec(*axes)


def state_shardings(placed: Placement) -> Any:
    """The sharding of every leaf of the state."""
    is_spec = lambda x: isinstance(x, PartitionSpec)  # noqa: E731
    return jax.tree.map(lambda spec: NamedSharding(placed.mesh, spec), placed.state_spec, is_leaf=is_spec)


def placed_shapes(placed: Placement, shapes: Any) -> Any:
    """Shapes of a state with the shardings of ``placed``, for checkpoints to be restored onto its mesh."""
    return jax.tree.map(
        lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes, state_shardings(placed)
    )


def block_sharding(placed: Placement, *, n_seeds: int) -> NamedSharding:
    """Of batches that stream to the device, ``([members,] steps, batch, ...)``."""
    members = ((SEED if SEED in placed.mesh.shape else None),) if n_seeds > 1 else ()
    return NamedSharding(placed.mesh, PartitionSpec(*members, None, *placed.batch_spec))


def spread_batches(placed: Placement, step: Step) -> Step:
    """``step`` on batches that are spread over the devices; its numbers are those of one device up to rounding."""
    sharding = NamedSharding(placed.mesh, placed.batch_spec)
    return lambda state, batch: step(state, jax.lax.with_sharding_constraint(batch, sharding))


def place_data(placed: Placement, data: Any, *, budget: int) -> Any:
    """The training data on the devices of the mesh, whole on each of them if they take at most ``budget`` bytes.

    Larger :class:`saegan_jax.algorithms.base.Examples` are spread along ``data``: their images are followed by as many of zeros
    as make their number a multiple of the devices, which the order of the data, made from the labels' number, never reaches.
    """
    everywhere = NamedSharding(placed.mesh, PartitionSpec())
    whole = sum(x.nbytes for x in jax.tree.leaves(data)) <= budget
    if whole or not isinstance(data, Examples) or DATA not in placed.mesh.shape:
        return jax.device_put(data, everywhere)
    images = np.asarray(data.image)
    missing = -len(images) % placed.mesh.shape[DATA]
    images = np.pad(images, ((0, missing), *((0, 0),) * (images.ndim - 1)))
    spread = NamedSharding(placed.mesh, PartitionSpec(DATA))
    return Examples(image=jax.device_put(images, spread), label=jax.device_put(data.label, everywhere))
