"""Functions on a batch that is spread over devices: under ``vmap`` or ``shard_map`` with a named axis, or on a mesh.

Under ``jax.shard_map`` the type of an array says over which axes its values may differ from device to device: it is *varying*
over them. Differentiating in an array that is not varying adds up the gradients of all devices, where in a varying one each
device gets its gradient. On a mesh with explicit axes the type of an array says how it is sharded, and operations whose
result could be sharded in several ways are refused. The functions here keep both out of all others.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import jax
from jax import Array, lax
from jax.sharding import AxisType, PartitionSpec

AxisName = str | tuple[str, ...]
Tree = TypeVar("Tree")
Result = TypeVar("Result")


def mean_over_devices(tree: Tree, axis_name: AxisName | None) -> Tree:
    """The mean over mapped axes; without one, ``tree`` itself."""
    return tree if axis_name is None else lax.pmean(tree, axis_name)


def gathered(x: Array, axis_name: AxisName | None) -> Array:
    """Shares of the first axis joined in the order of the mapped axes, the same on every device: ``(n * x.shape[0], ...)``."""
    if axis_name is None:
        return x
    return lax.all_gather(x, axis_name, tiled=True, to="invarying" if _manual(axis_name) else "varying")


def varying(tree: Tree, axis_name: AxisName | None) -> Tree:
    """``tree`` with values that may differ over mapped axes, so that a gradient in it is that of one device.

    The mean of these gradients is that of the mean of the devices' losses, under ``vmap`` as under ``shard_map``.
    """
    if axis_name is None or not _manual(axis_name):
        return tree
    axes = (axis_name,) if isinstance(axis_name, str) else axis_name
    return jax.tree.map(lambda x: _vary(x, frozenset(axes)), tree)


def varying_alike(*arrays: Array) -> tuple[Array, ...]:
    """``arrays``, each varying over every axis over which one of them is.

    A derivative that is given by hand must be varying where its argument is, so that arguments must agree beforehand.
    """
    axes = frozenset[str]().union(*(_axes(x) for x in arrays))
    return tuple(_vary(x, axes) for x in arrays) if axes else arrays


def with_auto_axes(function: Callable[..., Result], *args: Any, spec: Callable[..., Any]) -> Result:
    """``function(*args)``; where an argument lies on a mesh with explicit axes, they are automatic inside.

    Args:
      function: of arrays, or of trees of arrays.
      *args: its arguments.
      spec: ``spec(*args)``, the result's ``PartitionSpec``, one or a tree of them; called where an axis is explicit.
    """
    meshes = (jax.typeof(x).sharding.mesh for x in jax.tree.leaves(args))
    mesh = next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)
    if mesh is None:
        return function(*args)
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.sharding.auto_axes(function, out_sharding=spec(*args))(*args)


def spec_of(tree: Any) -> Any:
    """The ``PartitionSpec`` of every leaf."""
    return jax.tree.map(lambda x: jax.typeof(x).sharding.spec, tree)


def step_on_any_mesh(step: Callable[[Any, Any], tuple[Any, Any]]) -> Callable[[Any, Any], tuple[Any, Any]]:
    """A training step that takes a batch on a mesh with explicit axes, too.

    Args:
      step: ``step(state, batch) -> (state, info)``.

    Returns:
      The same function; the new state is sharded as the old one, the info on every device.
    """

    @wraps(step)
    def on_any_mesh(state: Any, batch: Any) -> tuple[Any, Any]:
        return with_auto_axes(step, state, batch, spec=lambda state, batch: (spec_of(state), PartitionSpec()))

    return on_any_mesh


def _manual(axis_name: AxisName) -> bool:
    """Whether the mapped axes are those of a ``shard_map``."""
    axes = (axis_name,) if isinstance(axis_name, str) else axis_name
    return set(axes) <= set(jax.sharding.get_abstract_mesh().manual_axes)


def _axes(x: Array) -> frozenset[str]:
    return jax.typeof(x).manual_axis_type.varying


def _vary(x: Array, axes: frozenset[str]) -> Array:
    missing = tuple(sorted(axes - _axes(x)))
    return lax.pcast(x, missing, to="varying") if missing else x
