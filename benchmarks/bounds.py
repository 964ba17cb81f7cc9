"""What a step costs, the least time that takes here, and where the rest goes: ``python -m benchmarks.bounds --help``.

Operations and bytes are counted in the optimised program text that XLA runs, loops as often as they are run, by XLA's own
conventions: a multiply-add is two operations, every other elementwise one is one, integers' too, and exponentials, powers
and roots are none. Bytes are those that instructions read and write, so what stays inside a fusion has none.
"""

import fnmatch
import math
import re
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown

from benchmarks import measure
from benchmarks.measure import Arm, stopwatch
from saegan_jax.algorithms.base import Algorithm, Examples
from saegan_jax.report.results import commit, cores, device, versions, write_result
from saegan_jax.training.transforms import compile_chunk, ensemble, many_steps

RESULTS = Path(__file__).parent / "results"


class Cost(NamedTuple):
    """What a program costs when it is run once.

    Attributes:
      flops: operations, loops counted as often as they are run.
      bytes: bytes that its instructions read and write; from main memory, unless a cache holds them.
      peak_bytes: arguments, results and temporary buffers together.
    """

    flops: float
    bytes: float
    peak_bytes: int


class Machine(NamedTuple):
    """What the device does at best: operations a second in matrix products, bytes a second from and to main memory."""

    flops_per_s: float
    bytes_per_s: float


class Operation(NamedTuple):
    """One instruction that the program runs by itself; what is fused into it is part of it.

    Attributes:
      name: as in a profile.
      kind: dot, convolution, reduce, elementwise, ...; of a fusion, the first of :data:`KINDS` in it.
      runs: how often it is run.
      flops, bytes: of one run.
      source: where in the Python program it comes from.
      shape: of its result.
    """

    name: str
    kind: str
    runs: float
    flops: float
    bytes: float
    source: str
    shape: str


# Reading the program ------------------------------------------------------------------------------------------------

KINDS = (
    "convolution",
    "dot",
    "sort",
    "custom-call",
    "collective",
    "rng",
    "scatter",
    "gather",
    "window",
    "reduce",
    "elementwise",
    "integer",
    "movement",
)
"""Kinds of operations; a fusion is of the first kind that one of its instructions has."""
UNKNOWN_LOOP = "loop of unknown length, its body counted once"
CONTAINERS = frozenset({"while", "conditional", "call", "async-start", "async-update", "async-done"})
_FREE = frozenset({
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "partition-id",
    "replica-id", "domain",
})  # fmt: skip
_TRANSCENDENTAL = frozenset({
    "exponential", "exponential-minus-one", "log", "log-plus-one", "logistic", "power", "sqrt", "rsqrt", "cbrt",
    "tanh", "tan", "sine", "cosine", "erf", "atan2",
})  # fmt: skip
_ELEMENTWISE = frozenset({
    "abs", "add", "and", "ceil", "clamp", "clz", "count-leading-zeros", "compare", "convert", "divide", "floor",
    "is-finite", "maximum", "minimum", "multiply", "negate", "not", "or", "popcnt", "remainder",
    "round-nearest-afz", "round-nearest-even", "select", "shift-left", "shift-right-arithmetic",
    "shift-right-logical", "sign", "subtract", "xor", "stochastic-convert",
})  # fmt: skip
_KIND = {
    **dict.fromkeys(("reduce-window", "select-and-scatter"), "window"),
    **dict.fromkeys(("sort", "topk"), "sort"),
    **dict.fromkeys(("rng", "rng-bit-generator", "rng-get-and-update-state"), "rng"),
    **{name: name for name in ("convolution", "dot", "gather", "scatter", "reduce", "custom-call")},
}
_BITS = {"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128}
_CUDNN = {
    "Forward": (0, 1, None),
    "BackwardInput": (None, 1, 0),
    "BackwardFilter": (0, None, 1),
}  # input, kernel, output
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([0-9,<=]*)\]")
_HEADER = re.compile(r"^(ENTRY\s+)?%?([\w.\-]+)\s*\(.*->.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT\s+)?%?([\w.\-]+) = (.*)$")
_SOURCE = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_TRIPS = re.compile(r'"?known_trip_count"?:\{"?n"?:"?(\d+)')
_CALLED = re.compile(r"\b(calls|to_apply|condition|body|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")


class _Instruction(NamedTuple):
    name: str
    shape: str
    opcode: str
    operands: list[str]
    attributes: str
    root: bool

    def called(self) -> dict[str, str]:
        return dict(_CALLED.findall(self.attributes))


_Computation = dict[str, _Instruction]


def _closing(text: str, start: int) -> int:
    """Position of the parenthesis that closes the one at ``start``."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise ValueError(f"unbalanced parentheses in the program text: {text[:200]}")


def _parse(text: str) -> tuple[dict[str, _Computation], str]:
    """All computations by name, and the entry's name."""
    computations: dict[str, _Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (match := _INSTRUCTION.match(line)):
            rest = re.sub(r"/\*.*?\*/", "", match[3])
            end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
            shape, rest = rest[:end], rest[end:].lstrip()
            opening = rest.index("(")
            closing = _closing(rest, opening)
            names = re.findall(r"[A-Za-z_][\w.\-]*", rest[opening + 1 : closing])
            # A constant's literal or an operand's type is no name of an instruction.
            operands = [name for name in names if name in current]
            current[match[2]] = _Instruction(
                match[2], shape, rest[:opening], operands, rest[closing + 1 :], bool(match[1])
            )
    if not entry:
        raise ValueError("the program text has no ENTRY computation; it is not that of an optimised HLO module.")
    return computations, entry


def _arrays(shape: str) -> list[tuple[str, list[int]]]:
    return [(kind, [int(re.sub(r"\D", "", d)) for d in dims.split(",") if d]) for kind, dims in _ARRAY.findall(shape)]


def _elements(shape: str) -> int:
    """Elements of an array, or of the first array of a tuple."""
    return math.prod(_arrays(shape)[0][1]) if _arrays(shape) else 0


def _bytes(shape: str) -> float:
    return sum(
        math.prod(dims) * (_BITS[kind] if kind in _BITS else int((re.findall(r"\d+", kind) or ["0"])[0])) / 8
        for kind, dims in _arrays(shape)
    )


def _numbers(pattern: str, text: str) -> list[int]:
    match = re.search(pattern, text)
    return [int(d) for d in re.findall(r"\d+", match[1])] if match else []


def _convolution_flops(attributes: str, image: list[int], kernel: list[int], out: list[int]) -> float:
    """Two operations for each pair of a kernel's and an image's element that meet; zeros of padding and dilation do not."""
    labels = re.search(r"dim_labels=([^_,]+)_([^-]+)->(\w+)", attributes)
    if labels is None:
        return 0.0
    window = re.search(r"window=\{([^}]*)\}", attributes)
    field = dict(part.split("=", 1) for part in window[1].split()) if window else {}
    spatial = sorted(label for label in labels[1] if label.isdigit())

    def per_dimension(name: str, default: str) -> list[str]:
        return field.get(name, "x".join([default] * len(spatial))).split("x") if spatial else []

    met = 1
    for i, label in enumerate(spatial):
        size, k, n = (s[names.index(label)] for s, names in zip((image, kernel, out), labels.groups(), strict=True))
        stride, spread, holes = (int(per_dimension(f, "1")[i]) for f in ("stride", "lhs_dilate", "rhs_dilate"))
        low = int(per_dimension("pad", "0_0")[i].split("_")[0])
        at = np.arange(n)[:, None] * stride + np.arange(k)[None] * holes - low
        met *= int(((at >= 0) & (at <= (size - 1) * spread) & (at % spread == 0)).sum())
    batch, features = out[labels[3].index("b")], out[labels[3].index("f")]
    return (
        2.0
        * batch
        * features
        * kernel[labels[2].index("i")]
        * met
        / max(1, *_numbers(r"batch_group_count=(\d+)", attributes), 1)
    )


def _own_flops(one: _Instruction, shapes: Mapping[str, str], applied: float) -> float:
    """Operations of one instruction that is no fusion; ``applied`` are those of the computation that it applies."""
    out = _elements(one.shape)
    if one.opcode in _ELEMENTWISE:
        return float(out)
    dims = [_arrays(shapes[name])[0][1] if _arrays(shapes[name]) else [] for name in one.operands]
    if one.opcode == "dot":
        contracted = _numbers(r"lhs_contracting_dims=\{([^}]*)\}", one.attributes)
        return 2.0 * out * math.prod(dims[0][i] for i in contracted)
    if one.opcode == "convolution":
        return _convolution_flops(one.attributes, dims[0], dims[1], _arrays(one.shape)[0][1])
    if one.opcode == "reduce":
        return (math.prod(dims[0]) - out) * applied
    if one.opcode == "reduce-window":
        window = re.search(r"size=([\dx]+)", one.attributes)
        return out * applied * (math.prod(map(int, window[1].split("x"))) - 1 if window else 0)
    if one.opcode == "scatter":
        return math.prod(dims[-1]) * applied if dims else 0.0
    if one.opcode == "sort":
        return math.prod(dims[0]) * max(1, math.ceil(math.log2(max(2, math.prod(dims[0])))))
    if one.opcode == "custom-call":
        results = [d for _, d in _arrays(one.shape)]
        target = "".join(re.findall(r'custom_call_target="([^"]*)"', one.attributes))
        for way, roles in _CUDNN.items():
            if target.endswith(f"conv{way}"):
                return _convolution_flops(one.attributes, *(results[0] if r is None else dims[r] for r in roles))
        if re.search(r"gemm|matmul", target, re.IGNORECASE):
            contracted = _numbers(r'"lhs_contracting_dimensions":\[([^\]]*)\]', one.attributes)
            width = math.prod(dims[0][i] for i in contracted) if contracted else dims[0][-1]
            return 2.0 * math.prod(results[0]) * width
    return 0.0


def _kind(one: _Instruction) -> str | None:
    if one.opcode in _FREE:
        return None
    if one.opcode in _TRANSCENDENTAL or one.opcode in _ELEMENTWISE:
        return "elementwise" if re.match(r"\(?(f|bf|c)\d", one.shape) or one.opcode == "compare" else "integer"
    if one.opcode == "custom-call":
        target = "".join(re.findall(r'custom_call_target="([^"]*)"', one.attributes))
        named = {"conv": "convolution", "gemm": "dot", "matmul": "dot", "topk": "sort", "sort": "sort"}
        return next((kind for word, kind in named.items() if word in target.lower()), "custom-call")
    if re.match(r"all-|collective-|reduce-scatter|send|recv", one.opcode):
        return "collective"
    return _KIND.get(one.opcode, "movement")


class _Program:
    def __init__(self, text: str) -> None:
        self.computations, self.entry = _parse(text)
        self._flops: dict[str, float] = {}

    def flops(self, computation: str) -> float:
        """Operations of one run of a fused or applied computation."""
        if computation not in self._flops:
            self._flops[computation] = sum(
                self.instruction_flops(one, self.computations[computation])
                for one in self.computations[computation].values()
            )
        return self._flops[computation]

    def instruction_flops(self, one: _Instruction, within: _Computation) -> float:
        called = one.called()
        if one.opcode == "fusion":
            return self.flops(called["calls"])
        applied = self.flops(called["to_apply"]) if called.get("to_apply") in self.computations else 1.0
        if one.opcode in ("call", "map"):
            return applied * (_elements(one.shape) if one.opcode == "map" else 1.0)
        return _own_flops(one, {name: within[name].shape for name in one.operands}, applied)

    def kind(self, one: _Instruction) -> str | None:
        if one.opcode != "fusion":
            return _kind(one)
        kinds = {self.kind(inner) for inner in self.computations[one.called()["calls"]].values()}
        return next((kind for kind in KINDS if kind in kinds), "movement")

    def bytes(self, one: _Instruction, within: _Computation) -> float:
        """Bytes read and written; of what is only sliced, the slices, and of what is updated in place, the updates."""
        if one.opcode == "fusion":
            inner = self.computations[one.called()["calls"]]
            read = sum(self._read(p.name, inner) for p in inner.values() if p.opcode == "parameter")
            return read + self._written(next(p for p in inner.values() if p.root), inner)
        operands = [_bytes(within[name].shape) for name in one.operands]
        if one.opcode in ("slice", "dynamic-slice", "gather"):
            return 2 * _bytes(one.shape) + sum(operands[1:])
        if one.opcode == "dynamic-update-slice":
            return 2 * operands[1]
        if one.opcode == "scatter":
            return 3 * operands[-1] + sum(operands[1:-1])
        return sum(operands) + _bytes(one.shape)

    def _read(self, name: str, inner: _Computation) -> float:
        whole = _bytes(inner[name].shape)
        read = 0.0
        for user in inner.values():
            if name not in user.operands:
                continue
            if user.opcode == "bitcast":
                read += self._read(user.name, inner)
            elif user.opcode in ("slice", "dynamic-slice", "gather") and user.operands.index(name) == 0:
                read += _bytes(user.shape)
            elif not (user.opcode == "dynamic-update-slice" and user.operands.index(name) == 0):
                return whole
        return min(whole, read)

    def _written(self, root: _Instruction, inner: _Computation) -> float:
        if root.opcode == "tuple":
            return sum(self._written(inner[name], inner) for name in root.operands)
        if root.opcode == "bitcast" and root.operands:
            return self._written(inner[root.operands[0]], inner)
        if root.opcode == "dynamic-update-slice":
            return _bytes(inner[root.operands[1]].shape)
        return _bytes(root.shape)

    def operations(self, computation: str, times: float) -> Iterable[Operation]:
        within = self.computations[computation]
        for one in within.values():
            called = one.called()
            source = "".join(_SOURCE.findall(one.attributes)[:1])
            if one.opcode == "while":
                trips = _TRIPS.search(one.attributes)
                if trips is None:
                    yield Operation(one.name, UNKNOWN_LOOP, times, 0.0, 0.0, source, one.shape)
                n = float(trips[1]) if trips else 1.0
                yield from self.operations(called["body"], times * n)
                yield from self.operations(called["condition"], times * (n + 1))
            elif one.opcode == "conditional":
                listed = _BRANCHES.search(one.attributes)
                names = re.findall(r"[\w.\-]+", listed[1]) if listed else []
                names = names or [called["true_computation"], called["false_computation"]]
                branches = [list(self.operations(name, times)) for name in names]
                yield from max(branches, key=lambda ops: sum(op.runs * (op.flops + op.bytes) for op in ops))
            elif one.opcode in CONTAINERS:
                name = called.get("to_apply") or called.get("calls")
                if name and one.opcode in ("call", "async-start"):
                    yield from self.operations(name, times)
            elif one.opcode.endswith(("-done", "-update")) and one.opcode != "dynamic-update":
                continue
            elif (kind := self.kind(one)) is not None:
                flops, moved = self.instruction_flops(one, within), self.bytes(one, within)
                yield Operation(one.name, kind, times, flops, moved, source, one.shape)


def operations(text: str) -> list[Operation]:
    """Every operation of an optimised HLO module, with the number of times that it is run.

    Args:
      text: ``compiled.as_text()``.

    Returns:
      Those of the entry computation and of the loops, calls and branches that it reaches; of a conditional's branches the
      costliest. A loop whose length XLA does not know is counted once, and an operation of kind :data:`UNKNOWN_LOOP`
      says so.

    Raises:
      ValueError: the text of something else.
    """
    program = _Program(text)
    return list(program.operations(program.entry, 1.0))


def cost(compiled: Any) -> Cost | None:
    """Operations, bytes and memory of a compiled program, or None where XLA gives no text or no memory analysis.

    A loop counts as often as it is run (``cost_analysis`` counts its body once), unless XLA does not know how often.
    """
    try:
        ops = operations(compiled.as_text())
        memory = compiled.memory_analysis()
        together = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        peak = int(together - memory.alias_size_in_bytes)
    except (AttributeError, NotImplementedError, TypeError, ValueError, jax.errors.JaxRuntimeError):
        return None
    return Cost(sum(op.runs * op.flops for op in ops), sum(op.runs * op.bytes for op in ops), peak)


def breakdown(compiled: Any) -> list[dict[str, Any]]:
    """Operations and bytes by kind of instruction, most operations first.

    Returns:
      One row per kind: ``kind``, ``count`` (instructions run), ``flops``, ``bytes``, ``flops_share``, ``bytes_share``.
    """
    return _by_kind(operations(compiled.as_text()))


def _by_kind(ops: Sequence[Operation]) -> list[dict[str, Any]]:
    total = [max(sum(op.runs * value(op) for op in ops), 1e-30) for value in (_flops_of, _bytes_of)]
    rows: list[dict[str, Any]] = []
    for kind in dict.fromkeys(op.kind for op in ops):
        own = [op for op in ops if op.kind == kind]
        flops, moved = (sum(op.runs * value(op) for op in own) for value in (_flops_of, _bytes_of))
        count = sum(op.runs for op in own)
        shares = {"flops_share": flops / total[0], "bytes_share": moved / total[1]}
        rows.append({"kind": kind, "count": count, "flops": flops, "bytes": moved, **shares})
    return sorted(rows, key=lambda row: (-row["flops"], -row["bytes"]))


def _flops_of(op: Operation) -> float:
    return op.flops


def _bytes_of(op: Operation) -> float:
    return op.bytes


# The machine --------------------------------------------------------------------------------------------------------

CPU_SHAPES = ((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048))
ACCELERATOR_SHAPES = ((4096, 4096, 4096), (8192, 8192, 8192))
ARRAY_BYTES = {"cpu": 384 * 2**20}
"""Of each of the two arrays that the bandwidth is measured with; 2 GiB on accelerators. Larger than the caches: the
processor that this was written on states 480 MiB."""


def available_bytes() -> int:
    """Memory that a new array can take: the device's, or of the machine's main memory what is free."""
    first = jax.devices()[0]
    stats = first.memory_stats() if first.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    limits = [8 * 2**30]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")] or limits
        most, used = (int(Path(f"/sys/fs/cgroup/memory.{f}").read_text()) for f in ("max", "current"))
        limits.append(most - used)
    except (OSError, ValueError):  # not Linux, or no limit there ("max")
        pass
    return max(0, min(limits))


def array_bytes() -> int:
    """Size of each of the two arrays that the memory bandwidth is measured with."""
    wanted = ARRAY_BYTES.get(jax.default_backend(), 2 * 2**30)
    return max(2**20, min(wanted, available_bytes() // 8))


def bandwidth(size: int) -> Arm:
    """``a <- a/2 + b`` in place on float32 arrays of ``size`` bytes: three times ``size`` bytes a call, read or written."""
    n = max(1, size // 4)
    a, b = (jax.block_until_ready(jnp.full(n, value, jnp.float32)) for value in (0.0, 1.0))
    step = jax.jit(lambda a, b: a * 0.5 + b, donate_argnums=0)
    program, compile_s = stopwatch(lambda: step.lower(a, b).compile())

    def run(calls: int) -> None:
        nonlocal a
        for _ in range(calls):
            a = program(a, b)
        a.block_until_ready()

    return Arm(f"2 x {size / 2**20:,.0f} MiB", run, 1, None, compile_s)


def measure_machine(seconds: float, *, dtype: str = "float32", say: Callable[[str], None] = lambda _: None) -> Machine:
    """Measure the device: the highest product rate over a few shapes, and the bandwidth of main memory.

    Args:
      seconds: how long to take, about; each program is timed three times by turns and its median counts.
      dtype: of the products. On GPUs whose default for float32 is TF32 that is what is measured, as it is what steps use.
      say: told what is being done.
    """
    shapes = CPU_SHAPES if jax.default_backend() == "cpu" else ACCELERATOR_SHAPES
    size = array_bytes()
    arms = [*(measure.xla_product(shape, dtype) for shape in shapes), bandwidth(size)]
    timings = measure.alternate(arms, repeats=3, seconds=seconds / (4 * len(arms)), progress=say)
    rates = {arm.name: float(np.median(timings[arm.name].rates)) for arm in arms}
    *products, memory = arms
    return Machine(max(rates[arm.name] * (arm.flops or 0.0) for arm in products), rates[memory.name] * 3 * size)


def floors(cost: Cost, machine: Machine) -> tuple[float, float]:
    """``(seconds for the operations, seconds for the bytes)`` at the machine's rates.

    The first is a floor: nothing computes faster than the best matrix product. The second is one only for what no cache
    holds between two instructions; a step whose weights and activations stay in a cache can be faster.
    """
    return cost.flops / machine.flops_per_s, cost.bytes / machine.bytes_per_s


# Profiles -----------------------------------------------------------------------------------------------------------


class Event(NamedTuple):
    """One run of one operation, in nanoseconds.

    Attributes:
      name: of the operation.
      start, end: when the thread that started it began, and when that thread went on to something else.
      done: when its last part ended, which another thread may have computed, or put off for something else.
    """

    name: str
    start: float
    end: float
    done: float


def events(planes: Iterable[Any], containers: frozenset[str] | set[str] = frozenset()) -> list[Event]:
    """The runs of operations in a profile, sorted by time.

    Args:
      planes: of :class:`jax.profiler.ProfileData`. The devices' kernels count where there are any, otherwise those
        of the host's threads.
      containers: names of loops, calls and conditionals, which only surround operations.
    """
    found: list[Event] = []
    hosts: list[Any] = []
    for plane in planes:
        if plane.name.startswith("/host:CPU"):
            hosts = list(plane.lines)
        elif plane.name.startswith("/device:"):
            lines = list(plane.lines)
            streams = [line for line in lines if line.name.startswith("Stream")]
            for line in streams or [line for line in lines if line.name == "XLA Ops"]:
                for event in line.events:
                    name = str(dict(event.stats).get("hlo_op") or event.name)
                    end = event.start_ns + event.duration_ns
                    found.append(Event(name, event.start_ns, end, end))
    if not found:
        started: list[tuple[Event, Any]] = []
        ended: dict[Any, float] = {}
        for line in hosts:
            for event in line.events:
                stats = dict(event.stats)
                end = event.start_ns + event.duration_ns
                if "hlo_op" in stats:
                    started.append((Event(str(stats["hlo_op"]), event.start_ns, end, end), stats.get("_p")))
                elif event.name.startswith("end: ") and "_c" in stats:
                    ended[stats["_c"]] = event.start_ns
        found = [one._replace(done=max(one.end, ended.get(flow, 0.0))) for one, flow in started]
    return sorted((one for one in found if one.name not in containers), key=lambda one: one.start)


def busy(intervals: Iterable[tuple[float, float]]) -> float:
    """The time in which at least one of the intervals, sorted by their start, was under way."""
    total, until = 0.0, -math.inf
    for start, end in intervals:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def profile(run: Callable[[], Any], text: str, *, steps: int) -> dict[str, Any]:
    """Trace one call and sum the time by operation.

    Args:
      run: returns when its results are there; it takes ``steps`` training steps and was called before.
      text: of the program that it runs, ``compiled.as_text()``.
      steps: to divide by.

    Returns:
      ``ops``: a row per operation, costliest first: ``name``, ``kind``, ``ms`` (a step, of the thread that ran it; XLA's
      CPU threads help each other, which no profile shows), ``share`` (of the traced time), ``done_ms`` (a step, until its
      last part had ended), ``count`` (a step), ``gflops`` and ``gbytes`` (a second, in ``ms``), ``shape``, ``source``.
      ``kinds``: the same summed by kind. ``traced_ms``: from the first operation to the last one's end, a step.
      ``idle_share``: the part of that in which no thread ran an operation; ``pending_share``: in which, besides, none waited
      for its last part. Operations run side by side, so that shares can exceed 1 together.
    """
    known = {op.name: op for op in operations(text)}
    # Kernels inside a CUDA graph carry the kernel's name, which has no dots.
    known |= {name.replace(".", "_"): op for name, op in known.items() if name.replace(".", "_") not in known}
    computations = _parse(text)[0].values()
    containers = {one.name for c in computations for one in c.values() if one.opcode in CONTAINERS}
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    options.host_tracer_level = 2
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            run()
        (path,) = Path(folder).rglob("*.xplane.pb")
        with warnings.catch_warnings():
            # The classes that jaxlib returns warn when they are first used; as an error that would end the process.
            warnings.simplefilter("ignore", DeprecationWarning)
            runs = events(jax.profiler.ProfileData.from_file(str(path)).planes, containers)
    if not runs:
        raise RuntimeError("the profile holds no operation of the program; this device's profiler is not understood.")
    window = max(one.done for one in runs) - runs[0].start
    spent: dict[str, list[Event]] = {}
    for one in runs:
        spent.setdefault(one.name, []).append(one)
    ops: list[dict[str, Any]] = []
    for name, times in spent.items():
        op = known.get(name, Operation(name, "other", 0.0, 0.0, 0.0, "", ""))
        ns, done = (sum(getattr(one, field) - one.start for one in times) for field in ("end", "done"))
        rates = {"gflops": op.flops * len(times) / max(ns, 1.0), "gbytes": op.bytes * len(times) / max(ns, 1.0)}
        numbers = {
            "ms": ns / steps / 1e6,
            "share": ns / window,
            "done_ms": done / steps / 1e6,
            "count": len(times) / steps,
        }
        ops.append({"name": name, "kind": op.kind, **numbers, **rates, "shape": op.shape, "source": op.source})
    ops.sort(key=lambda row: -row["ms"])
    kinds: list[dict[str, Any]] = []
    for kind in dict.fromkeys(row["kind"] for row in ops):
        own = [row for row in ops if row["kind"] == kind]
        ms = sum(row["ms"] for row in own)
        rates = {r: sum(row[r] * row["ms"] for row in own) / max(ms, 1e-12) for r in ("gflops", "gbytes")}
        totals = {key: sum(row[key] for row in own) for key in ("share", "count")}
        kinds.append({"kind": kind, "ms": ms, **totals, **rates})
    kinds.sort(key=lambda row: -row["ms"])
    return {
        "ops": ops,
        "kinds": kinds,
        "idle_share": 1 - busy((one.start, one.end) for one in runs) / window,
        "pending_share": 1 - busy((one.start, one.done) for one in runs) / window,
        "traced_ms": window / steps / 1e6,
    }


# The command --------------------------------------------------------------------------------------------------------

TOP = 10
LARGEST_DATA = 256 * 2**20
"""Bytes of images, at most, whatever number of them is asked for."""


class Scanned:
    """A compiled scan over training steps, and the state that it continues from.

    Attributes:
      compiled: the program.
      steps: training steps in a call, of one member.
      members: of the ensemble.
      compile_s: seconds that tracing and compiling took.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        pixels: np.ndarray,
        *,
        batch_size: int,
        steps: int,
        members: int | None = None,
        at_once: int | None = None,
    ) -> None:
        """Compile; nothing but the program takes memory before :meth:`run`.

        Args:
          algorithm, batch_size: what to train.
          pixels: uint8 images.
          steps: in one call.
          members: seeds under vmap, ``at_once`` of them together; by default one alone.
        """
        chunk = many_steps(algorithm.step, length=steps, batch_size=batch_size)
        init, keys = algorithm.init, jax.random.key(0)
        if members is not None:
            chunk = ensemble(chunk, members_per_vmap=at_once)
            init, keys = jax.vmap(init), jax.random.split(keys, members)
        n = len(pixels)
        arrays: Any = (jax.ShapeDtypeStruct(pixels.shape, jnp.uint8), jax.ShapeDtypeStruct((n,), jnp.int32))
        jitted: Any = compile_chunk(chunk)
        lowered = partial(jitted.lower, jax.eval_shape(init, keys), Examples(*arrays))
        self.compiled, self.compile_s = stopwatch(lambda: lowered().compile())
        self.steps, self.members = steps, members or 1
        self._start = lambda: (jax.jit(init)(keys), Examples(jnp.asarray(pixels), jnp.zeros(n, jnp.int32)))
        self._held: Any = None

    def run(self, calls: int) -> None:
        """That many calls, from where the last one ended; returns when their results are there."""
        state, data = self._held or self._start()
        self._held = None  # a call that fails has used the state up
        for _ in range(calls):
            state, infos = self.compiled(state, data)
        jax.block_until_ready((state, infos))
        self._held = state, data

    def release(self) -> None:
        """Free state and data; the next run starts afresh."""
        self._held = None

    def cost(self) -> Cost | None:
        """Of one step of one member, but for the memory, which is the whole program's."""
        whole, each = cost(self.compiled), self.steps * self.members
        return None if whole is None else Cost(whole.flops / each, whole.bytes / each, whole.peak_bytes)


def examine(
    work: Any, pixels: np.ndarray, machine: Machine, *, steps: int, seeds: int, repeats: int, seconds: float
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of a result and the profile of one work; everything a step of one member."""
    members = work.members or (seeds if seeds > 1 else None)
    one = Scanned(
        work.algorithm, pixels, batch_size=work.batch_size, steps=steps, members=members, at_once=work.at_once
    )
    arm = "ours, scan" if members is None else f"ours, {members} seeds"
    each = one.steps * one.members
    text = one.compiled.as_text()
    timed = measure.alternate([Arm(arm, one.run, each)], repeats=repeats, seconds=seconds)[arm]
    rows: list[dict[str, Any]] = []

    def add(metric: str, unit: str, values: Sequence[float]) -> None:
        rows.append({"work": work.name, "arm": arm, "metric": metric, "unit": unit, **measure.summary(values)})

    add("step", "ms a step", [1e3 / rate for rate in timed.rates])
    if (a_step := one.cost()) is not None:
        compute_s, memory_s = floors(a_step, machine)
        add("floor_compute", "ms a step", [1e3 * compute_s])
        add("floor_memory", "ms a step", [1e3 * memory_s])
        add("share", "of the product rate", [rate * compute_s for rate in timed.rates])
        add("flops", "MFLOP a step", [a_step.flops / 1e6])
        add("bytes", "MB a step", [a_step.bytes / 1e6])
        add("peak_memory", "MiB", [a_step.peak_bytes / 2**20])
    add("compile", "s", [one.compile_s])
    if not any(map(math.isnan, timed.others)):
        add("other load", "cores", timed.others)
    traced = profile(partial(one.run, 1), text, steps=each)
    counted = _by_kind(operations(text))
    per_step = {"count": each, "flops": each, "bytes": each}
    counted = [{k: v / per_step.get(k, 1) if k != "kind" else v for k, v in row.items()} for row in counted]
    return rows, {"work": work.name, "arm": arm, "steps": one.steps, "breakdown": counted, **traced}


def _source(op: Mapping[str, Any]) -> str:
    """The end of the path through the Python program, without what every operation of a scan has."""
    parts = [part for part in op["source"].split("/") if part not in ("while", "body", "closed_call", "jit(chunk)")]
    return "/".join(parts[-3:]).replace("|", "\\|")


def profile_markdown(one: Mapping[str, Any]) -> list[str]:
    """The lines of one work's profile: time by kind, and the costliest operations."""
    lines = [
        f"### {one['work']}: where the time of a step goes ({one['arm']})",
        "",
        f"Traced {one['steps']:,} steps, {one['traced_ms']:.4g} ms each; in {one['idle_share']:.1%} of that no thread ran an "
        f"operation ({one['pending_share']:.1%} without what still waited for a part of one).",
        "",
        "| kind | ms a step | share | runs a step | GFLOP/s | GB/s |",
        "|---|---|---|---|---|---|",
    ]
    for row in one["kinds"]:
        rates = f"{row['gflops']:.3g} | {row['gbytes']:.3g}"
        lines.append(f"| {row['kind']} | {row['ms']:.4g} | {row['share']:.1%} | {row['count']:.3g} | {rates} |")
    lines += ["", "| operation | kind | ms a step | share | GFLOP/s | GB/s | result | from |", "|---" * 8 + "|"]
    for row in one["ops"]:
        shape = re.sub(r"\{[^}]*\}", "", row["shape"])
        shape = shape if len(shape) < 40 else shape[:37] + "..."
        numbers = f"{row['ms']:.4g} | {row['share']:.1%} | {row['gflops']:.3g} | {row['gbytes']:.3g}"
        lines.append(f"| `{row['name']}` | {row['kind']} | {numbers} | `{shape}` | {_source(row)} |")
    return lines


def markdown(result: Mapping[str, Any]) -> str:
    """The result as Markdown: the floors of all works, then each work's profile."""
    settings, machine = result["settings"], result["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    rate, speed = machine["flops_per_s"] / 1e9, machine["bytes_per_s"] / 1e9
    lines = [
        f"# {result['name']}",
        "",
        f"`{result['command']}` on {result['device']}; {packages}; commit {result['commit']}.",
        f"Measured here: {rate:,.4g} GFLOP/s in the best float32 matrix product, {speed:.3g} GB/s from and to memory (two "
        f"arrays of {settings['array_bytes'] / 2**20:,.0f} MiB).",
        "",
        "| | ms a step | floor: operations | floor: memory | of the product rate | MFLOP a step | MB a step | peak, MiB |",
        "|---" * 8 + "|",
    ]
    table: dict[tuple[str, str], dict[str, float]] = {}
    for row in result["rows"]:
        table.setdefault((row["work"], row["arm"]), {})[row["metric"]] = row["median"]
    for (work, arm), found in table.items():
        formats = {"step": ".4g", "floor_compute": ".3g", "floor_memory": ".3g", "share": ".0%"}
        formats |= {"flops": ",.4g", "bytes": ",.4g", "peak_memory": ",.4g"}
        cells = [format(found[m], f) if m in found else "" for m, f in formats.items()]
        lines.append(f"| {work}, {arm.removeprefix('ours, ')} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "- Operations and bytes are those of the compiled scan, loops as often as they run, divided by its steps; bytes are "
        "what instructions read and write.",
        "- The memory floor counts every byte as coming from main memory; what stays in a cache is faster.",
        "- Tracing slows small operations down: compare the traced time with the one above.",
    ]
    unknown = [one["work"] for one in result["profiles"] if any(r["kind"] == UNKNOWN_LOOP for r in one["breakdown"])]
    lines += [f"- A loop of unknown length is counted once in {', '.join(unknown)}."] * bool(unknown)
    lines += [f"- Not examined: {row['work']}: {row['reason']}" for row in result["skipped"]]
    for one in result["profiles"]:
        lines += ["", *profile_markdown(one)]
    return "\n".join([*lines, ""])


def main(
    *,
    work: Annotated[str, tyro.conf.arg(help="Shell pattern of the works to examine, for instance 'sae*'.")] = "*",
    steps: Annotated[
        int | None, tyro.conf.arg(help="Steps in the scan that is timed and traced; by default the work's own.")
    ] = None,
    seeds: Annotated[int, tyro.conf.arg(help="Members under vmap; times are then of one member's step.")] = 1,
    seconds: Annotated[
        float, tyro.conf.arg(help="Least duration of a turn; also what measuring the machine takes, times 10.")
    ] = 1.0,
    repeats: Annotated[int, tyro.conf.arg(help="Turns of each program.")] = 3,
    images: Annotated[int, tyro.conf.arg(help="uint8 images in memory.")] = 55_000,
    top: Annotated[int, tyro.conf.arg(help="Operations listed of each work.")] = TOP,
    quick: Annotated[bool, tyro.conf.arg(help="A smoke run: one turn of 0.05 s, few images, short scans.")] = False,
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            help="JSON to write, its tables beside it; a complete run has benchmarks/results/bounds_<device>.json."
        ),
    ] = None,
) -> None:
    """Count what a step costs, measure what the machine can do, and profile where the rest goes."""
    from benchmarks.run import WORKS
    from benchmarks.work import UnavailableError
    from benchmarks.work import images as make_images

    console = Console()
    chosen = {name: build for name, build in WORKS.items() if fnmatch.fnmatch(name, work)}
    if not chosen:
        sys.exit(f"--work {work!r} matches no work; there are {', '.join(WORKS)}.")
    if min(repeats, seeds, images, top, 1 if steps is None else steps) < 1 or not seconds > 0:
        sys.exit("--steps, --seeds, --seconds, --repeats, --images and --top must all be positive.")
    if quick:
        seconds, repeats, images = 0.05, 1, 2_000
    with console.status("measuring the machine") as status:
        machine = measure_machine(10 * seconds, say=status.update)
        rows: list[Any] = []
        profiles: list[Any] = []
        skipped: list[Any] = []
        for name, build in chosen.items():
            status.update(name)
            try:
                one = build()
            except UnavailableError as error:
                skipped.append({"work": name, "arm": "ours, scan", "reason": str(error)})
                continue
            length = steps or (max(1, one.chunk // 50) if quick else one.chunk)
            held = min(images, LARGEST_DATA // math.prod(one.image_shape))
            pixels = make_images(max(held, 2 * one.batch_size), one.image_shape)
            new, traced = examine(one, pixels, machine, steps=length, seeds=seeds, repeats=repeats, seconds=seconds)
            rows += new
            profiles.append({**traced, "ops": traced["ops"][:top]})
    result = {
        "name": "Bounds of a training step",
        "report": "bounds",
        "command": f"python -m benchmarks.bounds {shlex.join(sys.argv[1:])}".strip(),
        "commit": commit(Path(__file__).parent),
        "device": device(),
        "versions": versions("jax", "jaxlib", "flax", "optax", "numpy"),
        "settings": {
            "repeats": repeats, "seconds": seconds, "n_images": images, "seeds": seeds, "threads": cores(),
            "dtype": "float32", "quick": quick, "array_bytes": array_bytes(),
        },
        "machine": machine._asdict(),
        "skipped": skipped,
        "rows": rows,
        "profiles": profiles,
    }  # fmt: skip
    console.print(Markdown(markdown(result)) if console.is_terminal else markdown(result), markup=False, soft_wrap=True)
    if out is None and work == "*" and seeds == 1 and steps is None and not quick:
        out = RESULTS / f"bounds_{jax.default_backend()}.json"
    if out is not None:
        write_result(out, result, markdown(result))
        console.print(f"Wrote {out} and {out.with_suffix('.md')}.", markup=False)


if __name__ == "__main__":
    tyro.cli(main)
