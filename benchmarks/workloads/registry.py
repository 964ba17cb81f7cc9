"""All works by name."""

from collections.abc import Callable

from benchmarks.workloads import gan, sae
from benchmarks.workloads.work import Work

WORKS: dict[str, Callable[[], Work]] = {**sae.WORKS, **gan.WORKS}
