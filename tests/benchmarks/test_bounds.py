"""``python -m benchmarks.bounds`` on a tiny work."""

import json

import pytest
from tiny_works import TOY_FLOPS, check_form, toy

from benchmarks import bounds
from benchmarks.harness.errors import OptionError
from benchmarks.harness.reports import markdown


def test_bounds_of_a_tiny_work(machine, tmp_path, capsys):
    out = tmp_path / "bounds.json"
    options = bounds.parse_options(["--work", "t*", "--quick", "--steps", "3", "--seeds", "2", "--out", str(out)])
    bounds.run(options, works={"tiny": lambda: toy("tiny")}, measure=lambda *a, **k: machine)
    result = json.loads(out.read_text())
    check_form(result)
    assert out.with_suffix(".md").read_text() == markdown(result)
    assert "where the time of a step goes (ours, 2 seeds)" in capsys.readouterr().out
    found = {row["metric"]: row["median"] for row in result["rows"]}
    # The two products of one member's step, and the pixels' scaling.
    assert TOY_FLOPS <= found["flops"] * 1e6 <= 4 * TOY_FLOPS
    assert found["floor_compute"] == pytest.approx(found["flops"] * 1e6 / machine.flops_per_s * 1e3)
    assert found["floor_memory"] == pytest.approx(found["bytes"] * 1e6 / machine.bytes_per_s * 1e3)
    (traced,) = result["profiles"]
    by_kind = {row["kind"]: row for row in traced["breakdown"]}
    assert by_kind["dot"]["flops"] == TOY_FLOPS
    assert {row["kind"] for row in traced["kinds"]} >= {"dot", "elementwise"}


def test_only_the_costliest_operations_are_listed(machine, tmp_path):
    out = tmp_path / "bounds.json"
    options = bounds.parse_options(["--quick", "--steps", "1", "--top", "1", "--out", str(out)])
    bounds.run(options, works={"tiny": lambda: toy("tiny")}, measure=lambda *a, **k: machine)
    (traced,) = json.loads(out.read_text())["profiles"]
    assert len(traced["ops"]) == 1
    assert len(traced["kinds"]) > 1


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(OptionError, match=r"--work 'absent' .*there are .*gan_mlp"):
        bounds.run(bounds.parse_options(["--work", "absent"]))
