"""The counts of reliability as rows of a published result, and as tables."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import scipy.stats

from saegan_jax.report.table import Result, Row, document, each, origin, pivot
from saegan_jax.runs.reliability.soak import Soak, slope

MOST_FAULTS = 20  # listed in a result


def count(arm: str, metric: str, faults: Iterable[str], **extra: Any) -> Row:
    """How many of several were without fault: the share with its exact 95 % interval (Clopper and Pearson), and the counts."""
    found = list(faults)
    sound = sum(not fault for fault in found)
    if not found:
        return Row(arm=arm, metric=metric, unit="share", extra={"sound": 0, "of": 0} | extra)
    low, high = scipy.stats.binomtest(sound, len(found)).proportion_ci(method="exact")
    return Row(
        arm=arm, metric=metric, unit="share", mean=sound / len(found), low=float(low), high=float(high),
        extra={"sound": sound, "of": len(found)} | extra,
    )  # fmt: skip


def by(things: Sequence[Any], key: Callable[[Any], str], metric: str) -> list[Row]:
    """One row for every value of ``key``, in order of appearance."""
    groups: dict[str, list[str]] = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing.fault)
    return [count(arm, metric, faults) for arm, faults in groups.items()]


def faults_of(things: Sequence[Any]) -> list[dict[str, Any]]:
    """What went wrong, the first :data:`MOST_FAULTS`."""
    return [
        {name: str(value) for name, value in vars(t).items() if not isinstance(value, tuple)} for t in things if t.fault
    ][:MOST_FAULTS]


def kill_rows(found: Sequence[Any]) -> list[Row]:
    """By system: SIGKILL, SIGTERM, SIGINT; then by what a training was doing, and the seconds until it had stopped."""
    rows = []
    for name in ("SIGKILL", "SIGTERM", "SIGINT"):
        mine = [d for d in found if d.signal == name]
        rows += by(mine, lambda d: d.system, name)
        rows.append(count("all", name, [d.fault for d in mine]))
    for system in dict.fromkeys(d.system for d in found):
        trainings = {d.training: d for d in found if d.system == system}
        rows.append(count(system, "trainings", [d.fault for d in trainings.values()]))
    ends = {(d.system, d.training): d.fault for d in found}
    rows.append(count("all", "trainings", list(ends.values())))
    for name in ("SIGKILL", "SIGTERM", "SIGINT"):
        rows += by([d for d in found if d.signal == name], lambda d: f"while {d.moment or '?'}", name)
    seconds = [d.seconds for d in found if d.signal != "SIGKILL"]
    if seconds:
        rows.append(Row(arm="from signal to end, median", metric="seconds", unit="s", mean=float(np.median(seconds))))
        rows.append(Row(arm="from signal to end, longest", metric="seconds", unit="s", mean=max(seconds)))
    return rows


def damage_rows(cases: Sequence[Any]) -> list[Row]:
    """By kind, and all; what could not be tried is counted apart."""
    tried = [c for c in cases if not c.skipped]
    rows = by(tried, lambda c: c.kind, "cases")
    rows.append(count("all", "cases", [c.fault for c in tried]))
    skipped = Counter(f"{c.kind}: {c.skipped}" for c in cases if c.skipped)
    rows += [Row(arm=arm, metric="not tried", unit="count", mean=n) for arm, n in skipped.items()]
    files = [(c.kind.partition(",")[0], c.outcome) for c in tried]
    outcomes = Counter(f"{what}: {outcome}" for what, outcome in files if what in ("checkpoint", "run file"))
    rows += [Row(arm=arm, metric="outcome", unit="count", mean=n) for arm, n in sorted(outcomes.items())]
    return rows


def injection_rows(found: Sequence[Any]) -> list[Row]:
    """By system and place, and all."""
    rows = []
    for place in dict.fromkeys(i.place for i in found):
        mine = [i for i in found if i.place == place]
        rows += by(mine, lambda i: i.system, place)
        rows.append(count("all", place, [i.fault for i in mine]))
    return rows


def fuzz_rows(settings: Sequence[Any], files: Sequence[Any]) -> list[Row]:
    """Settings by system with how many were refused, traced and run; files by kind with how many were refused and taken."""
    rows = []
    for things, attribute, metric in ((settings, "system", "settings"), (files, "kind", "files")):
        rows += by(things, attrgetter(attribute), metric)
        rows.append(count(f"all {metric}", metric, [t.fault for t in things]))
        for outcome in dict.fromkeys(t.outcome for t in things):
            for arm in dict.fromkeys(getattr(t, attribute) for t in things):
                n = sum(t.outcome == outcome and getattr(t, attribute) == arm for t in things)
                rows.append(Row(arm=arm, metric=outcome, unit="count", mean=n))
    return rows


def soak_rows(one: Soak) -> list[Row]:
    """Slopes with intervals, medians, saves and the speed of the first and the last third."""
    seconds = np.array([s.seconds for s in one.samples])
    rows = []
    for name, unit in (("memory", "MiB"), ("handles", "files"), ("threads", "threads")):
        found = slope(seconds, np.array([getattr(s, name) for s in one.samples], float))
        rows.append(Row(arm=name, metric="median", unit=unit, mean=found.median))
        rows.append(
            Row(arm=name, metric="slope", unit=f"{unit} an hour", mean=found.slope, low=found.low, high=found.high)
        )
    third = len(one.rates) // 3
    for arm, rates in (("first third", one.rates[:third]), ("last third", one.rates[-third:])):
        rows.append(Row(arm=f"speed, {arm}", metric="median", unit="steps/s", mean=float(np.median(rates))))
    lasted = float(seconds[-1] / 60)
    counted = {"lasted": (lasted, "minutes"), "saves": (one.saves, "count"), "steps": (one.steps, "count")}
    return rows + [Row(arm=arm, metric="median", unit=unit, mean=value) for arm, (value, unit) in counted.items()]


def shown(row: Row | None) -> str:
    """``sound of all`` for a share, a number with its interval for the others."""
    if row is None:
        return ""
    if row.get("of") is not None:
        return f"{row['sound']:,} of {row['of']:,}"
    if row.mean is None:
        return ""
    interval = "" if row.low is None else f" [{row.low:.3g}, {row.high:.3g}]"
    whole = float(row.mean).is_integer()
    return (f"{row.mean:,.0f}" if whole else f"{row.mean:,.3g}") + interval


def tables(result: Result) -> str:
    """One table of all rows: a share is shown as how many of how many were without fault."""
    table = pivot(result.rows, corner="", cell=shown) if result.rows else ""
    if result.extra.get("part") == "soak":
        columns = {"value": "median", "slope": "slope", "unit": each("unit")}
        table = pivot(result.rows, corner="", columns=columns, cell=shown)
    faults = [f"- {fault}" for fault in result.extra.get("faults", ())]
    return document(origin(result), str(result.extra.get("note", "")), table, "\n".join(faults))
