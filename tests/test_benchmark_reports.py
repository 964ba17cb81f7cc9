"""What the benchmarks say of their numbers: costs, floors, profiles, growth, tables, pictures; no time is asserted."""

import copy
import io
import json
import math
from types import SimpleNamespace

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks import bounds, compare, measure, plots, run, scaling, tables, work_sae
from benchmarks.bounds import UNKNOWN_LOOP, Cost, Machine
from saegan_jax.algorithms.base import Algorithm

SHAPE = (8, 8, 1)


def compiled(function, *shapes, dtype=jnp.float32):
    return jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)).compile()


def convolve(x, w, *, strides=(2, 2), padding=((1, 1), (1, 1)), **options):
    return jax.lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


# Costs ----------------------------------------------------------------------------------------------------------------


def test_a_product_costs_its_operations_and_its_arrays():
    program = compiled(jnp.matmul, (32, 64), (64, 16))
    size = 4 * (32 * 64 + 64 * 16 + 32 * 16)
    assert bounds.cost(program) == Cost(2 * 32 * 64 * 16, size, size)


@pytest.mark.parametrize(
    ("function", "shapes", "flops"),
    [
        (lambda a, b: jnp.einsum("bij,bjk->bik", a, b), [(4, 8, 16), (4, 16, 2)], 2 * 4 * 8 * 16 * 2),
        (lambda x: jnp.sum(x * x + jnp.exp(x)), [(10, 20)], 2 * 200 + 199),
        (convolve, [(2, 8, 8, 3), (4, 4, 3, 5)], None),
        (lambda x, w: convolve(x, w, feature_group_count=2), [(2, 8, 8, 6), (4, 4, 3, 8)], None),
        (
            lambda x, w: convolve(x, w, strides=(1, 1), padding=((2, 2), (2, 2)), lhs_dilation=(2, 2)),
            [(2, 5, 5, 4), (4, 4, 4, 3)],
            None,
        ),
        (lambda x, w: jax.grad(lambda v: convolve(x, v).sum())(w), [(2, 8, 8, 3), (4, 4, 3, 5)], None),
        (lambda x, w: jax.grad(lambda v: convolve(v, w).sum())(x), [(2, 8, 8, 3), (4, 4, 3, 5)], None),
        (jnp.cumsum, [(100,)], None),
        (jnp.sort, [(64,)], 64 * 6),
        (lambda x: x.at[jnp.arange(5)].add(jnp.float32(1)), [(100,)], 5),
        (lambda x: x[jnp.arange(5)] * 2, [(100, 10)], None),
    ],
    ids=[
        "batched",
        "elementwise",
        "conv",
        "grouped",
        "transposed",
        "kernel",
        "image",
        "cumsum",
        "sort",
        "scatter",
        "gather",
    ],
)
def test_costs_without_loops_are_those_of_xla(function, shapes, flops):
    program = compiled(function, *shapes)
    theirs, ours = program.cost_analysis(), bounds.cost(program)
    assert ours.flops == theirs["flops"]
    assert ours.flops == flops or flops is None
    # Where a large array is read or changed in a few places only, XLA sometimes counts all of it.
    assert ours.bytes <= theirs["bytes accessed"]
    assert ours.bytes > 0.05 * theirs["bytes accessed"]


def test_loops_count_as_often_as_they_run_and_xla_counts_them_once():
    def loops(x):
        def inner(y, _):
            return y @ y, None

        def outer(y, _):
            return jax.lax.scan(inner, y, None, length=3)[0], y[0, 0]

        return jax.lax.scan(outer, x, None, length=5)

    program = compiled(loops, (16, 16))
    product = 2 * 16**3
    assert program.cost_analysis()["flops"] < 2 * product
    by_kind = {row["kind"]: row for row in bounds.breakdown(program)}
    assert by_kind["dot"]["flops"] == 15 * product
    assert by_kind["dot"]["count"] == 15
    assert 15 * product <= bounds.cost(program).flops < 16 * product
    assert UNKNOWN_LOOP not in by_kind


def test_a_loop_of_unknown_length_is_counted_once_and_said():
    program = compiled(lambda x: jax.lax.while_loop(lambda y: y[0, 0] < 1, lambda y: y @ y, x), (16, 16))
    by_kind = {row["kind"]: row for row in bounds.breakdown(program)}
    assert by_kind["dot"]["flops"] == 2 * 16**3
    assert UNKNOWN_LOOP in by_kind


def test_of_a_conditional_the_costliest_branch_counts():
    program = compiled(lambda x: jax.lax.cond(x[0, 0] > 0, lambda y: y @ y @ y, lambda y: y @ y, x), (16, 16))
    dots = [op for op in bounds.operations(program.as_text()) if op.kind == "dot"]
    assert sum(op.flops * op.runs for op in dots) == 2 * 2 * 16**3


def test_the_breakdown_adds_up_to_the_cost():
    program = compiled(lambda x, w: jnp.sum(jnp.tanh(x @ w), axis=0), (32, 64), (64, 16))
    rows, whole = bounds.breakdown(program), bounds.cost(program)
    assert sum(row["flops"] for row in rows) == whole.flops
    assert sum(row["bytes"] for row in rows) == whole.bytes
    assert sum(row["flops_share"] for row in rows) == pytest.approx(1)
    assert sum(row["bytes_share"] for row in rows) == pytest.approx(1)
    assert rows[0]["kind"] == "dot"


GPU_TEXT = """HloModule jit_f, is_scheduled=true

%graph (p0: bf16[8,32], p1: bf16[32,16]) -> (bf16[8,16], s8[64]) {
  %p0 = bf16[8,32]{1,0} parameter(0)
  %p1 = bf16[32,16]{1,0} parameter(1)
  ROOT %cublas-gemm.1 = (bf16[8,16]{1,0}, s8[64]{0}) custom-call(%p0, %p1), custom_call_target="__cublas$gemm", metadata={op_name="jit(f)/dot_general" source_file="a (b).py"}, backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
}

ENTRY %main (a: bf16[8,32], b: bf16[32,16], x: f32[2,3,8,8], g: f32[2,5,4,4]) -> f32[5,3,4,4] {
  %a = bf16[8,32]{1,0} parameter(0)
  %b = bf16[32,16]{1,0} parameter(1)
  %x = f32[2,3,8,8]{3,2,1,0} parameter(2)
  %g = f32[2,5,4,4]{3,2,1,0} parameter(3)
  %call = (bf16[8,16]{1,0}, s8[64]{0}) call(%a, %b), to_apply=%graph
  %all-reduce-start = f32[2,5,4,4]{3,2,1,0} all-reduce-start(%g), channel_id=1
  %all-reduce-done = f32[2,5,4,4]{3,2,1,0} all-reduce-done(%all-reduce-start)
  ROOT %cudnn-conv = (f32[5,3,4,4]{3,2,1,0}, u8[0]{0}) custom-call(%x, %all-reduce-done), window={size=4x4 stride=2x2 pad=1_1x1_1}, dim_labels=bf01_oi01->bf01, custom_call_target="__cudnn$convBackwardFilter"
}
"""  # noqa: E501


def test_libraries_products_and_convolutions_on_gpus_are_counted():
    ops = {op.name: op for op in bounds.operations(GPU_TEXT)}
    assert set(ops) == {"cublas-gemm.1", "all-reduce-start", "cudnn-conv"}
    assert [op.kind for op in ops.values()] == ["dot", "collective", "convolution"]
    assert ops["cublas-gemm.1"].flops == 2 * 8 * 16 * 32
    assert ops["cublas-gemm.1"].bytes == 2 * (8 * 32 + 32 * 16 + 8 * 16) + 64
    assert ops["cublas-gemm.1"].source == "jit(f)/dot_general"
    whole = bounds.cost(compiled(jax.grad(lambda w, x: convolve(x, w).sum()), (4, 4, 3, 5), (2, 8, 8, 3)))
    assert ops["cudnn-conv"].flops == 2 * 2 * 5 * 3 * 14**2 == whole.flops


def test_what_has_no_text_has_no_cost():
    assert bounds.cost(SimpleNamespace(as_text=lambda: None)) is None
    assert bounds.cost(SimpleNamespace()) is None
    with pytest.raises(ValueError, match="no ENTRY"):
        bounds.operations("module @jit_f {}")


def test_floors_are_seconds_at_the_machines_rates(monkeypatch):
    assert bounds.floors(Cost(6e9, 5e8, 1), Machine(3e9, 1e9)) == (2.0, 0.5)
    rates = {"xla 8x8x8": [2.0, 9.0, 3.0], "xla 4x8x2": [10.0, 10.0, 10.0], "2 x 1 MiB": [5.0, 4.0, 4.5]}
    monkeypatch.setattr(bounds, "CPU_SHAPES", ((8, 8, 8), (4, 8, 2)))
    monkeypatch.setattr(bounds, "ARRAY_BYTES", {"cpu": 2**20})

    def timings(arms, **options):
        for arm in arms:
            arm.run(2)
        return {arm.name: measure.Timing(rates[arm.name], [0.0] * 3) for arm in arms}

    monkeypatch.setattr(measure, "alternate", timings)
    assert bounds.measure_machine(1.0) == Machine(3.0 * 2 * 8**3, 4.5 * 3 * 2**20)
    assert bounds.array_bytes() == 2**20
    assert bounds.available_bytes() > 0


# Profiles -------------------------------------------------------------------------------------------------------------


def event(name, start, duration, **stats):
    return SimpleNamespace(name=name, start_ns=start, duration_ns=duration, stats=tuple(stats.items()))


def plane(name, **lines):
    return SimpleNamespace(name=name, lines=[SimpleNamespace(name=n, events=e) for n, e in lines.items()])


def test_an_operation_that_another_thread_finishes_is_done_later():
    host = plane(
        "/host:CPU",
        one=[event("dot.1", 0, 40, hlo_op="dot.1", _p=7), event("while", 0, 90, hlo_op="while", _p=8)],
        two=[event("end: dot.1", 60, 1, _c=7), event("add", 70, 10, hlo_op="add", _p=9), event("python", 0, 100)],
    )
    runs = bounds.events([plane("/device:CUSTOM:x"), host], {"while"})
    assert runs == [("dot.1", 0, 40, 60), ("add", 70, 80, 80)]
    assert bounds.busy((one.start, one.end) for one in runs) == 50
    assert bounds.busy([(0, 5), (1, 2), (4, 8), (10, 11)]) == 9


def test_of_a_devices_lines_only_its_streams_count():
    host = plane("/host:CPU", one=[event("dot", 0, 5, hlo_op="dot")])
    streams = {
        "Stream #1(Compute)": [event("gemm", 3, 4, hlo_op="dot.1")],
        "Stream #2": [event("loop_add_fusion", 0, 2)],
    }
    device = plane("/device:GPU:0", **streams, **{"XLA Ops": [event("dot.1", 3, 4, hlo_op="dot.1")]})
    assert bounds.events([host, device]) == [("loop_add_fusion", 0, 2, 2), ("dot.1", 3, 7, 7)]


def test_a_profile_has_the_programs_operations_and_no_loops():
    program = compiled(lambda x: jax.lax.scan(lambda y, _: (jnp.tanh(y @ y), y[0, 0]), x, None, length=4), (64, 64))
    x = jnp.eye(64)
    jax.block_until_ready(program(x))
    found = bounds.profile(lambda: jax.block_until_ready(program(x)), program.as_text(), steps=4)
    dots = [row for row in found["ops"] if row["kind"] == "dot"]
    assert sum(row["count"] for row in dots) == 1
    assert all(row["gflops"] * row["ms"] == pytest.approx(2 * 64**3 / 1e6, rel=0.2) for row in dots)
    assert "while" not in {row["name"].split(".")[0] for row in found["ops"]}
    assert sum(row["ms"] for row in found["kinds"]) == pytest.approx(sum(row["ms"] for row in found["ops"]))
    assert 0 <= found["pending_share"] <= found["idle_share"] < 1
    assert found["ops"] == sorted(found["ops"], key=lambda row: -row["ms"])
    with pytest.raises(RuntimeError, match="no operation"):
        bounds.profile(lambda: None, program.as_text(), steps=1)


def tiny():
    return work_sae.work(8, d_sae=8, image_shape=SHAPE, chunk=2)._replace(name="tiny")


@pytest.fixture
def machine(monkeypatch):
    known = Machine(1e11, 1e10)
    for module in (bounds, scaling):
        monkeypatch.setattr(module, "measure_machine", lambda *a, **k: known)
    return known


def check_form(result):
    assert {"name", "report", "command", "commit", "device", "versions", "settings", "machine", "rows"} <= result.keys()
    for row in result["rows"]:
        assert {"work", "arm", "metric", "unit", "mean", "median", "low", "high", "values"} <= row.keys()
        assert row["low"] <= row["median"] <= row["high"]
        assert all(map(math.isfinite, row["values"]))


def test_bounds_of_a_tiny_work(machine, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "WORKS", {"tiny": tiny})
    out = tmp_path / "bounds.json"
    bounds.main(work="t*", quick=True, steps=3, seeds=2, out=out)
    result = json.loads(out.read_text())
    check_form(result)
    assert out.with_suffix(".md").read_text() == tables.markdown(result)
    assert "where the time of a step goes (ours, 2 seeds)" in capsys.readouterr().out
    found = {row["metric"]: row["median"] for row in result["rows"]}
    # Five matrix products of 2 * 8 * 64 * 8 operations and some elementwise work, of one member's step.
    assert 5 * 8192 <= found["flops"] * 1e6 <= 4 * 5 * 8192
    assert found["floor_compute"] == pytest.approx(found["flops"] * 1e6 / machine.flops_per_s * 1e3)
    assert found["floor_memory"] == pytest.approx(found["bytes"] * 1e6 / machine.bytes_per_s * 1e3)
    (traced,) = result["profiles"]
    by_kind = {row["kind"]: row for row in traced["breakdown"]}
    assert by_kind["dot"]["flops"] == 5 * 8192
    assert {row["kind"] for row in traced["kinds"]} >= {"dot", "elementwise"}
    with pytest.raises(SystemExit, match="there are tiny"):
        bounds.main(work="absent")
    with pytest.raises(SystemExit, match="must all be positive"):
        bounds.main(work="tiny", seeds=0)


# Scaling --------------------------------------------------------------------------------------------------------------


@flax.struct.dataclass
class Toy:
    key: jax.Array
    step: jax.Array
    w: jax.Array


def toy_point(batch_size, members=None):
    """Something small to compile: ``w <- x^T x w`` of each batch."""

    def step(state, batch):
        x = batch.image.reshape(batch_size, -1)
        w = x.T @ (x @ state.w) / 1e4
        return state.replace(step=state.step + 1, w=w), w[0, 0]

    def init(key):
        return Toy(key, jnp.int32(0), jnp.ones((64, 4)))

    return scaling.Point(Algorithm(init, step, lambda *a: None), batch_size, members, 2)


@pytest.fixture
def series(monkeypatch):
    monkeypatch.setattr(scaling, "SHAPE", SHAPE)
    chosen = (
        scaling.Series("tiny, batch", "batch", scaling._doubling(4, 4), toy_point),
        scaling.Series("tiny, seeds", "seeds", scaling._doubling(1), lambda v: toy_point(8, v if v > 1 else None)),
    )
    monkeypatch.setattr(scaling, "SERIES", chosen)
    return chosen


def test_growing_stops_before_the_memory_and_the_budget(series):
    limits = {"budget": 1e6, "turn": 1e-3, "repeats": 1}
    ran, beyond = scaling.climb(series[0], memory=1e12, most=2, **limits)
    assert ([one.value for one in ran], beyond) == ([4, 16], [])
    peaks = [one.cost.peak_bytes for one in ran]
    assert 10_000 * 64 < peaks[0] < peaks[1]
    fits, beyond = scaling.climb(series[0], memory=peaks[1] - 1, **limits)
    assert [one.value for one in fits] == [4]
    assert [(row["value"], row["predicted_bytes"], row["limit"]) for row in beyond] == [(16, peaks[1], "memory")]
    assert "GiB predicted" in beyond[0]["reason"]
    late, beyond = scaling.climb(series[0], memory=1e12, **{**limits, "budget": 1e-9})
    assert late == []
    assert "used up" in beyond[0]["reason"]
    assert (beyond[0]["limit"], beyond[0]["predicted_bytes"]) == ("time", None)


def test_a_point_that_would_take_too_long_is_predicted_and_left_out(series):
    ran, beyond = scaling.climb(series[0], memory=1e12, budget=1e6, turn=1e9, repeats=1, most=3)
    assert [one.value for one in ran] == [4]
    assert beyond[0]["value"] == 16


def test_scaling_of_a_tiny_work(series, machine, monkeypatch, tmp_path, capsys):
    out = tmp_path / "scaling.json"
    scaling.main(axes=("seeds",), quick=True, memory=1.0, budget=1e6, out=out)
    result = json.loads(out.read_text())
    check_form(result)
    assert "## tiny, seeds" in capsys.readouterr().out
    assert {(row["work"], row["arm"]) for row in result["rows"]} == {("tiny, seeds", "1"), ("tiny, seeds", "2")}
    assert out.with_suffix(".md").read_text() == tables.markdown(result)
    found = {(row["arm"], row["metric"]): row for row in result["rows"]}
    for arm in "12":
        assert found[arm, "images"]["values"] == [8 * v for v in found[arm, "rate"]["values"]]
        assert found[arm, "step"]["values"] == [1e3 / v for v in found[arm, "rate"]["values"]]
    # Two products of 2 * 8 * 64 * 4 operations and the pixels' scaling, whatever the number of seeds.
    assert all(8192 < found[arm, "flops"]["median"] * 1e6 < 4 * 8192 for arm in "12")
    beyond = [
        {
            "work": "tiny, seeds",
            "value": 4,
            "predicted_bytes": 3 * 2**30,
            "limit": "memory",
            "reason": "3 GiB predicted",
        }
    ]
    larger = {**result, "not_run": beyond}
    assert "Not run: seeds 4: 3 GiB predicted." in scaling.markdown(larger)
    pictures = [Image.open(io.BytesIO(scaling.figure(one))) for one in (result, larger)]
    assert out.with_suffix(".png").read_bytes() == scaling.figure(result)
    assert np.asarray(pictures[0]).std() > 5
    assert pictures[0].tobytes() != pictures[1].tobytes()
    with pytest.raises(SystemExit, match="positive"):
        scaling.main(budget=0.0)


def test_what_holds_a_step():
    assert scaling.held_by(10.0, 6.0, 5.0) == "operations"
    assert scaling.held_by(10.0, 1.0, 6.0) == "memory"
    assert scaling.held_by(10.0, 1.0, 16.0) == "memory, partly from a cache"
    assert scaling.held_by(10.0, 4.0, 4.0) == "neither"


# Tables, pictures, changes --------------------------------------------------------------------------------------------


def row(work, arm, metric, values, unit="steps/s", **extra):
    return {"work": work, "arm": arm, "metric": metric, "unit": unit, **measure.summary(values), **extra}


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
            row("matrix_products", "xla 2x2x2", "rate", [1.0, 1.0], "products/s"),
            row("matrix_products", "xla 2x2x2", "throughput", [200.0, 200.0], "GFLOP/s"),
            row("gan_dcgan_w32", "ours, scan", "rate", [40.0, 44.0]),
            row("gan_dcgan_w32", "ours, scan", "images", [2560.0, 2816.0], "images/s"),
            row("gan_dcgan_w32", "ours, scan", "speedup", [2.0, 2.2], "times", against="PyTorch, eager"),
            row("gan_dcgan_w32", "ours, scan", "speedup_bf16", [1.0, 1.2], "times", against="PyTorch, bf16"),
            row("gan_dcgan_w32", "ours, scan", "share", [0.5, 0.54], "of the product rate"),
            row("gan_dcgan_w32", "ours, scan", "floor_compute", [12.5], "ms a step"),
            row("gan_dcgan_w32", "ours, scan", "floor_memory", [0.25], "ms a step"),
            row("gan_dcgan_w32", "ours, scan", "peak_memory", [100.0], "MiB"),
            row("gan_dcgan_w32", "PyTorch, eager", "rate", [20.0, 20.0]),
            row("gan_dcgan_w32", "PyTorch, bf16", "rate", [40.0, 40.0], dtype="bfloat16"),
            row("gan_dcgan_w32", "PyTorch, bf16", "share", [0.05, 0.054], "of the product rate", dtype="bfloat16"),
        ],
    }


def test_the_table_has_a_column_for_each_metric_that_there_is(result):
    text = tables.markdown(result)
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
        tables.markdown({**result, "report": "os"})


def test_the_picture_has_a_panel_per_work_and_marks_the_floor(result):
    whole = Image.open(io.BytesIO(plots.figure(result)))
    assert whole.format == "PNG"
    alone = {**result, "rows": [r for r in result["rows"] if r["work"] != "matrix_products"]}
    one = Image.open(io.BytesIO(plots.figure(alone)))
    assert one.width < whole.width

    def reds(picture):  # the floor's colour
        r, g, b = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), -1, 0)
        return int(((r > 180) & (g < 80) & (b < 80)).sum())

    without = {**alone, "rows": [r for r in alone["rows"] if r["metric"] != "floor_compute"]}
    assert reds(one) > 50
    assert reds(Image.open(io.BytesIO(plots.figure(without)))) == 0
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.figure({**result, "rows": [r for r in result["rows"] if r["metric"] != "rate"]})


def test_published_results_can_be_drawn():
    for path in sorted(run.RESULTS.glob("steps*.json")):
        assert Image.open(io.BytesIO(plots.figure(json.loads(path.read_text())))).width > 300


def test_changes_are_ratios_with_intervals_also_per_product_rate(result):
    old = copy.deepcopy(result)
    old["commit"] = "old"
    del old["machine"]  # an older result, on a machine of half the speed
    for r in old["rows"]:
        r["work"] = {"gan_dcgan_w32": "gan_non_saturating"}.get(r["work"], r["work"])
        if r["metric"] == "throughput":
            r["median"] /= 2
        if r["arm"] == "ours, scan" and r["metric"] == "rate":
            r |= measure.summary([10.0, 10.0])
    old["versions"]["jax"] = "0"
    old["rows"] = [r for r in old["rows"] if r["arm"] != "PyTorch, bf16"]
    old["rows"].append(row("gone", "ours, scan", "rate", [1.0, 1.0]))
    text = compare.changes(result, old)
    assert "| gan_dcgan_w32 | ours, scan | 4.2 (4 to 4.4) | 2.1 (2 to 2.2) | faster |" in text
    assert "| gan_dcgan_w32 | PyTorch, eager | 1 (1 to 1) | 0.5 (0.5 to 0.5) |  |" in text
    assert "- jax: 1, before 0" in text
    assert "- not in the old result: gan_dcgan_w32: PyTorch, bf16" in text
    assert "- not in the new result: gone" in text
    assert "device" not in text
    back = compare.changes(old, result)
    assert "| ours, scan | 0.238 (0.227 to 0.25) | 0.476 (0.455 to 0.5) | slower |" in back.replace(
        "gan_dcgan_w32 | ", ""
    )


def test_a_single_repeat_has_no_interval_and_no_verdict(result):
    rows = [row("w", "ours, scan", "rate", [3.0])]
    old = {**result, "device": "GPU", "rows": [row("w", "ours, scan", "rate", [1.0])], "machine": {"flops_per_s": 2e11}}
    text = compare.changes({**result, "rows": rows}, old)
    assert "| w | ours, scan | 3 | 3 |  |" in text
    assert "- device: CPU, before GPU" in text
    nothing = compare.changes({**result, "rows": rows}, {**old, "rows": []})
    assert "No arm is in both results." in nothing
    assert "not in the old result: w" in nothing
