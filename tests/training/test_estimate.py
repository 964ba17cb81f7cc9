"""Reading the text of programs for TPUs, on snippets of recorded ones."""

import pytest

from saegan_jax.training.estimate import CHIPS, Estimate, estimate

CONFIG = 'backend_config={"window_config":{"kernel_window_bounds":[],"estimated_cycles":"%d","iteration_bounds":["1"]}}'
LOOP = """HloModule jit_step, is_scheduled=true

%%fused_computation (param_0: f32[8,128]) -> f32[8,128] {
  %%param_0 = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %%add = f32[8,128]{1,0:T(8,128)} add(%%param_0, %%param_0)
}

%%body (arg: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %%arg = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %%fusion.1 = f32[8,128]{1,0:T(8,128)S(1)} fusion(%%gte), kind=kLoop, calls=%%fused_computation, %(seven)s
  ROOT %%tuple = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%%add.9, %%fusion.1)
}

%%condition (arg: (s32[], f32[8,128])) -> pred[] {
  %%constant.90 = s32[]{:T(128)} constant(16)
  ROOT %%lt.4 = pred[]{:T(512)} compare(%%gte.1, %%constant.90), direction=%(direction)s, metadata={op_name="while/cond/lt"}
}

ENTRY %%main.2 (x: f32[8,128]) -> f32[8,128] {
  %%while.3 = (s32[]{:T(128)}, /*index=1*/f32[8,128]{1,0:T(8,128)}) while(%%tuple.1), condition=%%condition, body=%%body
  ROOT %%convolution.1 = f32[8,128]{1,0:T(8,128)} convolution(%%gte.2, %%w), %(hundred)s
}
"""


def loop(direction):
    return LOOP % {"seven": CONFIG % 7, "hundred": CONFIG % 100, "direction": direction}


def entry(*lines):
    return "\n".join(["ENTRY %main (x: f32[8]) -> f32[8] {", *(f"  {line}" for line in lines), "}"])


def test_a_loop_of_known_length_counts_as_often_as_it_runs():
    assert estimate(loop("LT"), n_chips=1) == Estimate(100 + 16 * 7)


def test_a_loop_of_unknown_length_counts_once_and_is_told():
    assert estimate(loop("GT"), n_chips=1) == Estimate(100 + 7, open_loops=(7,))


@pytest.mark.parametrize(
    ("line", "kind", "sent"),
    [
        # A ring of four sends three quarters of the array twice; of two, half twice.
        ("%a = f32[100]{0} all-reduce(%g), replica_groups={{0,1,2,3}}, to_apply=%add", "all-reduce", 2 * 300),
        ("%a = f32[100]{0} all-reduce(%g), replica_groups=[2,2]<=[4], to_apply=%add", "all-reduce", 2 * 200),
        ("%a = (f32[60]{0}, bf16[80]{0}) all-reduce(%g, %h), replica_groups={}, to_apply=%add", "all-reduce", 2 * 300),
        ("%a = f32[100]{0} all-gather(%g), replica_groups={{0,1,2,3}}, dimensions={0}", "all-gather", 300),
        (
            "%a = (f32[25]{0:T(128)}, f32[100]{0:T(128)S(1)}) all-gather-start(%g), replica_groups=[1,4]<=[4]",
            "all-gather",
            300,
        ),
        ("%a = f32[25]{0} reduce-scatter(%g), replica_groups={{0,1,2,3}}, to_apply=%add", "reduce-scatter", 300),
        ("%a = f32[25]{0} collective-permute(%g), source_target_pairs={{0,1}}", "collective-permute", 100),
    ],
)
def test_what_a_chip_sends(line, kind, sent):
    found = estimate(entry(line, "%d = f32[100]{0} all-reduce-done(%a)"), n_chips=4)
    assert found == Estimate(collectives={kind: 1}, sent=sent)


def test_what_takes_time_without_an_estimate_is_told():
    found = estimate(
        entry(
            "%sort = (f32[8]{0:T(8)}, s32[8]{0}) sort(%copy, %iota), dimensions={0}, to_apply=%compare",
            '%call = f32[8]{0} custom-call(%x), custom_call_target="TopK"',
            '%free = f32[8]{0} custom-call(%x), custom_call_target="ConcatBitcast"',
            f'%counted = f32[8]{{0}} custom-call(%x), custom_call_target="Kernel", {CONFIG % 5}',
        ),
        n_chips=1,
    )
    assert found == Estimate(5, missing={"sort": 1, "TopK": 1})


def test_of_a_conditional_the_costliest_branch_counts():
    branches = [f"%b{i} (x: f32[8]) -> f32[8] {{\n  %c = f32[8] copy(%x), {CONFIG % (3 * i)}\n}}" for i in (1, 2)]
    text = entry("%c = f32[8]{0} conditional(%i, %x, %x), branch_computations={%b1, %b2}")
    assert estimate("\n".join([*branches, text]), n_chips=1).cycles == 6


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        estimate("not a program", n_chips=1)


def test_clocks():
    assert {name: round(chip.clock / 1e9, 2) for name, chip in CHIPS.items()} == {"v5e": 1.5, "v5p": 1.75, "v6e": 1.75}
