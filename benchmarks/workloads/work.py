"""One thing to time of ours: a training step as a loop, a scan and an ensemble, and as our side of the check of peers."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness.agreement import FLOAT32, Arrays, Observation, Tolerances
from benchmarks.harness.program.cost import Cost, cost
from benchmarks.harness.timing import Arm, stopwatch
from benchmarks.workloads.package import Algorithm, Batch, Examples, to_unit_float
from benchmarks.workloads.scan import Scanned, examples

Shape = tuple[int, int, int]


class Work(NamedTuple):
    """One thing to time.

    Attributes:
      name: as in the results.
      kind: of the algorithm; every module of peers has a builder for each kind.
      config: the algorithm's.
      algorithm, batch_size, image_shape: our side.
      chunk: steps in one scan.
      draws: ``draws(config, state)``, the random numbers that our next step will draw.
      observe: ``observe(config, image_shape, state, info)``, ours in the peer's names and layout.
      trees: ``trees(params)``, what peers start from: one tree of parameters a network.
      convolutional: whether the memory layout of images plays a role.
      peers: whether peers are timed beside it.
      members: of the ensemble; by default as many as the command says.
      members_per_vmap: of these, how many are computed together; by default all.
      tolerances: within which float32 peers must agree.
    """

    name: str
    kind: str
    config: Any
    algorithm: Algorithm
    batch_size: int
    image_shape: Shape
    chunk: int
    draws: Callable[[Any, Any], tuple[np.ndarray, ...]]
    observe: Callable[[Any, Shape, Any, Any], Observation]
    trees: Callable[[Any], tuple[Any, ...]]
    convolutional: bool = False
    peers: bool = True
    members: int | None = None
    members_per_vmap: int | None = None
    tolerances: Tolerances = FLOAT32


def start(work: Work) -> Any:
    """The state that both sides start from."""
    return jax.jit(work.algorithm.init)(jax.random.key(0))


class Reference:
    """Our side of :func:`benchmarks.harness.agreement.agree`."""

    def __init__(self, work: Work) -> None:
        self.work, self.state = work, start(work)
        self._step = jax.jit(work.algorithm.step)
        self._before: Any = None
        self._info: Any = None

    def draws(self) -> tuple[np.ndarray, ...]:
        """The random numbers that the next step will draw."""
        return self.work.draws(self.work.config, self.state)

    def step(self, images: np.ndarray) -> None:
        """One step on uint8 images."""
        self._before = self.state
        batch = Batch(to_unit_float(jnp.asarray(images)), jnp.zeros(len(images), jnp.int32))
        self.state, self._info = self._step(self.state, batch)

    def _observed(self, state: Any) -> Observation:
        return self.work.observe(self.work.config, self.work.image_shape, state, self._info)

    def observe(self) -> Observation:
        """What the last step gave."""
        return self._observed(self.state)

    def before(self) -> dict[str, Arrays]:
        """The parameters before the last step."""
        return self._observed(self._before).params


class _Loop:
    """A Python loop over one compiled step on data that lie on the device, each epoch in a fresh order."""

    def __init__(self, work: Work, data: Examples) -> None:
        self.data, self.n = data, len(data.label)
        self.per_epoch = self.n // work.batch_size
        self.state, self.order = start(work), jnp.arange(self.n, dtype=jnp.int32)
        self.rng, self.taken = np.random.default_rng(0), 0
        batch_size, per_epoch = work.batch_size, self.per_epoch

        def one(state: Any, data: Examples, order: jax.Array) -> tuple[Any, Any]:
            index = jax.lax.dynamic_slice_in_dim(order, state.step % per_epoch * batch_size, batch_size)
            return work.algorithm.step(state, Batch(to_unit_float(data.image[index]), data.label[index]))

        step = jax.jit(one, donate_argnums=0)
        self.compiled, self.compile_s = stopwatch(lambda: step.lower(self.state, data, self.order).compile())

    def run(self, calls: int) -> None:
        for _ in range(calls):
            if self.taken % self.per_epoch == 0:
                self.order = jnp.asarray(self.rng.permutation(self.n).astype(np.int32))
            self.state, info = self.compiled(self.state, self.data, self.order)
            self.taken += 1
        jax.block_until_ready((self.state, info))


def ours(work: Work, pixels: np.ndarray, *, seeds: int) -> list[Arm]:
    """Our arms: a Python loop over a jitted step, a scan, and ``seeds`` members under vmap (seed-steps) if more than one."""
    data = examples(pixels)
    loop = _Loop(work, data)
    step = cost(loop.compiled)
    chunk = partial(Scanned, work.algorithm, data.image, batch_size=work.batch_size, steps=work.chunk)
    arms = [_arm("ours, loop", loop, step, steps=1), _arm("ours, scan", chunk(), step, steps=work.chunk)]
    members = work.members or seeds
    if members > 1:
        together = chunk(members=members, members_per_vmap=work.members_per_vmap)
        arms.append(_arm(f"ours, {members} seeds", together, step, steps=work.chunk, members=members))
    return arms


def _arm(name: str, program: _Loop | Scanned, step: Cost | None, *, steps: int, members: int = 1) -> Arm:
    """An arm of ours. Operations and bytes are the single step's for every arm, so that their floors can be compared."""
    flops, moved = (None, None) if step is None else (step.flops, step.bytes)
    whole = cost(program.compiled)
    peak = None if whole is None else whole.peak_bytes
    seconds = program.compile_s
    return Arm(name, program.run, steps * members, flops, seconds, moved, peak, role="ours", members=members)
