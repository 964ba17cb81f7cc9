"""Tables, pictures, and what changed between two results."""

import copy
import io
import json

import numpy as np
import pytest
from PIL import Image
from tiny_works import check_form

from benchmarks.harness import changes
from benchmarks.harness.reports import REPORTS, markdown, parts, pictures, report_of
from benchmarks.harness.results import RESULTS, read_result
from benchmarks.harness.rows import row, summary

PUBLISHED = sorted(RESULTS.glob("*.json"))
UNPUBLISHED = {"forms"}
"""Kinds that want an accelerator, of which none has been measured; test_forms.py reads their tables."""
KINDS = [kind for kind in REPORTS if kind not in UNPUBLISHED]


@pytest.fixture
def result():
    return {
        "name": "Steps",
        "command": "c",
        "commit": "new",
        "device": "CPU",
        "versions": {"python": "3", "jax": "1"},
        "settings": {"repeats": 2, "seconds": 1.0, "n_images": 10, "threads": 2},
        "machine": {"flops_per_s": 2e11, "bytes_per_s": 3e10},
        "agreement": [],
        "not_compared": [{"work": "gan_dcgan_w32", "arm": "Keras, TensorFlow", "quantities": ["ema", "r1"]}],
        "skipped": [{"work": "large", "arm": "all", "reason": "no accelerator."}],
        "rows": [
            row("matrix_products", "xla 2x2x2", "rate", "products/s", [1.0, 1.0]),
            row("matrix_products", "xla 2x2x2", "throughput", "GFLOP/s", [200.0, 200.0]),
            row("gan_dcgan_w32", "ours, scan", "rate", "steps/s", [40.0, 44.0]),
            row("gan_dcgan_w32", "ours, scan", "images", "images/s", [2560.0, 2816.0]),
            row("gan_dcgan_w32", "ours, scan", "speedup", "times", [2.0, 2.2], against="PyTorch, eager"),
            row("gan_dcgan_w32", "ours, scan", "speedup_bf16", "times", [1.0, 1.2], against="PyTorch, bf16"),
            row("gan_dcgan_w32", "ours, scan", "share", "of the product rate", [0.5, 0.54]),
            row("gan_dcgan_w32", "ours, scan", "floor_compute", "ms a step", [12.5]),
            row("gan_dcgan_w32", "ours, scan", "floor_memory", "ms a step", [0.25]),
            row("gan_dcgan_w32", "ours, scan", "peak_memory", "MiB", [100.0]),
            row("gan_dcgan_w32", "PyTorch, eager", "rate", "steps/s", [20.0, 20.0]),
            row("gan_dcgan_w32", "PyTorch, bf16", "rate", "steps/s", [40.0, 40.0], dtype="bfloat16"),
            row("gan_dcgan_w32", "PyTorch, bf16", "share", "of the product rate", [0.05, 0.054], dtype="bfloat16"),
        ],
    }


def test_the_table_has_a_column_for_each_metric_that_there_is(result):
    text = markdown(result)
    heads = (
        "steps/s | images/s | times PyTorch, eager | times PyTorch, bf16 | of the product rate | floor: operations, ms"
    )
    assert f"| | {heads} | floor: memory, ms | peak, MiB |" in text
    cells = "42 (41 to 43) | 2,688 (2,624 to 2,752) | 2.1 (2.05 to 2.15) | 1.1 (1.05 to 1.15) | 52% (51% to 53%)"
    assert f"| ours, scan | {cells} | 12.5 | 0.25 | 100 |" in text
    assert "| PyTorch, bf16 | 40 (40 to 40) |  |  |  | 5.2% (5.1% to 5.3%) |  |  |  |" in text
    assert "Measured here: 200 GFLOP/s in the best float32 matrix product, 30 GB/s" in text
    assert "- Not compared: gan_dcgan_w32, Keras, TensorFlow: ema, r1." in text
    assert "- Not timed: large, all: no accelerator." in text
    assert "bfloat16 compute with less precision" in text
    with pytest.raises(ValueError, match="bounds, scaling, feeding"):
        markdown({**result, "report": "os"})


def test_the_picture_has_a_panel_per_work_and_marks_the_floor(result):
    whole = Image.open(io.BytesIO(pictures.steps(result)))
    assert whole.format == "PNG"
    alone = {**result, "rows": [r for r in result["rows"] if r["work"] != "matrix_products"]}
    one = Image.open(io.BytesIO(pictures.steps(alone)))
    assert one.width < whole.width

    def reds(picture):  # the floor's colour
        r, g, b = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), -1, 0)
        return int(((r > 180) & (g < 80) & (b < 80)).sum())

    without = {**alone, "rows": [r for r in alone["rows"] if r["metric"] != "floor_compute"]}
    assert reds(one) > 50
    assert reds(Image.open(io.BytesIO(pictures.steps(without)))) == 0
    with pytest.raises(ValueError, match="nothing to draw"):
        pictures.steps({**result, "rows": [r for r in result["rows"] if r["metric"] != "rate"]})


@pytest.mark.parametrize("name", ["steps_64_cpu", "scaling_cpu"])
def test_published_results_can_be_drawn(name):
    result = json.loads((RESULTS / f"{name}.json").read_text())
    assert Image.open(io.BytesIO(report_of(result).picture(result))).width > 300


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_results_have_the_form_and_their_table(path):
    result = json.loads(path.read_text())
    check_form(result)
    assert "incomplete" not in result
    assert read_result("--table", path) == result
    assert path.with_suffix(".md").read_text() == markdown(result)
    short = path.with_name(f"{path.stem}-summary.md")
    assert (short.read_text() if short.exists() else None) == report_of(result).summary(result)
    assert path.with_suffix(".png").exists() == (report_of(result).picture is not None)


def test_every_kind_of_result_is_published():
    assert {json.loads(path.read_text()).get("report", "steps") for path in PUBLISHED} == set(KINDS)
    assert (RESULTS / "steps_cpu-summary.md").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_an_incomplete_result_is_marked(kind):
    published = (json.loads(path.read_text()) for path in PUBLISHED)
    result = next(result for result in published if result.get("report", "steps") == kind)
    left = {"reason": "stopped by SIGTERM", "not_finished": ["one", "another"]}
    whole, part = markdown(result), markdown({**result, "incomplete": left})
    assert "**Incomplete**: stopped by SIGTERM; not finished: one, another." in part
    assert part.replace("**Incomplete**: stopped by SIGTERM; not finished: one, another.\n\n", "") == whole


def test_other_processes_are_named_where_they_took_cores(result):
    busy = {**result, "rows": [*result["rows"], row("w", "ours, scan", "rate", "steps/s", [1.0])]}
    busy["rows"].append(row("w", "ours, scan", "other load", "cores", [0.3]))
    assert "**The machine was busy**: other processes used up to 0.3 cores" in markdown(busy)
    assert parts.load(result) == 0.0
    assert "busy" not in markdown(result)


def test_changes_are_ratios_with_intervals_also_per_product_rate(result):
    old = copy.deepcopy(result)
    old["commit"] = "old"
    del old["machine"]  # an older result, on a machine of half the speed
    for r in old["rows"]:
        r["work"] = {"gan_dcgan_w32": "gan_non_saturating"}.get(r["work"], r["work"])
        if r["metric"] == "throughput":
            r["median"] /= 2
        if r["arm"] == "ours, scan" and r["metric"] == "rate":
            r |= summary([10.0, 10.0])
    old["versions"]["jax"] = "0"
    old["rows"] = [r for r in old["rows"] if r["arm"] != "PyTorch, bf16"]
    old["rows"].append(row("gone", "ours, scan", "rate", "steps/s", [1.0, 1.0]))
    text = changes.changes(result, old)
    assert "| gan_dcgan_w32 | ours, scan | 4.2 (4 to 4.4) | 2.1 (2 to 2.2) | faster |" in text
    assert "| gan_dcgan_w32 | PyTorch, eager | 1 (1 to 1) | 0.5 (0.5 to 0.5) |  |" in text
    assert "- jax: 1, before 0" in text
    assert "- not in the old result: gan_dcgan_w32: PyTorch, bf16" in text
    assert "- not in the new result: gone" in text
    assert "device" not in text
    back = changes.changes(old, result)
    assert "| ours, scan | 0.238 (0.227 to 0.25) | 0.476 (0.455 to 0.5) | slower |" in back.replace(
        "gan_dcgan_w32 | ", ""
    )


def test_a_single_repeat_has_no_interval_and_no_verdict(result):
    rows = [row("w", "ours, scan", "rate", "steps/s", [3.0])]
    old = {
        **result,
        "device": "GPU",
        "rows": [row("w", "ours, scan", "rate", "steps/s", [1.0])],
        "machine": {"flops_per_s": 2e11},
    }
    text = changes.changes({**result, "rows": rows}, old)
    assert "| w | ours, scan | 3 | 3 |  |" in text
    assert "- device: CPU, before GPU" in text
    nothing = changes.changes({**result, "rows": rows}, {**old, "rows": []})
    assert "No arm is in both results." in nothing
    assert "not in the old result: w" in nothing
