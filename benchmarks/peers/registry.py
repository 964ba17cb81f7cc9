"""All peers by name: what each needs, how it is built, and what is peculiar about timing it."""

import importlib
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.harness.agreement import Peer
from benchmarks.harness.timing import Arm
from benchmarks.harness.worker import Remote
from benchmarks.workloads.work import Work

Build = Callable[[Work, Any, np.ndarray], Peer]


class Record(NamedTuple):
    """One peer.

    Attributes:
      name: its column in every table; the part before the comma is the framework.
      build: ``build(work, params, images)``, from our parameters; imports the framework.
      packages: that it needs.
      suits: whether it is timed beside a work.
      dtype: that it computes in.
      first_step_compiles: the first step's time counts as compiling.
      may_fail: whether it is left out, with the reason, where building or checking it fails.
      quick: whether quick runs time it.
      turn: its turns last so many times as long as the others'.
    """

    name: str
    build: Build
    packages: tuple[str, ...] = ()
    suits: Callable[[Work], bool] = lambda work: True
    dtype: str = "float32"
    first_step_compiles: bool = False
    may_fail: bool = False
    quick: bool = True
    turn: float = 1.0


ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # On an accelerator, which the parent uses too.
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


def _here(module: str, options: dict[str, Any], work: Work, params: Any, images: np.ndarray) -> Peer:
    """A peer in this process, of a module's ``make(kind, config, trees, images, **options)``."""
    make = importlib.import_module(f"benchmarks.peers.{module}").make
    peer: Peer = make(work.kind, work.config, work.trees(params), images, **options)
    return peer


def _keras(backend: str, work: Work, params: Any, images: np.ndarray) -> Peer:
    """A peer in a process of its own, because Keras's backend is chosen when it is imported."""
    trees = jax.tree.map(np.asarray, work.trees(params))
    arguments = (work.kind, work.config, trees, images, jax.default_backend())
    return Remote("benchmarks.peers.keras:make", arguments, environment={**ENVIRONMENT, "KERAS_BACKEND": backend})


def _pytorch(mode: str) -> Build:
    return partial(_here, "torch", {"mode": mode})


EAGER, CHANNELS_LAST, COMPILED, GRAPHS, BF16 = (
    "PyTorch, eager", "PyTorch, channels last", "PyTorch, compiled", "PyTorch, CUDA graphs", "PyTorch, bf16",
)  # fmt: skip
KERAS_TENSORFLOW, KERAS_JAX, FLAX = "Keras, TensorFlow", "Keras, JAX", "Flax, loop"
TORCH = ("torch",)
PEERS = {
    record.name: record
    for record in (
        Record(EAGER, _pytorch("eager"), TORCH),
        Record(CHANNELS_LAST, _pytorch("channels_last"), TORCH, suits=lambda work: work.convolutional),
        # Compiling needs a C++ compiler and a supported Python.
        Record(COMPILED, _pytorch("compile"), TORCH, first_step_compiles=True, may_fail=True, quick=False),
        # torch.compile's mode "reduce-overhead"; without a GPU there is nothing to capture.
        Record(
            GRAPHS,
            _pytorch("graphs"),
            TORCH,
            suits=lambda work: jax.default_backend() != "cpu",
            first_step_compiles=True,
            may_fail=True,
            quick=False,
        ),
        Record(BF16, _pytorch("bf16"), TORCH, dtype="bfloat16"),
        # Each turn is one `fit`, whose start takes up to a tenth of a second on TensorFlow.
        Record(
            KERAS_TENSORFLOW,
            partial(_keras, "tensorflow"),
            ("keras", "tensorflow"),
            first_step_compiles=True,
            turn=3.0,
        ),
        Record(KERAS_JAX, partial(_keras, "jax"), ("keras",), first_step_compiles=True),
        Record(FLAX, partial(_here, "flax", {})),
    )
}


def not_installed(peer: str) -> str | None:
    """Why the peer of this name cannot be built here, or None where its packages are installed."""
    absent = [package for package in PEERS[peer].packages if importlib.util.find_spec(package) is None]
    if not absent:
        return None
    return f'{" and ".join(absent)} not installed; pip install "saegan_jax[bench]" to time it beside ours.'


def peers_of(work: Work) -> list[Record]:
    """The peers that are timed beside a work where they are installed."""
    return [record for record in PEERS.values() if work.peers and record.suits(work)]


def prepare() -> None:
    """Set up the frameworks that are installed, once and before anything of theirs is built."""
    if not_installed(EAGER) is None:
        importlib.import_module("benchmarks.peers.torch_setup").configure()


def products(shape: tuple[int, int, int]) -> list[Arm]:
    """The matrix product ``(m, k) x (k, n)`` in the frameworks that are installed and compute where JAX does."""
    if not_installed(EAGER) is not None:
        return []
    module = importlib.import_module("benchmarks.peers.torch_setup")
    return [module.product(shape), module.product(shape, bf16=True)] if module.computes_here() else []
