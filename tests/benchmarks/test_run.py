"""``python -m benchmarks.run``: its result, its files, and what it refuses."""

import importlib.util
import json

import jax
import pytest
from tiny_works import check_form, tiny_sae, toy

from benchmarks import run
from benchmarks.harness import changes, results
from benchmarks.harness.errors import DisagreementError, UnavailableError
from benchmarks.harness.machine import measure_machine
from benchmarks.harness.reports import markdown
from benchmarks.harness.rows import step_rows
from benchmarks.harness.timing import Arm, Timing
from benchmarks.peers import checked as checking
from benchmarks.peers.registry import BF16, COMPILED, EAGER, FLAX, KERAS_JAX, KERAS_TENSORFLOW, PEERS
from benchmarks.workloads.work import start

SLOW = (COMPILED, KERAS_TENSORFLOW, KERAS_JAX)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def absent():
    raise UnavailableError("it needs an accelerator.")


def known(machine):
    return lambda *a, **k: machine


@pytest.fixture(scope="module")
def written(tmp_path_factory, machine):
    """The files of a quick run without other frameworks, and what it printed."""
    out = tmp_path_factory.mktemp("written") / "tiny.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        options = run.parse_options(["--quick", "--only", "tiny*", "--seeds", "2", "--out", str(out)])
        run.run(options, works={"tiny": tiny_sae, "tiny_large": absent}, measure=known(machine))
    return out


def test_a_quick_run_without_the_extra(written):
    result = json.loads(written.read_text())
    check_form(result)
    assert "incomplete" not in result
    assert [(skip["work"], skip["arm"]) for skip in result["skipped"]] == [
        *(("all", arm) for arm in PEERS if arm != FLAX),
        ("tiny_large", "all"),
    ]
    assert all("saegan_jax[bench]" in skip["reason"] for skip in result["skipped"][:-1])
    rates = {row["arm"]: row for row in result["rows"] if row["metric"] == "rate"}
    assert list(rates) == ["ours, loop", "ours, scan", "ours, 2 seeds", FLAX]
    assert all(len(row["values"]) == 2 and row["unit"] == "steps/s" for row in rates.values())
    (row,) = result["not_compared"]
    assert row["arm"] == FLAX
    assert "update of statistics" in row["quantities"]


def test_its_costs_are_those_of_the_step(written):
    result = json.loads(written.read_text())
    arms = {row["arm"] for row in result["rows"]}
    # Five matrix products of 2 * 8 * 64 * 8 operations and some elementwise work.
    flops = {row["arm"]: row["median"] * 1e6 for row in result["rows"] if row["metric"] == "flops"}
    assert set(flops) == arms - {FLAX}
    assert all(5 * 2 * 8 * 64 * 8 <= value <= 4 * 5 * 2 * 8 * 64 * 8 for value in flops.values())
    memory = {row["arm"]: row["median"] * 2**20 for row in result["rows"] if row["metric"] == "peak_memory"}
    weights = 4 * 3 * (2 * 64 * 8)  # and Adam's moments
    data = 2000 * 64
    assert set(memory) == arms
    assert weights + data < memory["ours, loop"] < memory["ours, 2 seeds"] < 10 * (weights + data)


def test_table_and_picture_can_be_written_again(written, capsys):
    table, picture = written.with_suffix(".md"), written.with_suffix(".png")
    before = table.read_text(), picture.read_bytes()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert before[0] == markdown(json.loads(written.read_text()))
    assert "| ours, scan |" in before[0]
    for path in (table, picture):
        path.unlink()
    run.run(run.parse_options(["--table", str(written)]))
    assert (table.read_text(), picture.read_bytes()) == before
    assert "| ours, scan |" in capsys.readouterr().out
    assert not [path for path in written.parent.iterdir() if not path.name.startswith("tiny")]


def test_a_quick_run_beside_pytorch(machine, monkeypatch, tmp_path):
    pytest.importorskip("torch")
    monkeypatch.setattr(checking, "peers_of", lambda work: [r for r in PEERS.values() if r.name in (EAGER, BF16, FLAX)])
    out = tmp_path / "tiny.json"
    options = run.parse_options(["--quick", "--only", "tiny", "--seeds", "1", "--out", str(out)])
    run.run(options, works={"tiny": tiny_sae}, measure=known(machine))
    result = json.loads(out.read_text())
    check_form(result)
    assert "torch" in result["versions"]
    assert {row["arm"] for row in result["agreement"]} == {EAGER, BF16, FLAX}
    ratios = {row["arm"]: row for row in result["rows"] if row["metric"] == "speedup"}
    (against,) = {row["against"] for row in ratios.values()}
    assert {against} == {EAGER, FLAX} - set(ratios)
    assert set(ratios) == {"ours, loop", "ours, scan", BF16, *({EAGER, FLAX} - {against})}  # no ensemble of one seed
    rates = {row["arm"]: row["values"] for row in result["rows"] if row["metric"] == "rate"}
    for arm, row in ratios.items():
        expected = [a / b for a, b in zip(rates[arm], rates[against], strict=True)]
        assert row["values"] == pytest.approx(expected)
    flops = {r["arm"]: r["median"] * 1e6 for r in result["rows"] if r["metric"] == "flops"}
    assert flops[EAGER] == flops[BF16] == flops[FLAX] == 5 * 2 * 8 * 64 * 8


def test_a_disagreeing_peer_ends_the_run_before_it_is_timed(machine, monkeypatch, tmp_path):
    def perturbed(work):
        params = jax.tree.map(lambda p: 1.01 * p, start(work).params)
        return [PEERS[FLAX]._replace(build=lambda work, _, pixels: PEERS[FLAX].build(work, params, pixels))]

    monkeypatch.setattr(checking, "peers_of", perturbed)
    monkeypatch.setattr(run.timing, "alternate", lambda *a, **k: pytest.fail("timed in spite of disagreement"))
    options = run.parse_options(["--quick", "--only", "tiny", "--out", str(tmp_path / "tiny.json")])
    with pytest.raises(DisagreementError, match="do not compute the same thing"):
        run.run(options, works={"tiny": tiny_sae}, measure=known(machine))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def quiet_timing(monkeypatch, machine):
    """Toys are timed by what the test says: a rate, and the load of other processes."""

    def set_to(rate: float, load: float = 0.0):
        found = Timing([rate] * 3, [load] * 3)
        monkeypatch.setattr(run.timing, "alternate", lambda arms, **k: {arm.name: found for arm in arms})
        monkeypatch.setattr(run, "ours", lambda *a, **k: [Arm("ours, scan", lambda n: None, 1, role="ours")])
        monkeypatch.setattr(run, "MATRIX_PRODUCTS", ())
        return {"works": {"toy": toy}, "measure": known(machine)}

    return set_to


@pytest.mark.parametrize("busy", [False, True])
def test_only_a_quiet_complete_run_replaces_the_published_result(quiet_timing, monkeypatch, tmp_path, capsys, busy):
    monkeypatch.setattr(results, "RESULTS", tmp_path / "published")
    given = quiet_timing(2.0, 0.9 * busy)
    run.run(run.parse_options(["--quick"]), **given)
    run.run(run.parse_options(["--only", "to*"]), **given)
    run.run(run.parse_options(["--no-peers"]), **given)
    assert not (tmp_path / "published").exists()
    run.run(run.parse_options([]), **given)
    found = sorted(f.name for f in tmp_path.rglob("steps*"))
    assert found == ([] if busy else ["steps_cpu.json", "steps_cpu.md", "steps_cpu.png"])
    assert ("was left as it is" in capsys.readouterr().out) == busy


def test_what_changed_since_an_earlier_result_is_printed(quiet_timing, tmp_path, capsys):
    arguments = ["--only", "toy", "--no-peers", "--seconds", "1", "--out", str(tmp_path / "old.json")]
    run.run(run.parse_options(arguments), **quiet_timing(2.0))
    compare = ["--compare", str(tmp_path / "old.json"), *arguments[:-1], str(tmp_path / "new.json")]
    run.run(run.parse_options(compare), **quiet_timing(5.0))
    assert "| toy | ours, scan | 2.5 (2.5 to 2.5) | 2.5 (2.5 to 2.5) | faster |" in capsys.readouterr().out
    assert changes.ratio({"median": 5.0, "values": [5.0]}, {"median": 2.0, "values": [2.0]}) == (2.5, None, None)


def test_bounds_scaling_and_run_measure_the_same_machine():
    assert run.run.__kwdefaults__["measure"] is measure_machine


def test_the_rows_of_products_have_no_speedup():
    arms = [Arm("xla 2x2x2", lambda n: None, 1, 16.0)]
    rows = step_rows(run.PRODUCTS, arms, {"xla 2x2x2": Timing([1.0], [0.0])}, unit="products/s")
    assert {row["metric"] for row in rows} == {"rate", "flops", "throughput", "other load"}
