"""Turns, loads, and the rows that are made of them."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks.harness import system, timing
from benchmarks.harness.program.cost import Cost, Machine
from benchmarks.harness.reports import steps
from benchmarks.harness.rows import Rows, step_rows
from benchmarks.harness.timing import Arm, Timing

EAGER, BF16 = "PyTorch, eager", "PyTorch, bf16"


def arm(name: str, **options: object) -> Arm:
    """An arm that does nothing; ours and the peers by their names."""
    role = "ours" if name.startswith("ours") else "peer"
    dtype = "bfloat16" if name == BF16 else "float32"
    return Arm(name, lambda calls: None, 1, role=role, dtype=dtype, **options)


def timed(**rates: list[float]) -> dict[str, Timing]:
    return {name: Timing(values, [0.0] * len(values)) for name, values in rates.items()}


def test_arms_take_turns():
    calls: list[str] = []

    def counted(name: str) -> Arm:
        return Arm(name, lambda n: calls.extend([name] * bool(n)), 3)

    timings = timing.alternate([counted("a"), counted("b")], repeats=3, seconds=1e-9)
    assert calls[-6:] == ["a", "b"] * 3
    assert all(len(t.rates) == len(t.others) == 3 for t in timings.values())


def test_a_turn_is_as_many_calls_as_fill_it(monkeypatch):
    clock, done = [0.0], []

    def run(calls: int) -> None:
        done.append(calls)
        clock[0] += 0.25 * calls

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    assert timing.calls_of(Arm("a", run, 1), 3.0) == 12
    assert timing.calls_of(Arm("a", run, 1, turn=2.0), 3.0) == 24
    done.clear()
    (found,) = timing.alternate([Arm("a", run, 5)], repeats=2, seconds=3.0).values()
    assert found.rates == [20.0, 20.0]
    assert done[-2:] == [12, 12]


def test_where_the_load_is_unknown_it_stays_so(monkeypatch):
    monkeypatch.setattr(timing, "busy_seconds", lambda: (np.nan, np.nan))
    found = timing.alternate([Arm("a", lambda n: None, 1)], repeats=1, seconds=1e-9)["a"]
    assert np.isnan(found.others).all()
    rows = Rows("w", "a")
    rows.add_load(found.others)
    assert rows.rows == []


def test_ratios_pair_the_turns_against_the_fastest_peer():
    names = ("ours, scan", "PyTorch, eager", "PyTorch, compiled")
    rates = ([8.0, 2.0, 4.0], [1.0, 1.0, 1.0], [4.0, 1.0, 2.0])
    rows = step_rows("w", [arm(n) for n in names], timed(**dict(zip(names, rates, strict=True))), unit="steps/s")
    ratios = {row["arm"]: row for row in rows if row["metric"] == "speedup"}
    assert ratios.keys() == {"ours, scan", "PyTorch, eager"}
    assert ratios["ours, scan"]["values"] == [2.0, 2.0, 2.0]
    assert {row["against"] for row in ratios.values()} == {"PyTorch, compiled"}


def test_a_bf16_peer_is_no_baseline_of_float32_but_has_its_ratio():
    rates = {"ours, scan": [6.0], EAGER: [2.0], BF16: [12.0]}
    found = step_rows("w", [arm(name) for name in rates], timed(**rates), unit="steps/s", batch_size=5)
    rows = {(row["arm"], row["metric"]): row for row in found}
    assert len(rows) == len(found)
    assert rows["ours, scan", "speedup"]["values"] == [3.0]
    assert rows["ours, scan", "speedup_bf16"]["values"] == [0.5]
    assert rows[BF16, "speedup"]["values"] == [6.0]
    assert rows[BF16, "images"]["values"] == [60.0]
    assert {key for key, row in rows.items() if row.get("dtype") == "bfloat16"} == {
        ("ours, scan", "speedup_bf16"), *((BF16, metric) for metric in ("rate", "images", "speedup", "other load"))
    }  # fmt: skip


def test_floors_and_shares_of_the_machine_by_hand():
    one = arm("ours, scan", flops=4e9, compile_s=2.0, bytes=5e8, peak_bytes=3 * 2**20)
    timings = timed(**{one.name: [10.0]})
    rows = step_rows("w", [one], timings, unit="steps/s", batch_size=5, machine=Machine(1e11, 1e10))
    expected = {
        "rate": [10.0], "images": [50.0], "flops": [4000.0], "throughput": [40.0], "share": [pytest.approx(0.4)],
        "floor_compute": [pytest.approx(40.0)], "floor_memory": [pytest.approx(50.0)], "compile": [2.0],
        "peak_memory": [3.0], "other load": [0.0],
    }  # fmt: skip
    assert {row["metric"]: row["values"] for row in rows} == expected
    cost = Rows("w", "ours, scan")
    cost.add_cost(Cost(4e9, 5e8, 3 * 2**20), [10.0], Machine(1e11, 1e10))
    shared = {row["metric"]: row["values"] for row in cost.rows}
    assert shared.pop("bytes") == [500.0]
    assert shared == {metric: expected[metric] for metric in shared}


def test_the_aggregate_rate_of_an_ensemble_is_given_in_that_of_one_member():
    arms = [arm("ours, scan"), arm("ours, 64 seeds", members=64)]
    rows = step_rows("w", arms, timed(**{"ours, scan": [8.0, 4.0], "ours, 64 seeds": [6.0, 4.0]}), unit="steps/s")
    (row,) = [row for row in rows if row["metric"] == "aggregate"]
    assert (row["arm"], row["values"], row["against"]) == ("ours, 64 seeds", [0.75, 1.0], "ours, scan")
    settings = {"repeats": 2, "seconds": 1, "n_images": 10}
    result = {"name": "n", "command": "c", "device": "d", "versions": {}, "commit": "e", "settings": settings}
    assert "| 0.875 (0.812 to 0.938) |" in steps.markdown({**result, "rows": rows, "agreement": [], "skipped": []})


def test_cpu_seconds_of_children_count_as_ours_while_they_live_and_afterwards():
    before = system.family_seconds()
    burn = "import os, sys\nwhile os.times().user < 0.2: pass\nprint('done', flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"done\n"
        alive = system.family_seconds(), system.family_seconds(child.pid)
    assert alive[0] - before >= 0.17
    assert 0.17 <= alive[1] <= alive[0]
    assert system.family_seconds() >= alive[0]


def test_growth_of_memory_is_that_of_the_run():
    before = system.resident_bytes()
    grown = system.growth(before, lambda: np.ones(2**23))  # 64 MiB, given back at once
    if grown is None:
        pytest.skip("this system does not report the peak of memory")
    assert 60 * 2**20 <= grown <= 200 * 2**20
