"""Training steps compiled for TPUs that are not there: whether they fit, and what the compiler expects of them."""

import math
import os
import re
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from saegan_jax.algorithms.registry import system_of
from saegan_jax.errors import ConfigError, require
from saegan_jax.images import any_to_unit_float
from saegan_jax.training.estimate import CHIPS, Estimate, estimate
from saegan_jax.training.sharding import SEED, Placement, placed_shapes, placement, spread_batches, state_shardings
from saegan_jax.training.systems import abstract_system
from saegan_jax.training.transforms import Step

ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""Without these libtpu asks the network for the machine that it is on, and lets one process load it at a time."""
ESTIMATES = "Times are estimates of the compiler's cost model, not timings."


class Forecast(NamedTuple):
    """A step on every chip of a mesh, as it was compiled.

    Attributes:
      chip: the kind of TPU, of :data:`CHIPS`.
      n_chips: of the mesh.
      too_large: why it does not fit, as the compiler says it; empty where it does. What follows is 0 then.
      arguments, temporaries: bytes a chip.
      flops: operations of a chip, loop bodies once.
      estimate: of the compiler.
    """

    chip: str
    n_chips: int
    too_large: str = ""
    arguments: int = 0
    temporaries: int = 0
    flops: float = 0.0
    estimate: Estimate = Estimate()

    @property
    def ms(self) -> float:
        """Estimated milliseconds a step."""
        return 1e3 * self.estimate.cycles / CHIPS[self.chip].clock

    @property
    def share(self) -> float:
        """Of the chips' peak: operations over those that they could do in the estimated time."""
        most = self.estimate.cycles * CHIPS[self.chip].flops_per_cycle
        return self.flops / most if most else 0.0

    @property
    def caveats(self) -> tuple[str, ...]:
        """What the estimated time leaves out."""
        bodies = [1e3 * cycles / CHIPS[self.chip].clock for cycles in self.estimate.open_loops]
        loops = (f"a loop of unknown length is counted once, {ms:.2g} ms" for ms in bodies)
        return (*loops, *(f"{name} is not counted" for name in sorted(self.estimate.missing)))


def stay_on_host() -> None:
    """Keep JAX from opening an accelerator in this process, where it has opened none: plans need no device."""
    jax.config.update("jax_platforms", "cpu")


def topology(field: str, name: str) -> list[Any]:
    """The devices of a slice of TPUs, such as ``v5e:2x4``, that need not be there.

    Args:
      field: the option that names it, for messages.
      name: a kind of :data:`CHIPS`, a colon and the numbers of chips along each side.

    Raises:
      ConfigError: another kind; sides that there are not; libtpu is not installed.
    """
    fix = f"begin it with a kind of TPU, one of {', '.join(CHIPS)}, as in v5e:2x4."
    require(name.partition(":")[0] in CHIPS, field, name, fix)
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    try:
        version("libtpu")
        return list(topologies.get_topology_desc(name, platform="tpu").devices)
    except PackageNotFoundError as error:
        fix = 'the compiler for TPUs is missing; install it with pip install "saegan_jax[aot]".'
        raise ConfigError(field, name, fix) from error
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        fix = f"there is no such slice ({str(error).splitlines()[0]}); v5e:2x4 and v5p:2x2x1 are some."
        raise ConfigError(field, name, fix) from error


def compiler_versions() -> dict[str, str]:
    """Of the packages that an estimate depends on."""
    return {name: version(name) for name in ("jax", "jaxlib", "libtpu")}


def forecast(step: Step, state: Any, batch: Any, *, chip: str, placed: Placement, n_seeds: int = 1) -> Forecast:
    """Compile one step for the devices of a mesh, and read what the compiler says of it.

    Args:
      step: ``step(state, batch) -> (state, info)``, of one member.
      state: shapes, stacked where there are several members.
      batch: shapes of one member's batch.
      chip: the kind of TPU.
      placed: where state and batches lie, on the devices of :func:`topology`.
      n_seeds: members in the state.
    """
    mesh, spec = placed.mesh, placed.batch_spec
    step = spread_batches(placed, step)
    if n_seeds > 1:
        axis = SEED if SEED in mesh.shape else None
        step = jax.vmap(step, spmd_axis_name=axis)
        spec = PartitionSpec(axis, *spec)
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((n_seeds, *x.shape), x.dtype), batch)
    sharding = NamedSharding(mesh, spec)
    given = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), batch)
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(state_shardings(placed), None))
    try:
        with warnings.catch_warnings():
            # Such programs are written to JAX's cache, and cannot be read from it.
            warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry", UserWarning)
            compiled = jitted.lower(placed_shapes(placed, state), given).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Forecast(chip, mesh.size, too_large=_shortage(str(error)))
    memory: Any = compiled.memory_analysis()
    costs: Any = compiled.cost_analysis()
    text: Any = compiled.as_text()
    return Forecast(
        chip,
        mesh.size,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        flops=costs["flops"],
        estimate=estimate(text, n_chips=mesh.size),
    )


def forecast_system(
    settings: Any,
    *,
    image_shape: tuple[int, int, int],
    batch_size: int,
    chip: str,
    mesh: Mesh,
    n_seeds: int = 1,
    n_classes: int = 0,
) -> Forecast:
    """:func:`forecast` of a step of a system in the registry, on images as a training has them: rows of bytes.

    As an argument of a program an image of few channels would have a layout that is slow to read.

    Args:
      settings: of the system.
      image_shape: ``(height, width, channels)``.
      batch_size: examples of one member's step.
      chip, mesh: see :func:`topology`, :func:`saegan_jax.training.sharding.open_mesh`.
      n_seeds: members.
      n_classes: of the data.

    Raises:
      ConfigError: an image size that the networks cannot make, or a mesh that cannot share the state.
    """
    algorithm, state = abstract_system(settings, image_shape=image_shape, n_seeds=n_seeds, n_classes=n_classes)
    batch = system_of(settings).batch_shapes(batch_size, image_shape)
    placed = placement(mesh, state, n_seeds=n_seeds)

    def step(state: Any, stored: Any) -> tuple[Any, Any]:
        images = jax.tree.map(lambda x, as_read: _image(x).reshape(as_read.shape), stored, batch)
        return algorithm.step(state, images)

    return forecast(step, state, jax.tree.map(_stored, batch), chip=chip, placed=placed, n_seeds=n_seeds)


def _stored(x: Any) -> Any:
    """Shape of a batch's images, ``(batch, height, width, channels)``, as bytes; labels as they are."""
    return x if x.ndim == 1 else jax.ShapeDtypeStruct((x.shape[0], math.prod(x.shape[1:])), jnp.uint8)


def _image(x: jax.Array) -> jax.Array:
    return any_to_unit_float(x) if x.dtype == jnp.uint8 else x


def _shortage(message: str) -> str:
    """What the compiler says is used and what there is."""
    used = re.search(r"[Uu]sed ([0-9.]+[KMGT]?) of ([0-9.]+[KMGT]?) hbm", message)
    used = used or re.search(r"\(([0-9.]+[KMGT]?)\) exceeds available HBM \(([0-9.]+[KMGT]?)\)", message)
    return f"{used[1]} of {used[2]} hbm" if used else message.splitlines()[0]
