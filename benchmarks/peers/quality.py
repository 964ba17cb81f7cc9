"""The plain GAN in PyTorch, from our initial weights, as a training that is followed to a quality."""

import contextlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.harness.timing import stopwatch
from benchmarks.peers.checked import built
from benchmarks.peers.registry import COMPILED, EAGER, GRAPHS, PEERS, Record, not_installed
from benchmarks.workloads.work import Work, start

NAMES = (EAGER, COMPILED, GRAPHS)
"""Of the records, in order."""


def not_here(name: str, *, quick: bool) -> str | None:
    """Why the arm of this name is not trained here, or None."""
    if quick and not PEERS[name].quick:
        return "a quick run leaves it out; it compiles for a minute."
    if name == GRAPHS and jax.default_backend() == "cpu":
        return "it is for GPUs."
    return not_installed(name)


def agreed(work: Work, record: Record, images: np.ndarray) -> list[dict[str, Any]]:
    """Check, before anything is timed, that the peer computes what we compute.

    Returns:
      Rows of :func:`benchmarks.harness.agreement.agree`.

    Raises:
      UnavailableError: it fails where it may.
      DisagreementError: it computes something else.
    """
    with contextlib.ExitStack() as closing:
        return built(work, record, start(work).params, images, closing)[1].rows


class Theirs:
    """A training in PyTorch as :class:`benchmarks.harness.crossing.Trainee`.

    Args:
      work: our side.
      record: of the peer; :func:`agreed` has checked it.
      images: ``(n, height, width, channels)`` uint8.
      seed: of our initial weights, and of PyTorch's noise and order.
    """

    before: Mapping[str, float] = {}

    def __init__(self, work: Work, record: Record, images: np.ndarray, *, seed: int) -> None:
        import torch

        params = jax.jit(work.algorithm.init)(jax.random.key(seed)).params
        torch.manual_seed(seed)
        self._peer: Any = record.build(work, params, images)
        self._seed, self._ahead, self.compile_s = seed, 0, 0.0
        if record.first_step_compiles:
            # The first step, which compiles, counts as compiling; it is among the first steps that are asked for.
            self.compile_s, self._ahead = stopwatch(lambda: self._peer.run(1))[1], 1

    def advance(self, steps: int) -> None:
        """See :class:`benchmarks.harness.crossing.Trainee`."""
        self._peer.run(steps - self._ahead)
        self._ahead = 0

    def sample(self, n: int) -> np.ndarray:
        """See :class:`benchmarks.harness.crossing.Trainee`; of the same noise every time."""
        images: np.ndarray = self._peer.sample(n, seed=self._seed)
        return images

    def close(self) -> None:
        """See :class:`benchmarks.harness.crossing.Trainee`."""
        self._peer.close()
