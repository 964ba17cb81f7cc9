"""How much memory there is, and what of it a program or the training images may take."""

import os
from typing import Any

import jax

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
    size = program.memory_analysis()
    needed = size.temp_size_in_bytes + size.argument_size_in_bytes if size else 0
    return needed <= PROGRAM_SHARE * device_memory()
