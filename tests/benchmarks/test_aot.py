"""``python -m benchmarks.aot`` without its compiler: what is chosen, written, kept and shown."""

import json

import pytest

from benchmarks import aot
from benchmarks.harness.errors import OptionError
from benchmarks.harness.reports import markdown
from benchmarks.workloads.package import ConfigError, Forecast
from benchmarks.workloads.planned import CASES, WORKS, Case, Planned
from saegan_jax.training.estimate import Estimate

VERSIONS = {"jax": "0", "jaxlib": "0"}
FITS = Forecast(
    "v5e",
    8,
    arguments=2**20,
    temporaries=2**21,
    flops=1e9,
    estimate=Estimate(1503e3, {"all-reduce": 2}, 2**20, missing={"sort": 1}),
)
CASES_HERE = (Case("small"), Case("small", mesh="data=8"), Case("large", "v5e:16x16", "data=256"), Case("odd"))


@pytest.fixture
def compiler(monkeypatch):
    """A compiler of three works, and the meshes that it was asked for."""
    asked = []

    def opened(text, *, n_seeds, batch_sizes, devices):
        asked.append((text, *batch_sizes, devices))
        if "odd" in batch_sizes:
            raise ConfigError("odd.batch_size", 7, "use a multiple of 8.")
        return text

    monkeypatch.setattr(aot, "topology", lambda field, name: name)
    monkeypatch.setattr(aot, "open_mesh", opened)
    monkeypatch.setattr(aot, "compiler_versions", lambda: VERSIONS)
    monkeypatch.setattr(aot.results, "versions", lambda *packages: VERSIONS)
    return asked


def works(**others):
    told = {"small": FITS, "large": Forecast("v5e", 256, too_large="20G of 15.75G hbm"), "odd": FITS, **others}
    return {name: lambda one=one: Planned(lambda chip, mesh: one, 8) for name, one in told.items()}


def test_a_result_is_written_shown_and_gone_on_with(compiler, tmp_path, capsys):
    out = tmp_path / "aot.json"
    options = aot.parse_options(["--out", str(out)])
    aot.run(options, works=works(), cases=CASES_HERE)
    result = json.loads(out.read_text())
    found = {(row["work"], row["arm"], row["metric"]): row["median"] for row in result["rows"]}
    assert found["small", "v5e, data=8", "estimate"] == pytest.approx(1, rel=1e-3)
    assert found["small", "v5e, data=1", "sent"] == 1
    assert found["large", "v5e, data=256", "fits"] == 0
    assert ("large", "v5e, data=256", "estimate") not in found
    assert [row["work"] for row in result["skipped"]] == ["odd, v5e, data=1"]
    text = markdown(result)
    assert out.with_suffix(".md").read_text() == text
    for words in ("not timings", "sort is not counted", "does not fit: 20G of 15.75G hbm", "use a multiple of 8"):
        assert words in text
    assert "small, v5e, data=8: v5e, data=8 1" in capsys.readouterr().out
    asked = len(compiler)
    aot.run(options, works=works(small=None), cases=CASES_HERE)  # a None would fail: it is not compiled again
    assert len(compiler) == asked + 1  # only what was left out
    assert json.loads(out.read_text())["rows"] == result["rows"]


def test_another_compiler_or_source_compiles_again(compiler, tmp_path, monkeypatch):
    out = tmp_path / "aot.json"
    options = aot.parse_options(["--out", str(out), "--work", "small"])
    aot.run(options, works=works(), cases=CASES_HERE)
    monkeypatch.setattr(aot, "compiler_versions", lambda: {"jax": "1"})
    assert aot.kept_parts(out, {"jax": "1"}, aot.source()) == {}
    assert aot.kept_parts(out, VERSIONS, "other") == {}
    assert set(aot.kept_parts(out, VERSIONS, aot.source())) == {("small", "v5e, data=1"), ("small", "v5e, data=8")}
    aot.run(options, works=works(), cases=CASES_HERE)
    assert len(compiler) == 4


def test_cases_are_of_the_options_or_published():
    chosen = aot.chosen_cases(aot.parse_options(["--work", "sae_b*"]), WORKS, CASES)
    assert chosen == [Case("sae_b256"), Case("sae_b256_8_seeds")]
    assert aot.chosen_cases(aot.parse_options(["--first", "2"]), WORKS, CASES) == list(CASES[:2])
    asked = aot.parse_options(["--work", "gan_mlp", "--topology", "v6e:2x2", "--mesh", "data=4"])
    assert aot.chosen_cases(asked, WORKS, CASES) == [Case("gan_mlp", "v6e:2x2", "data=4")]
    with pytest.raises(OptionError, match="matches nothing"):
        aot.chosen_cases(aot.parse_options(["--work", "nothing"]), WORKS, CASES)


def test_no_programs_are_refused():
    with pytest.raises(OptionError, match="--first 0"):
        aot.parse_options(["--first", "0"])


def test_published_cases_are_distinct_and_of_known_works():
    assert {case.work for case in CASES} == set(WORKS)
    assert len({(case.work, case.arm) for case in CASES}) == len(CASES)
