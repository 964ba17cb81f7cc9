"""Rows, results and tables: what is written can be read, and every published table comes out of its JSON again."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import ROOT

from experiments import publish
from saegan_jax.errors import ConfigError
from saegan_jax.files import write_json
from saegan_jax.report import (
    audit_defects,
    comparison,
    control,
    disentangle,
    labels,
    modes,
    papers,
    prior_gap,
    shift,
    steering,
    sweep,
    synth_bench,
)
from saegan_jax.report.table import Result, Row, cell, document, each, floor_rows, origin, pivot, present_name
from saegan_jax.runs.reliability import rows
from saegan_jax.stats import effects

RESULTS = ROOT / "experiments" / "results"
PUBLISHED = sorted([*RESULTS.glob("*.json"), *(ROOT / "benchmarks" / "results").glob("*.json")])
# By the beginning of a file's name.
TABLES: dict[str, Callable[[Result], str]] = {
    "audit_defects_": audit_defects.tables,
    "compare_": partial(comparison.tables, every=False),
    "control_": control.tables,
    "energy_": publish.tables,
    "gan_": publish.tables,
    "saegan_": publish.tables,
    "gaussians": partial(modes.tables, metrics=modes.MIXTURE_METRICS),
    "stacked_mnist": partial(modes.tables, metrics=modes.STACKED_METRICS),
    "prior_gap_": prior_gap.tables,
    "sae_frontier_": sweep.tables,
    "sae_shift_": shift.tables,
    "reliability_": rows.tables,
    "sae_papers": papers.tables,
    "steer_": steering.tables,
    "disentangle_": disentangle.tables,
    "synth_bench_": synth_bench.tables,
    "cyclegan_labels_": labels.tables,
    "cyclegan_codes_": labels.code_tables,
}
# Markdown beside the results that is not made from one of them, and why.
WRITTEN_BY_HAND = {"does-sparsity-help.md": "an answer in words, whose numbers are quoted from several results"}


def table_of(path: Path) -> tuple[Path, Callable[[Result], str]]:
    """The JSON file and the function that made a Markdown file."""
    if path.stem.endswith("-all"):
        return path.with_name(path.stem.removesuffix("-all") + ".json"), partial(comparison.tables, every=True)
    (make,) = (make for name, make in TABLES.items() if path.stem.startswith(name))
    return path.with_suffix(".json"), make


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.md")), ids=lambda path: path.name)
def test_every_published_table_is_made_from_its_json(path: Path) -> None:
    if path.name in WRITTEN_BY_HAND:
        assert not path.with_suffix(".json").exists()
        return
    source, make = table_of(path)
    assert make(Result.read(source)) == path.read_text()


def test_every_result_has_its_table() -> None:
    assert {path.stem for path in RESULTS.glob("*.json")} <= {path.stem for path in RESULTS.glob("*.md")}
    assert len(PUBLISHED) >= 27


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_every_published_result_survives_reading_and_writing(path: Path, tmp_path: Path) -> None:
    Result.read(path).write(tmp_path / "again.json", "text\n")
    old, new = (json.loads(file.read_text()) for file in (path, tmp_path / "again.json"))
    old |= {name: present_name(old[name]) for name in ("note",) if name in old}
    for before, after in zip(old.pop("rows"), new.pop("rows"), strict=True):
        before |= {name: present_name(before[name]) for name in ("arm", "metric")}
        assert {name: after[name] for name in before} == before
        added = after.keys() - before.keys()
        assert all(not after[name] for name in added), added  # null, or no unit
    assert new == old
    assert (tmp_path / "again.md").read_text() == "text\n"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("compare_*.json")), ids=lambda path: path.stem)
def test_published_changes_are_those_of_the_published_values(path: Path) -> None:
    rows = Result.read(path).rows
    for metric, lower in comparison.METRICS.items():
        values = {
            (row["fraction"], row.arm): [math.nan if v is None else v for v in row.values]
            for row in rows
            if row.metric == metric
        }
        arms = {key: found for key, found in values.items() if key[1] != comparison.BASELINE}
        paired = {key: min(len(found), len(values[key[0], comparison.BASELINE])) for key, found in arms.items()}
        base = {key: values[key[0], comparison.BASELINE][:n] for key, n in paired.items()}
        found = effects(base, {key: arms[key][:n] for key, n in paired.items()}, lower_is_better=lower)
        saved = {
            (row["fraction"], row.arm): row["change"] for row in rows if row.metric == metric and row.get("change")
        }
        assert found.keys() == saved.keys()
        for key, effect in found.items():
            assert effect.verdict == saved[key]["verdict"]
            ends = [saved[key][name] for name in ("change", "low", "high")]
            np.testing.assert_allclose(effect[:3], ends, rtol=1e-9, atol=1e-12)


def row(arm: str, metric: str, mean: float | None, **fields: Any) -> Row:
    return Row(arm=arm, metric=metric, mean=mean, **fields)


def test_a_row_of_values_has_their_mean_and_interval() -> None:
    one = Row.of("ours", "recall", [0.5, 0.7, 0.6], unit="share", floor=0.9, published=0.8, fraction=0.1)
    assert one.mean == pytest.approx(0.6)
    assert one.low is not None
    assert one.high is not None
    assert 0.5 <= one.low < 0.6 < one.high <= 0.7
    assert (one["floor"], one["published"], one["fraction"], one.get("dose", 7)) == (0.9, 0.8, 0.1, 7)
    with pytest.raises(KeyError):
        one["dose"]
    assert Row.of("ours", "recall", [0.5]).low is None
    assert Row.of("ours", "recall", []).mean is None


def test_a_failed_value_is_kept_as_none_and_takes_the_mean_with_it() -> None:
    failed = Row.of("ours", "fid", [1.0, math.nan, 3.0], floor=math.nan)
    assert (failed.values, failed.mean, failed.low, failed.floor) == ((1.0, None, 3.0), None, None, None)
    assert cell(failed) == "1 of 3 failed"
    counted = Row.of("ours", "fid", [1.0, None, math.inf, 3.0], skip_failed=True)
    assert (counted.values, counted.mean) == ((1.0, None, None, 3.0), 2.0)
    assert Row.of("ours", "fid", [None, None], skip_failed=True).mean is None


@pytest.mark.parametrize("fields", [{"mean": math.nan}, {"floor": math.inf}, {"values": (1.0, -math.inf)}])
def test_a_row_refuses_numbers_that_are_not_finite(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"= -?(nan|inf) of 'fid', arm 'ours': a result holds finite numbers"):
        Row(arm="ours", metric="fid", **fields)


def test_a_row_refuses_a_second_field_of_the_same_name() -> None:
    with pytest.raises(ValueError, match="extra of 'fid', arm 'ours' has mean"):
        Row(arm="ours", metric="fid", extra={"mean": 1.0})


def result(*rows: Row, **extra: Any) -> Result:
    return Result(
        name="n", command="c", commit="abc", device="d", versions={"python": "3", "jax": "1"}, rows=rows, extra=extra
    )


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    one = result(Row.of("a", "m", [1.0, math.nan], dose=2.0), note="text", config={"k": [1, 2]})
    one.write(path, "table\n")
    assert Result.read(path) == one
    saved = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert list(saved) == ["name", "command", "commit", "device", "versions", "note", "config", "rows"]
    assert set(saved["rows"][0]) == {
        "arm", "metric", "unit", "mean", "low", "high", "values", "floor", "published", "dose",
    }  # fmt: skip
    assert origin(one) == "`c` on d; python 3, jax 1."


def test_nan_in_an_older_file_is_read_as_none(tmp_path: Path) -> None:
    saved = result(row("a", "m", 1.0)).to_json()
    saved["rows"][0] |= {"mean": math.nan, "values": [1.0, math.nan]}
    (tmp_path / "old.json").write_text(json.dumps(saved))
    (one,) = Result.read(tmp_path / "old.json").rows
    assert (one.mean, one.values) == (None, (1.0, None))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("best look", "best evaluation"),
        ("ours, best look", "ours, best evaluation"),
        ("*Best* and *last look*: of few samples", "*Best* and *last evaluation*: of few samples"),
        ("*Best look*: each seed's", "*Best evaluation*: each seed's"),
        ("at last looked for", "at last looked for"),
        ("recall", "recall"),
    ],
)
def test_names_of_earlier_versions_are_read(old: str, new: str, tmp_path: Path) -> None:
    """They called an evaluation on the way a look."""
    assert present_name(old) == new
    (tmp_path / "old.json").write_text(json.dumps(result(row(old, old, 1.0), note=old).to_json()))
    read = Result.read(tmp_path / "old.json")
    assert (read.rows[0].arm, read.rows[0].metric, read.extra["note"]) == (new, new, new)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"name": "n"}', "\x00"])
def test_a_file_that_is_no_result_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text(text)
    with pytest.raises(ConfigError, match=r"result = '.*no\.json' cannot be used: it is not a published result"):
        Result.read(tmp_path / "no.json")
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        Result.read(tmp_path / "nowhere.json")


def test_a_result_of_a_row_without_an_arm_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text(json.dumps(result().to_json() | {"rows": [{"metric": "m"}]}))
    with pytest.raises(ConfigError, match="a row has no arm, only metric"):
        Result.read(tmp_path / "no.json")


ROWS = [
    row("a", "fid", 1.23456, low=1.0, high=2.0, floor=0.5, extra={"steps": 4000}),
    row("a", "recall", 0.5, extra={"steps": 4000}),
    row("b", "fid", 20000.0, extra={"steps": 30}),
]


def test_a_pivot_of_two_fields() -> None:
    assert pivot(ROWS) == "\n".join(
        ["| | fid | recall |", "|---|---|---|", "| a | 1.23 [1, 2] | 0.5 |", "| b | 2e+04 |  |"]
    )
    assert pivot(ROWS, index="metric", columns="arm", corner="m", spaced_rule=True) == "\n".join(
        ["| m | a | b |", "| --- | --- | --- |", "| fid | 1.23 [1, 2] | 2e+04 |", "| recall | 0.5 |  |"]
    )


def test_a_pivot_of_chosen_columns() -> None:
    columns = {"R": "recall", "steps": each("steps", of="fid", form="{:,}".format), "floor": each("floor")}
    shown = pivot(ROWS, columns=columns, cell=partial(cell, digits=1))
    assert shown.splitlines()[2:] == ["| a | 0.5 | 4,000 | 0.5 |", "| b |  | 30 |  |"]
    assert pivot(ROWS, columns={"R": "recall"}, drop_empty=True).splitlines()[2:] == ["| a | 0.5 |"]


def test_a_pivot_with_several_fields_down_the_side_and_floors() -> None:
    rows = [*floor_rows(ROWS, "real"), *ROWS]
    shown = pivot(
        rows, index=("arm", "metric"), corner=("", "of"), columns={"value": lambda line: cell(*line.values())}
    )
    assert shown.splitlines() == [
        "| | of | value |", "|---|---|---|", "| real | fid | 0.5 |", "| a | fid | 1.23 [1, 2] |", "| a | recall | 0.5 |",
        "| b | fid | 2e+04 |",
    ]  # fmt: skip


def test_a_bar_in_a_text_does_not_end_its_cell() -> None:
    shown = pivot([row("|x|", "|pixel|", 1.0)])
    assert shown.splitlines()[0] == r"| | \|pixel\| |"
    assert shown.splitlines()[2] == r"| \|x\| | 1 |"


def test_a_document_is_paragraphs() -> None:
    assert document("a", "", "b") == "a\n\nb\n"


def test_a_finished_run_with_a_failed_seed_is_published_as_it_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_json(run / "config.json", {"script": "gan", "options": {"dataset": "digits"}})
    measured = {"recall": {"values": [0.5, math.nan], "unit": "share", "note": "near", "floor": 0.9}}
    write_json(run / "summary.json", {"rows": measured})
    publish.publish(publish.Publish(run=run, command="c", out=tmp_path / "out.json"))
    (one,) = Result.read(tmp_path / "out.json").rows
    assert (one.values, one.mean, one.floor) == ((0.5, None), None, 0.9)
    assert "| recall | 1 of 2 failed | share | near |" in (tmp_path / "out.md").read_text()
