"""How much memory there is, and what of it a program or the training images may take."""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax

from saegan_jax.errors import ConfigError, require
from saegan_jax.training.sharding import DATA, MODEL, SEED

PROGRAM_SHARE = 0.7  # of the device's memory that a program may take; the rest is for pictures, scores and saving
DATA_SHARE = 0.25  # of the device's memory, and of the host's, that training images may take before they are streamed


def host_memory() -> int:
    """Bytes of the host."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def device_memory() -> int:
    """Bytes of the device, or of the host where that is the device."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit or host_memory()


def data_budget() -> int:
    """Bytes of training images up to which they go to the device: a quarter of its memory, and of the host's."""
    return int(DATA_SHARE * min(device_memory(), host_memory()))


def fits(program: Any) -> bool:
    """Whether the arguments and temporaries of a compiled program take at most seven tenths of the device's memory."""
    return program_bytes(program) <= PROGRAM_SHARE * device_memory()


def program_bytes(program: Any) -> int:
    """Bytes of the arguments and temporaries of a compiled program; 0 where the compiler does not say."""
    size = program.memory_analysis()
    return int(size.temp_size_in_bytes + size.argument_size_in_bytes) if size else 0


def gibibytes(n: float) -> str:
    """Bytes as text."""
    return f"{n / 2**30:,.1f} GiB"


def check_members(
    name: str, state: Any, *, batch: int = 0, n_seeds: int = 1, shares: Mapping[str, int] = MappingProxyType({})
) -> None:
    """Refuse members whose states, with the gradients and batch of one of them, are larger than the device's memory.

    What a step needs at least: the state of every member, and for the one that is trained a gradient for every parameter, and
    its batch; others may wait for their turn. Activations come on top, and are checked once the program is compiled, see
    :func:`check_program`.

    Args:
      name: of the settings, for the message.
      state: of one member, arrays or shapes; where it has ``params``, they have gradients.
      batch: bytes of one member's batch.
      n_seeds: members.
      shares: devices along each axis of a mesh: they share members, batches and, at best, all units.

    Raises:
      ConfigError: they are larger.
    """
    model, together = shares.get(MODEL, 1), shares.get(SEED, 1)
    one, gradients = _bytes(state) // model, _bytes(getattr(state, "params", ())) // model
    working = gradients + batch // shares.get(DATA, 1)
    has, needs = device_memory(), one + working
    sizes = f"state, gradients and batch of one seed take {gibibytes(needs)}, and the device has {gibibytes(has)}"
    require(needs <= has, name, "these settings", f"{sizes}; use fewer units or layers, or a smaller batch.")
    most = together * ((has - working) // max(one, 1))
    require(n_seeds <= most, "seeds", n_seeds, f"{sizes}; train at most {most} at once.")


def _bytes(tree: Any) -> int:
    return sum(int(leaf.size * leaf.dtype.itemsize) for leaf in jax.tree.leaves(tree))


def check_program(name: str, program: Any) -> None:
    """Refuse a compiled program whose arguments and temporaries are larger than the device's memory.

    Raises:
      ConfigError: it is larger.
    """
    needs, has = program_bytes(program), device_memory()
    if needs > has:
        fix = (
            f"a step with it takes {gibibytes(needs)} with its activations, and the device has {gibibytes(has)}; use a smaller "
            "batch, or fewer units or layers."
        )
        raise ConfigError(f"{name}.batch_size", "this", fix)
