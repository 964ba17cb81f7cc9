"""The study of disentanglement: changes paired by seed, and the script at a tiny size."""

import json

import pytest
from command_line import command

from saegan_jax.data import shapes
from saegan_jax.report.disentangle import COMPARED, METRICS, rows_of, tables
from saegan_jax.report.table import Result
from saegan_jax.runs import disentangle
from saegan_jax.runs.disentangle import DENSE, PCA, Study


def test_changes_are_paired_by_seed_and_the_baseline_has_none_against_itself():
    seeds = [0.10, 0.20, 0.30, 0.40, 0.50]
    near = [0.99, 1.01, 1.0, 1.01, 0.99]
    values = {
        DENSE: dict.fromkeys(METRICS, seeds),
        PCA: dict.fromkeys(METRICS, [0.2] * 5),
        "topk": {metric: [2 * v * f for v, f in zip(seeds, near, strict=True)] for metric in METRICS},
        "l1": {metric: [*seeds[:4], None] for metric in METRICS},
    }
    rows = rows_of(values, {arm: {} for arm in values}, baselines=(DENSE, PCA), chance=0.2)
    found = {(row.arm, row.metric): row for row in rows}
    for metric in COMPARED:
        against = found["topk", metric]["against"]
        # Twice as much in every seed, however much the seeds differ.
        assert against[DENSE]["change"] == pytest.approx(1, abs=0.001)
        assert 0.95 < against[DENSE]["low"] < 1 < against[DENSE]["high"] < 1.05
        assert against[DENSE]["verdict"] == "better"
        assert against[PCA]["verdict"] == "undecided"
        assert set(found[DENSE, metric]["against"]) == {PCA}
        assert found["l1", metric]["against"][DENSE]["change"] < 0  # a failed seed counts as the worst
    assert found["topk", "informativeness"].floor == 0.2
    assert found["topk", "l0"].get("against") is None
    result = Result(name="n", command="c", commit="", device="d", versions={}, rows=tuple(rows), extra={"note": "text"})
    lines = tables(result).splitlines()
    (heading,) = (i for i, line in enumerate(lines) if line == f"## Change against {DENSE}")
    line = next(line for line in lines[heading:] if line.startswith("| topk"))
    assert line.count("+100 % [") == len(COMPARED)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(shapes, "SIZES", {"train": 120, "validation": 30, "test": 40})


def test_the_script_scores_arms_and_keeps_them(few, tmp_path):
    path = tmp_path / "found.json"
    tiny = ["--study.d", 4, "--study.k", 2, "--study.steps", 2, "--study.batch-size", 8, "--study.fitted", 100]
    arms = [DENSE, PCA, "untrained topk", "topk"]
    asked = ["disentangle", *tiny, "--study.seeds", 2, "--arms", *arms, "--out", tmp_path / "out", "--results", path]
    outcome = command(*asked)
    assert outcome.code == 0, outcome.err
    rows = json.loads(path.read_text())["rows"]
    found = {(row["arm"], row["metric"]): row for row in rows}
    assert [row["arm"] for row in rows[:: len(METRICS)]] == arms
    assert all(len(row["values"]) == 2 and row["mean"] is not None for row in rows)
    assert found["topk", "l0"]["mean"] <= 2 < found[PCA, "l0"]["mean"]
    assert found[PCA, "fvu"]["mean"] < found["untrained topk", "fvu"]["mean"]
    assert set(found["topk", "mig"]["against"]) == {DENSE, PCA}
    again = command(*asked)
    assert again.out.count("kept from") == len(arms)
    assert json.loads(path.read_text())["rows"] == rows
    refused = command("disentangle", "--study.k", 9, "--study.d", 8)
    assert refused.code == 2
    assert "k = 9" in refused.err


def test_a_penalty_is_chosen_by_the_number_of_active_units_without_factors(few, monkeypatch):
    made = shapes.shapes_with_factors()._replace(factors={})
    study = Study(d=4, k=2, steps=1, batch_size=8, fitted=100, seeds=2)
    config = disentangle.base_config(study, "l1", (32, 32, 3))
    l0 = {0.1: 3.9, 0.2: 3.0, 0.4: 1.9, 0.8: 0.4, 1.2: float("nan")}
    seen = []

    def scored(members, states, images):
        seen.extend((m.seed, len(images)) for m in members)
        return type("Scores", (), {"l0": [l0[m.config.beta] for m in members]})

    monkeypatch.setattr(disentangle, "_train", lambda *a: None)
    monkeypatch.setattr(disentangle, "score_members", scored)
    assert disentangle.chosen(study, config, made, print).beta == 0.4
    assert set(seen) == {(2, 30)}  # a seed of its own, on the validation images
    assert disentangle.chosen(study, disentangle.base_config(study, "topk", (32, 32, 3)), made, print).k == 2
