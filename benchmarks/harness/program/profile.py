"""Where a program's time goes: the runs of its operations in a trace."""

import math
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.harness.program.operations import Operation, containers, operations


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


def _device_events(plane: Any) -> list[Event]:
    """The kernels of a device: those of its streams, or its operations where it has none."""
    lines = list(plane.lines)
    streams = [line for line in lines if line.name.startswith("Stream")]
    found = []
    for event in (event for line in streams or [x for x in lines if x.name == "XLA Ops"] for event in line.events):
        end = event.start_ns + event.duration_ns
        found.append(Event(str(dict(event.stats).get("hlo_op") or event.name), event.start_ns, end, end))
    return found


def _host_events(plane: Any) -> list[Event]:
    """The operations that the host's threads ran."""
    started: list[tuple[Event, Any]] = []
    ended: dict[Any, float] = {}
    for event in (event for line in plane.lines for event in line.events):
        stats, end = dict(event.stats), event.start_ns + event.duration_ns
        if "hlo_op" in stats:
            started.append((Event(str(stats["hlo_op"]), event.start_ns, end, end), stats.get("_p")))
        elif event.name.startswith("end: ") and "_c" in stats:
            ended[stats["_c"]] = event.start_ns
    return [one._replace(done=max(one.end, ended.get(flow, 0.0))) for one, flow in started]


def events(planes: Iterable[Any], surrounding: frozenset[str] | set[str] = frozenset()) -> list[Event]:
    """The runs of operations in a profile, sorted by time.

    Args:
      planes: of :class:`jax.profiler.ProfileData`. The devices' kernels count where there are any, otherwise those
        of the host's threads.
      surrounding: names of loops, calls and conditionals, which only surround operations.
    """
    listed = list(planes)
    found = [one for plane in listed if plane.name.startswith("/device:") for one in _device_events(plane)]
    hosts = [plane for plane in listed if plane.name.startswith("/host:CPU")]
    if not found and hosts:
        found = _host_events(hosts[-1])
    return sorted((one for one in found if one.name not in surrounding), key=lambda one: one.start)


def busy(intervals: Iterable[tuple[float, float]]) -> float:
    """The time in which at least one of the intervals, sorted by their start, was under way."""
    total, until = 0.0, -math.inf
    for start, end in intervals:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def _trace(run: Callable[[], Any], surrounding: set[str]) -> list[Event]:
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
            return events(jax.profiler.ProfileData.from_file(str(path)).planes, surrounding)


def _by_operation(runs: Sequence[Event], known: Mapping[str, Operation], steps: int, window: float) -> list[Any]:
    """A row per operation, costliest first."""
    spent: dict[str, list[Event]] = {}
    for one in runs:
        spent.setdefault(one.name, []).append(one)
    rows: list[dict[str, Any]] = []
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
        rows.append({"name": name, "kind": op.kind, **numbers, **rates, "shape": op.shape, "source": op.source})
    return sorted(rows, key=lambda row: -row["ms"])


def _by_kind(ops: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same summed by kind."""
    rows: list[dict[str, Any]] = []
    for kind in dict.fromkeys(row["kind"] for row in ops):
        those = [row for row in ops if row["kind"] == kind]
        ms = sum(row["ms"] for row in those)
        rates = {r: sum(row[r] * row["ms"] for row in those) / max(ms, 1e-12) for r in ("gflops", "gbytes")}
        totals = {key: sum(row[key] for row in those) for key in ("share", "count")}
        rows.append({"kind": kind, "ms": ms, **totals, **rates})
    return sorted(rows, key=lambda row: -row["ms"])


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

    Raises:
      RuntimeError: the profile holds no operation of the program.
    """
    known = {op.name: op for op in operations(text)}
    # Kernels inside a CUDA graph carry the kernel's name, which has no dots.
    known |= {name.replace(".", "_"): op for name, op in known.items() if name.replace(".", "_") not in known}
    runs = _trace(run, containers(text))
    if not runs:
        raise RuntimeError("the profile holds no operation of the program; this device's profiler is not understood.")
    window = max(one.done for one in runs) - runs[0].start
    ops = _by_operation(runs, known, steps, window)
    return {
        "ops": ops,
        "kinds": _by_kind(ops),
        "idle_share": 1 - busy((one.start, one.end) for one in runs) / window,
        "pending_share": 1 - busy((one.start, one.done) for one in runs) / window,
        "traced_ms": window / steps / 1e6,
    }
