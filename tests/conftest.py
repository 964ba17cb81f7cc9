"""Strict numerics for every test, and programs that compile quickly.

No implicit promotion of dtype or rank; warnings are errors (see pyproject.toml). Most of a test's time would go into
compiling, so the compiler optimises little, and what this process and those it starts have compiled is kept for the
session. ``optimised`` compiles as users do.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_platforms", "cpu")

# Without its fusion emitters XLA compiles a training step of these sizes in a quarter of the time.
QUICK_FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
COMPILED = pytest.StashKey[Path]()


def accepted(flags: str) -> bool:
    """Whether this version of XLA knows the flags: one that does not ends the process."""
    program = [sys.executable, "-c", "import jax; jax.devices()"]
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(program, env=environment, capture_output=True).returncode == 0


def pytest_configure(config: pytest.Config) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    os.environ["MATPLOTLIBRC"] = str(Path(__file__).with_name("matplotlibrc"))
    if worker is None:
        if "XLA_FLAGS" not in os.environ and accepted(QUICK_FLAGS):
            os.environ["XLA_FLAGS"] = QUICK_FLAGS
        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            config.stash[COMPILED] = Path(tempfile.mkdtemp(prefix="saegan-jax-compiled-"))
            os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.stash[COMPILED])
    settings = {
        # One folder a worker: JAX's writes to it are not atomic.
        "jax_compilation_cache_dir": str(Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) / (worker or "")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_disable_most_optimizations": True,
    }
    for name, value in settings.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


def pytest_unconfigure(config: pytest.Config) -> None:
    if COMPILED in config.stash:
        shutil.rmtree(config.stash[COMPILED], ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_are_dropped() -> Iterator[None]:
    """What a file has compiled would stay in memory until the session ends."""
    yield
    jax.clear_caches()


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)
