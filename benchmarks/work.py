"""What is timed: one training step as our loop, our scan and our ensemble, and as the peers that must agree with it."""

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.bounds import cost
from benchmarks.measure import Arm, stopwatch
from saegan_jax.algorithms.base import Algorithm, Batch, Examples
from saegan_jax.images import to_unit_float
from saegan_jax.training.transforms import compile_chunk, ensemble, many_steps

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
        """Steps that the framework is told to take in one go."""

    def flops(self) -> float | None:
        """Operations in matrix products and convolutions of one step, where the framework counts them."""

    def compile_s(self) -> float | None:
        """Seconds that compiling took, where it is known apart from the first step."""

    def peak_bytes(self) -> int | None:
        """Memory that training takes: what XLA plans, or by how much the process grew since before the peer was built."""

    def close(self) -> None:
        """Give back what the peer holds; it is not used afterwards."""


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
    floor: float = 1e-3  # share of its network's gradient below which a tensor's own is measured against that
    least: float = 1e-2  # size below which a scalar is measured against this


FLOAT32 = Tolerances()
# One leaky ReLU on the other side changes the gradient of its channel: by 4e-4 of that of the first layer at 64x64, where
# float64 showed one such unit on either side. With one gradient in a thousand of random sign, an update is 0.06 off.
FLOAT32_KINKS = Tolerances(later_scalar=2e-2, gradient=2e-3, update=0.15)
# Eight bits of mantissa: each product is off by up to 0.4 %, and small gradients are noise.
BFLOAT16 = Tolerances(scalar=5e-2, later_scalar=0.2, gradient=0.2, later_gradient=0.5, update=0.7, floor=0.1, least=0.5)


class Work(NamedTuple):
    """One thing to time.

    Attributes:
      name: as in the results.
      algorithm, batch_size, image_shape: our side.
      chunk: steps in one scan.
      draws: ``draws(state)``, the random numbers that our next step will draw.
      observe: ``observe(state, info)``, ours in the peer's names and layout.
      peers: ``peers(params, images)`` -> named builders of peers that start from our parameters.
      members: of the ensemble; by default as many as the command says.
      at_once: of these, how many are computed together; by default all.
      tolerances: within which float32 peers must agree.
    """

    name: str
    algorithm: Algorithm
    batch_size: int
    image_shape: tuple[int, int, int]
    chunk: int
    draws: Callable[[Any], tuple[np.ndarray, ...]]
    observe: Callable[[Any, Any], Observation]
    peers: Callable[[Any, np.ndarray], Mapping[str, Callable[[], Peer]]]
    members: int | None = None
    at_once: int | None = None
    tolerances: Tolerances = FLOAT32


class DisagreementError(AssertionError):
    """A peer that does not compute what we compute; timing it would compare different things."""


class UnavailableError(RuntimeError):
    """A work or a peer that cannot be timed here, and why: the run goes on without it."""


# Peers by name; what each needs. The parts of a name before the comma are frameworks.
EAGER, CHANNELS_LAST, COMPILED, BF16 = (
    "PyTorch, eager", "PyTorch, channels last", "PyTorch, compiled", "PyTorch, bf16",
)  # fmt: skip
KERAS_TENSORFLOW, KERAS_JAX, FLAX = "Keras, TensorFlow", "Keras, JAX", "Flax, loop"
PEERS = (EAGER, CHANNELS_LAST, COMPILED, BF16, KERAS_TENSORFLOW, KERAS_JAX, FLAX)
_PACKAGES = {"PyTorch": ("torch",), KERAS_TENSORFLOW: ("keras", "tensorflow"), KERAS_JAX: ("keras",)}


def builders(
    pytorch: Callable[[str], Peer], keras: Callable[[str], Peer], flax: Callable[[], Peer], *, images: bool
) -> dict[str, Callable[[], Peer]]:
    """The peers of a work by name, from what builds one of each framework; nothing of it is imported before.

    Args:
      pytorch: takes the mode.
      keras: takes the backend.
      flax: takes nothing.
      images: whether the memory layout of images plays a role.
    """
    modes = {EAGER: "eager", CHANNELS_LAST: "channels_last", COMPILED: "compile", BF16: "bf16"}
    if not images:
        del modes[CHANNELS_LAST]
    backends = {KERAS_TENSORFLOW: "tensorflow", KERAS_JAX: "jax"}
    return {
        **{name: partial(pytorch, mode) for name, mode in modes.items()},
        **{name: partial(keras, backend) for name, backend in backends.items()},
        FLAX: flax,
    }


def not_installed(peer: str) -> str | None:
    """Why the peer of this name cannot be built here, or None where its packages are installed."""
    needed = _PACKAGES.get(peer, _PACKAGES.get(peer.split(",")[0], ()))
    absent = [package for package in needed if importlib.util.find_spec(package) is None]
    if not absent:
        return None
    return f'{" and ".join(absent)} not installed; pip install "saegan_jax[bench]" to time it beside ours.'


def moments(layout: Callable[[Any], Arrays], adam: Any) -> Arrays:
    """Both moments of optax's Adam in the peer's layout, the second ones under ``"<name> squared"``."""
    return layout(adam.mu) | {f"{name} squared": a for name, a in layout(adam.nu).items()}


def images(n: int, shape: tuple[int, int, int]) -> np.ndarray:
    """``n`` uint8 images of ``shape`` to time on: scikit-learn's digits enlarged and shifted, nothing downloaded."""
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    height, width, channels = shape
    digits = load_digits().images  # (1797, 8, 8), 0 to 16
    large = zoom(digits, (1, height / 8, width / 8), order=1).clip(0, 16) * (255 / 16)
    large = np.repeat(large.astype(np.uint8)[..., None], channels, axis=-1)
    rng = np.random.default_rng(0)
    out = large[rng.integers(len(large), size=n)]
    for rows in range(-2, 3):  # shifted by up to two pixels, a fifth of the images each
        out[rows + 2 :: 5] = np.roll(out[rows + 2 :: 5], (rows, -rows), axis=(1, 2))
    return out


def ours(work: Work, pixels: np.ndarray, *, seeds: int) -> list[Arm]:
    """Our arms: a Python loop over a jitted step, a scan, and ``seeds`` members under vmap (seed-steps) if more than one."""
    data = Examples(jnp.asarray(pixels), jnp.zeros(len(pixels), jnp.int32))
    b, per_epoch = work.batch_size, len(pixels) // work.batch_size
    init = jax.jit(work.algorithm.init)

    def one(state: Any, data: Examples, order: jax.Array) -> tuple[Any, Any]:
        index = jax.lax.dynamic_slice_in_dim(order, state.step % per_epoch * b, b)
        return work.algorithm.step(state, Batch(to_unit_float(data.image[index]), data.label[index]))

    rng = np.random.default_rng(0)
    state, order = init(jax.random.key(0)), jnp.arange(len(pixels), dtype=jnp.int32)
    step = jax.jit(one, donate_argnums=0)
    program, compile_s = stopwatch(lambda: step.lower(state, data, order).compile())
    alone = cost(program)
    flops, moved = (None, None) if alone is None else (alone.flops, alone.bytes)
    taken = 0

    def loop(calls: int) -> None:
        nonlocal state, order, taken
        for _ in range(calls):
            if taken % per_epoch == 0:
                order = jnp.asarray(rng.permutation(len(pixels)).astype(np.int32))
            state, info = program(state, data, order)
            taken += 1
        jax.block_until_ready((state, info))

    def scanned(name: str, chunk: Callable[..., Any], start: Any, members: int) -> Arm:
        jitted = compile_chunk(chunk)
        program, compile_s = stopwatch(lambda: jitted.lower(start, data).compile())  # type: ignore[attr-defined]
        whole = cost(program)

        def run(calls: int) -> None:
            nonlocal start
            for _ in range(calls):
                start, infos = program(start, data)
            jax.block_until_ready((start, infos))

        # Operations and bytes are the single step's for every arm, so that their floors can be compared.
        return Arm(
            name, run, work.chunk * members, flops, compile_s, moved, None if whole is None else whole.peak_bytes
        )

    seeds = work.members or seeds
    chunk = many_steps(work.algorithm.step, length=work.chunk, batch_size=b)
    arms = [
        Arm("ours, loop", loop, 1, flops, compile_s, moved, None if alone is None else alone.peak_bytes),
        scanned("ours, scan", chunk, init(jax.random.key(0)), 1),
    ]
    if seeds > 1:
        members = jax.jit(jax.vmap(work.algorithm.init))(jax.random.split(jax.random.key(0), seeds))
        arms.append(scanned(f"ours, {seeds} seeds", ensemble(chunk, members_per_vmap=work.at_once), members, seeds))
    return arms


AGREEMENT_STEPS = 3


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


def agree(work: Work, peer: Peer, pixels: np.ndarray, name: str) -> Agreement:
    """Take the same steps on both sides, from the same weights, on the same batches and draws, and compare.

    Compared are every scalar after each of three steps (relative to its size or a least one, if that is larger); Adam's moments
    after the first step, which are the gradients and their squares (in norm, per tensor, relative to the tensor's or a set
    share of its network's, whichever is larger); and the change of all parameters, averages and running statistics in
    the first step (in norm, per network).

    Args:
      work: our side.
      peer: as it was built, from the parameters of ``init(key(0))``.
      pixels: uint8 images to take batches from.
      name: of the peer, for the report; the bf16 one has tolerances of its own.

    Raises:
      DisagreementError: naming the quantity, both values and the tolerance.
    """
    state = jax.jit(work.algorithm.init)(jax.random.key(0))
    step = jax.jit(work.algorithm.step)
    tolerances = BFLOAT16 if name == BF16 else work.tolerances
    worst: dict[str, tuple[float, float]] = {}
    absent: set[str] = set()

    def note(quantity: str, error: float, tolerance: float, detail: str) -> None:
        if not error <= tolerance:  # also catches NaN
            raise DisagreementError(
                f"{work.name}, {name}: {quantity} differs by {error:.2g} (relative), more than {tolerance:.0e}: {detail}. "
                "Nothing was timed, because the two sides do not compute the same thing."
            )
        worst[quantity] = max(
            worst.get(quantity, (0.0, tolerance)), (error, tolerance), key=lambda pair: pair[0] / pair[1]
        )

    first_s = 0.0
    for t in range(AGREEMENT_STEPS):
        batch = pixels[(t * work.batch_size + np.arange(work.batch_size)) % len(pixels)]
        draws = work.draws(state)
        label = jnp.zeros(work.batch_size, jnp.int32)
        before = state
        state, info = step(before, Batch(to_unit_float(jnp.asarray(batch)), label))
        took = stopwatch(lambda batch=batch, draws=draws: peer.step(batch, *draws))[1]  # type: ignore[misc]
        mine, theirs = work.observe(state, info), peer.observe()
        if not any(key.endswith("loss") for key in theirs.scalars):
            raise DisagreementError(f"{work.name}, {name}: the peer reports no loss that could be compared.")
        for key, value in mine.scalars.items():
            if key not in theirs.scalars:
                absent.add(key)
                continue
            other = theirs.scalars[key]
            error = abs(value - other) / max(abs(value), tolerances.least)
            note(
                key,
                error,
                tolerances.later_scalar if t else tolerances.scalar,
                f"ours {value:.7g}, theirs {other:.7g} after step {t + 1}",
            )
        if t > 0:
            continue
        first_s, start = took, work.observe(before, info)
        for place, (net, moments) in enumerate(mine.moments.items()):
            tolerance = tolerances.later_gradient if place else tolerances.gradient
            floor = tolerances.floor * _norm(moments.values())
            for key, moment in moments.items():
                size = _norm([moment])
                error = _norm([theirs.moments[net][key] - moment]) / max(size, floor)
                note(f"gradient of {net}", error, tolerance, f"tensor {key!r} of norm {size:.3g}")
        for net, params in mine.params.items():
            if net not in theirs.params and net not in mine.moments:  # averages and statistics
                absent.add(f"update of {net}")
                continue
            change = _norm([params[key] - start.params[net][key] for key in params])
            error = _norm([theirs.params[net][key] - params[key] for key in params]) / max(change, 1e-12)
            note(f"update of {net}", error, tolerances.update, f"our change has norm {change:.3g}")
    rows = [
        {"work": work.name, "arm": name, "quantity": q, "relative_error": e, "tolerance": t}
        for q, (e, t) in worst.items()
    ]
    return Agreement(rows, sorted(absent), first_s)


def _norm(arrays: Any) -> float:
    return float(np.sqrt(sum(np.sum(np.square(a, dtype=np.float64)) for a in arrays)))
