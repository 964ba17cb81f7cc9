"""``python -m benchmarks.forms``: forms that compute the same thing, and what is written of their times."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_works import check_form

from benchmarks import forms
from benchmarks.harness.reports import markdown
from benchmarks.workloads.forms import CONTRASTS, WORKS, Contrast
from benchmarks.workloads.package import SAEConfig, topk_mask
from benchmarks.workloads.planned import Planned, selection, system
from benchmarks.workloads.selection import Selected, by_approximation, by_sorting

TINY = SAEConfig(variant="topk", d_sae=8, k=2, batch_size=8, steps=100)
HERE = {
    "alone": lambda: system(TINY, batch_size=8, image_shape=(8, 8, 1)),
    "two": lambda: system(TINY, batch_size=8, image_shape=(8, 8, 1), n_seeds=2),
    "untrained": lambda: Planned(lambda **_: None, 8),
}


@pytest.mark.parametrize("search", [by_sorting, by_approximation])
def test_ways_to_choose_mark_the_same(search):
    x = jax.random.normal(jax.random.key(0), (7, 300))
    tied = jnp.round(x)  # many equal ones, of which the first count
    for one in (x, tied):
        np.testing.assert_array_equal(search(one, k=5), topk_mask(one, 5))


def test_what_an_approximation_misses_is_found(monkeypatch):
    x = jax.random.normal(jax.random.key(1), (4, 50))

    def without_the_largest(x, k, **_):
        return jax.lax.top_k(jnp.where(x == x.max(-1, keepdims=True), -9.0, x), k)

    monkeypatch.setattr(jax.lax, "approx_max_k", without_the_largest)
    np.testing.assert_array_equal(by_approximation(x, k=3), topk_mask(x, 3))


def test_a_choice_is_a_program():
    program = Selected(partial(by_sorting, k=2), steps=1, shape=(3, 20))
    program.run(2)
    out = program.compiled(program._x)
    assert (out != 0).sum(-1).tolist() == [2, 2, 2]
    assert program.compile_s > 0


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("forms") / "f.json"
    contrasts = {
        "seeds": Contrast(("alone", "two"), unit="steps/s"),
        "none": Contrast(("untrained",)),
        "large": Contrast(("alone",), large=True),
    }
    options = forms.parse_options(["--quick", "--only", "[snl]*", "--out", str(out)])
    forms.run(options, contrasts=contrasts, works=HERE)
    return json.loads(out.read_text())


def test_forms_are_compared_with_the_first(result):
    check_form(result)
    found = {(r["arm"], r["metric"]): r for r in result["rows"]}
    assert {arm for arm, _ in found} == {"alone", "two"}
    ratio = found["two", "ratio"]
    assert ratio["against"] == "alone"
    pairs = zip(found["two", "rate"]["values"], found["alone", "rate"]["values"], strict=True)
    np.testing.assert_allclose(ratio["values"], [a / b for a, b in pairs])
    assert "| | steps/s | times alone | compile, s | peak, MiB |" in markdown(result)


def test_what_cannot_be_timed_here_is_said(result):
    reasons = {row["work"]: row["reason"] for row in result["skipped"]}
    assert "needs an accelerator" in reasons["large"]
    assert "without something trained" in reasons["none"]
    assert "Not timed: large, all: it needs an accelerator" in markdown(result)


def test_a_form_that_the_device_refuses_leaves_the_others(tmp_path):
    def refused(**_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: too large\nmore")

    works = {**HERE, "refused": lambda: Planned(refused, 8, program=refused)}
    options = forms.parse_options(["--quick"])
    part = forms.time_contrast("c", Contrast(("alone", "refused")), works, options, lambda text: None)
    assert {r["arm"] for r in part["rows"]} == {"alone"}
    assert part["skipped"] == [{"work": "c", "arm": "refused", "reason": "RESOURCE_EXHAUSTED: too large"}]


def test_products_are_timed_in_each_precision():
    part = forms.time_products(forms.parse_options(["--quick"]), lambda text: None)
    names = list(dict.fromkeys(r["arm"] for r in part["rows"]))
    assert names == ["xla 512x512x512", "xla highest 512x512x512", "xla bfloat16 512x512x512"]


def test_every_contrast_is_of_works_that_can_be_run():
    for contrast in CONTRASTS.values():
        assert len(contrast.works) > 1
        for name in contrast.works:
            assert WORKS[name]().program is not None
    assert selection(by_sorting).program is not None
