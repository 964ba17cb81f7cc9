"""Checking, before anything is timed, that a peer computes what we compute."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.harness.errors import DisagreementError
from benchmarks.harness.timing import stopwatch

Arrays = dict[str, np.ndarray]


class Observation(NamedTuple):
    """What both sides must agree on after a step: scalars, and arrays in the peer's names and layout.

    Attributes:
      scalars: losses, penalties, logits, l0.
      moments: Adam's moments, after the first step multiples of the gradients and of their squares; by network, in the
        order in which a step updates them.
      params: parameters, by network; averaged weights and running statistics count as networks.

    A peer may leave out scalars but for its losses, and the averaged weights and running statistics.
    """

    scalars: dict[str, float]
    moments: dict[str, Arrays]
    params: dict[str, Arrays]


class Peer(Protocol):
    """The same training in another framework."""

    def step(self, images: np.ndarray, *draws: np.ndarray) -> None:
        """One step on uint8 images ``(batch, height, width, channels)`` and the given random draws."""

    def observe(self) -> Observation:
        """What the last step gave."""

    def run(self, calls: int) -> None:
        """``calls * steps_per_call`` steps on random batches of the data, each epoch in a fresh order; returns when done."""

    @property
    def steps_per_call(self) -> int:
        """Steps that the framework takes in one go."""

    def flops(self) -> float | None:
        """Operations in matrix products and convolutions of one step, where the framework counts them."""

    def compile_s(self) -> float | None:
        """Seconds that compiling took, where it is known apart from the first step."""

    def peak_bytes(self) -> int | None:
        """Memory that training takes: what XLA plans, or by how much the process grew since before the peer was built."""

    def close(self) -> None:
        """Give back what the peer holds; it is not used afterwards."""


class Reference(Protocol):
    """Our side of the check."""

    def draws(self) -> tuple[np.ndarray, ...]:
        """The random numbers that the next step will draw."""

    def step(self, images: np.ndarray) -> None:
        """One step on uint8 images."""

    def observe(self) -> Observation:
        """What the last step gave."""

    def before(self) -> Mapping[str, Arrays]:
        """The parameters before the last step, as :attr:`Observation.params`."""


class Tolerances(NamedTuple):
    """Largest relative errors of :func:`agree`.

    Adam's first steps have the sign of the gradient, at random where the gradient is rounding error, and a leaky ReLU whose
    input is rounding error has a slope of 1 on one side and 0.2 on the other. So what depends on an update agrees less well.
    """

    scalar: float = 1e-4
    later_scalar: float = 1e-3
    gradient: float = 1e-4
    later_gradient: float = 1e-2
    update: float = 5e-2
    floor: float = 1e-3  # share of its network's gradient below which a tensor's error is measured against that share
    least: float = 1e-2  # size below which a scalar is measured against this


FLOAT32 = Tolerances()
# One leaky ReLU on the other side changes the gradient of its channel: by 4e-4 of that of the first layer at 64x64, where
# float64 showed one such unit on either side. With one gradient in a thousand of random sign, an update is 0.06 off.
FLOAT32_KINKS = Tolerances(later_scalar=2e-2, gradient=2e-3, update=0.15)
# Ten bits of mantissa in products, as on GPUs by default; between the other two, and not measured yet.
TENSORFLOAT32 = Tolerances(
    scalar=1e-2, later_scalar=0.1, gradient=5e-2, later_gradient=0.2, update=0.5, floor=2e-2, least=0.1
)
# Eight bits of mantissa: each product is off by up to 0.4 %, and small gradients are noise.
BFLOAT16 = Tolerances(scalar=5e-2, later_scalar=0.2, gradient=0.2, later_gradient=0.5, update=0.7, floor=0.1, least=0.5)


def moments(layout: Callable[[Any], Arrays], adam: Any) -> Arrays:
    """Both moments of optax's Adam in the peer's layout, the second ones under ``"<name> squared"``."""
    return layout(adam.mu) | {f"{name} squared": a for name, a in layout(adam.nu).items()}


class Agreement(NamedTuple):
    """What :func:`agree` found.

    Attributes:
      rows: one per quantity, with the largest relative error.
      absent: quantities that the peer does not keep.
      first_s: seconds of the peer's first step.
    """

    rows: list[dict[str, Any]]
    absent: list[str]
    first_s: float


class _Comparison:
    """The largest error of each quantity so far."""

    def __init__(self, work: str, arm: str, tolerances: Tolerances) -> None:
        self.work, self.arm, self.tolerances = work, arm, tolerances
        self.worst: dict[str, tuple[float, float]] = {}
        self.absent: set[str] = set()

    def note(self, quantity: str, error: float, tolerance: float, detail: str) -> None:
        if not error <= tolerance:  # also catches NaN
            raise DisagreementError(
                f"{self.work}, {self.arm}: {quantity} differs by {error:.2g} (relative), more than {tolerance:.0e}: {detail}. "
                "The two sides do not compute the same thing, so they were not timed."
            )
        known = self.worst.get(quantity, (0.0, tolerance))
        self.worst[quantity] = max(known, (error, tolerance), key=lambda pair: pair[0] / pair[1])

    def scalars(self, mine: Observation, theirs: Observation, step: int) -> None:
        """Every scalar, relative to its size or to a least one, if that is larger."""
        if not any(key.endswith("loss") for key in theirs.scalars):
            raise DisagreementError(f"{self.work}, {self.arm}: the peer reports no loss that could be compared.")
        tolerance = self.tolerances.scalar if step == 1 else self.tolerances.later_scalar
        self.absent |= mine.scalars.keys() - theirs.scalars.keys()
        for key in (key for key in mine.scalars if key in theirs.scalars):
            value, other = mine.scalars[key], theirs.scalars[key]
            error = abs(value - other) / max(abs(value), self.tolerances.least)
            self.note(key, error, tolerance, f"ours {value:.7g}, theirs {other:.7g} after step {step}")

    def gradients(self, mine: Observation, theirs: Observation) -> None:
        """Adam's moments in norm, per tensor, relative to the tensor's or a set share of its network's, if that is larger."""
        for place, (net, ours) in enumerate(mine.moments.items()):
            tolerance = self.tolerances.later_gradient if place else self.tolerances.gradient
            floor = self.tolerances.floor * _norm(ours.values())
            for key, moment in ours.items():
                size = _norm([moment])
                error = _norm([theirs.moments[net][key] - moment]) / max(size, floor)
                self.note(f"gradient of {net}", error, tolerance, f"tensor {key!r} of norm {size:.3g}")

    def updates(self, start: Mapping[str, Arrays], mine: Observation, theirs: Observation) -> None:
        """The change of all parameters, averages and running statistics in norm, per network."""
        for net, params in mine.params.items():
            if net not in theirs.params and net not in mine.moments:  # averages and statistics
                self.absent.add(f"update of {net}")
                continue
            change = _norm([params[key] - start[net][key] for key in params])
            error = _norm([theirs.params[net][key] - params[key] for key in params]) / max(change, 1e-12)
            self.note(f"update of {net}", error, self.tolerances.update, f"our change has norm {change:.3g}")

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"work": self.work, "arm": self.arm, "quantity": quantity, "relative_error": error, "tolerance": tolerance}
            for quantity, (error, tolerance) in self.worst.items()
        ]


def _norm(arrays: Iterable[np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(np.square(a, dtype=np.float64)) for a in arrays)))


def agree(
    ours: Reference, peer: Peer, batches: Iterable[np.ndarray], *, work: str, arm: str, tolerances: Tolerances = FLOAT32
) -> Agreement:
    """Take the same steps on both sides, from the same weights, on the same batches and draws, and compare.

    Compared are every scalar after each step; after the first step Adam's moments, which are then the gradients and their
    squares, and the changes of parameters, averages and running statistics.

    Args:
      ours: our side, at its first step.
      peer: as it was built, from our parameters.
      batches: uint8 images, one batch a step.
      work, arm: names for the report.
      tolerances: within which they must agree.

    Raises:
      DisagreementError: naming the quantity, both values and the tolerance.
    """
    comparison, first_s = _Comparison(work, arm, tolerances), 0.0
    for step, batch in enumerate(batches, start=1):
        draws = ours.draws()
        ours.step(batch)
        took = stopwatch(partial(peer.step, batch, *draws))[1]
        mine, theirs = ours.observe(), peer.observe()
        comparison.scalars(mine, theirs, step)
        if step == 1:
            first_s = took
            comparison.gradients(mine, theirs)
            comparison.updates(ours.before(), mine, theirs)
    return Agreement(comparison.rows(), sorted(comparison.absent), first_s)
