"""Reading the text of compiled programs, by lines that JAX has printed; `tests/benchmarks/test_program.py` reads whole ones."""

import pytest

from saegan_jax.hlo import parse, size, sizes

TEXT = """HloModule jit_f

%body (arg: (s32[], f32[2,3])) -> (s32[], f32[2,3]) {
  ROOT %tuple.1 = (s32[], f32[2,3]{1,0}) tuple(%arg)
}

ENTRY %main (x: f32[2,3]) -> f32[2,3] {
  %x = f32[2,3]{1,0:T(2,128)} parameter(0)
  %constant.7 = s32[]{:T(128)} constant(16)
  %loop = (s32[], /*index=1*/f32[2,3]{1,0}) while(%x), condition=%cond, body=%body, {"known_trip_count":{"n":"5"}}
  %call = f32[2,3]{1,0} custom-call(%x, %constant.7), custom_call_target="TopK"
  ROOT %branch = bf16[4]{0} conditional(%constant.7, %x, %x), branch_computations={%one, %two}
}
"""


def test_computations_and_their_instructions():
    computations, entry = parse(TEXT)
    assert entry == "main"
    assert {name: list(within) for name, within in computations.items()} == {
        "body": ["tuple.1"],
        "main": ["x", "constant.7", "loop", "call", "branch"],
    }
    main = computations["main"]
    assert (main["constant.7"].opcode, main["constant.7"].inside) == ("constant", "16")
    assert main["call"].operands == ["x", "constant.7"]
    assert main["call"].target() == "TopK"
    assert main["loop"].called() == {"condition": "cond", "body": "body"}
    assert (main["loop"].trips(), main["call"].trips()) == (5.0, None)
    assert main["branch"].branches() == ["one", "two"]
    assert [one.name for one in main.values() if one.root] == ["branch"]


def test_bytes_of_arrays_and_tuples():
    assert sizes("(s32[], f32[2,3]{1,0}, pred[8], bf16[4]{0})") == [4, 24, 8, 8]
    assert size("(c64[2], s4[8])") == 16 + 4


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        parse("not a program")
