"""What programs cost, the machine's rates, and where the time goes; no time is asserted."""

import os
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from benchmarks.harness import machine, system, timing
from benchmarks.harness.program.cost import Cost, Machine, cost, floors
from benchmarks.harness.program.operations import UNKNOWN_LOOP, by_kind, operations
from benchmarks.harness.program.profile import busy, events, profile


def breakdown(program):
    return by_kind(operations(program.as_text()))


# Without the emitters that these tests do without (see tests/conftest.py) a scatter would be a loop.
EMITTERS = {"xla_cpu_use_fusion_emitters": True} if "fusion_emitters" in os.environ.get("XLA_FLAGS", "") else None


def compiled(function, *shapes, dtype=jnp.float32):
    lowered = jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes))
    return lowered.compile(compiler_options=EMITTERS)


def convolve(x, w, *, strides=(2, 2), padding=((1, 1), (1, 1)), **options):
    return jax.lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


# Costs ----------------------------------------------------------------------------------------------------------------


def test_a_product_costs_its_operations_and_its_arrays():
    program = compiled(jnp.matmul, (32, 64), (64, 16))
    size = 4 * (32 * 64 + 64 * 16 + 32 * 16)
    assert cost(program) == Cost(2 * 32 * 64 * 16, size, size)


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
    theirs, ours = program.cost_analysis(), cost(program)
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
    by_kind = {row["kind"]: row for row in breakdown(program)}
    assert by_kind["dot"]["flops"] == 15 * product
    assert by_kind["dot"]["count"] == 15
    assert 15 * product <= cost(program).flops < 16 * product
    assert UNKNOWN_LOOP not in by_kind


def test_a_loop_of_unknown_length_is_counted_once_and_said():
    program = compiled(lambda x: jax.lax.while_loop(lambda y: y[0, 0] < 1, lambda y: y @ y, x), (16, 16))
    by_kind = {row["kind"]: row for row in breakdown(program)}
    assert by_kind["dot"]["flops"] == 2 * 16**3
    assert UNKNOWN_LOOP in by_kind


def test_of_a_conditional_the_costliest_branch_counts():
    program = compiled(lambda x: jax.lax.cond(x[0, 0] > 0, lambda y: y @ y @ y, lambda y: y @ y, x), (16, 16))
    dots = [op for op in operations(program.as_text()) if op.kind == "dot"]
    assert sum(op.flops * op.runs for op in dots) == 2 * 2 * 16**3


def test_the_breakdown_adds_up_to_the_cost():
    program = compiled(lambda x, w: jnp.sum(jnp.tanh(x @ w), axis=0), (32, 64), (64, 16))
    rows, whole = breakdown(program), cost(program)
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
    ops = {op.name: op for op in operations(GPU_TEXT)}
    assert set(ops) == {"cublas-gemm.1", "all-reduce-start", "cudnn-conv"}
    assert [op.kind for op in ops.values()] == ["dot", "collective", "convolution"]
    assert ops["cublas-gemm.1"].flops == 2 * 8 * 16 * 32
    assert ops["cublas-gemm.1"].bytes == 2 * (8 * 32 + 32 * 16 + 8 * 16) + 64
    assert ops["cublas-gemm.1"].source == "jit(f)/dot_general"
    whole = cost(compiled(jax.grad(lambda w, x: convolve(x, w).sum()), (4, 4, 3, 5), (2, 8, 8, 3)))
    assert ops["cudnn-conv"].flops == 2 * 2 * 5 * 3 * 14**2 == whole.flops


def test_what_has_no_text_has_no_cost():
    assert cost(SimpleNamespace(as_text=lambda: None)) is None
    assert cost(SimpleNamespace()) is None
    with pytest.raises(ValueError, match="no ENTRY"):
        operations("module @jit_f {}")


def test_floors_are_seconds_at_the_machines_rates(monkeypatch):
    assert floors(6e9, 5e8, Machine(3e9, 1e9)) == (2.0, 0.5)
    rates = {"xla 8x8x8": [2.0, 9.0, 3.0], "xla 4x8x2": [10.0, 10.0, 10.0], "2 x 1 MiB": [5.0, 4.0, 4.5]}
    monkeypatch.setattr(machine, "CPU_SHAPES", ((8, 8, 8), (4, 8, 2)))
    monkeypatch.setattr(machine, "ARRAY_BYTES", {"cpu": 2**20})

    def timings(arms, **options):
        for arm in arms:
            arm.run(2)
        return {arm.name: timing.Timing(rates[arm.name], [0.0] * 3) for arm in arms}

    monkeypatch.setattr(timing, "alternate", timings)
    assert machine.measure_machine(1.0) == Machine(3.0 * 2 * 8**3, 4.5 * 3 * 2**20)
    assert machine.array_bytes() == 2**20
    assert system.available_bytes() > 0


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
    runs = events([plane("/device:CUSTOM:x"), host], {"while"})
    assert runs == [("dot.1", 0, 40, 60), ("add", 70, 80, 80)]
    assert busy((one.start, one.end) for one in runs) == 50
    assert busy([(0, 5), (1, 2), (4, 8), (10, 11)]) == 9


def test_of_a_devices_lines_only_its_streams_count():
    host = plane("/host:CPU", one=[event("dot", 0, 5, hlo_op="dot")])
    streams = {
        "Stream #1(Compute)": [event("gemm", 3, 4, hlo_op="dot.1")],
        "Stream #2": [event("loop_add_fusion", 0, 2)],
    }
    device = plane("/device:GPU:0", **streams, **{"XLA Ops": [event("dot.1", 3, 4, hlo_op="dot.1")]})
    assert events([host, device]) == [("loop_add_fusion", 0, 2, 2), ("dot.1", 3, 7, 7)]


def test_a_profile_has_the_programs_operations_and_no_loops():
    program = compiled(lambda x: jax.lax.scan(lambda y, _: (jnp.tanh(y @ y), y[0, 0]), x, None, length=4), (64, 64))
    x = jnp.eye(64)
    jax.block_until_ready(program(x))
    found = profile(lambda: jax.block_until_ready(program(x)), program.as_text(), steps=4)
    dots = [row for row in found["ops"] if row["kind"] == "dot"]
    assert sum(row["count"] for row in dots) == 1
    assert all(row["gflops"] * row["ms"] == pytest.approx(2 * 64**3 / 1e6, rel=0.2) for row in dots)
    assert "while" not in {row["name"].split(".")[0] for row in found["ops"]}
    assert sum(row["ms"] for row in found["kinds"]) == pytest.approx(sum(row["ms"] for row in found["ops"]))
    assert 0 <= found["pending_share"] <= found["idle_share"] < 1
    assert found["ops"] == sorted(found["ops"], key=lambda row: -row["ms"])
    with pytest.raises(RuntimeError, match="no operation"):
        profile(lambda: None, program.as_text(), steps=1)
