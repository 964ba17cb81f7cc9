"""``--plan``: what is compiled for TPUs that are not there, and what is said of it; nothing is written."""

import pytest

from saegan_jax.errors import ConfigError
from saegan_jax.runs import plan
from saegan_jax.runs.train import cyclegan, saegan
from saegan_jax.training.aot import Forecast
from saegan_jax.training.estimate import Estimate

TOLD = Forecast(
    "v5e", 8, arguments=3 * 2**30, temporaries=2**20, flops=131072e3, estimate=Estimate(2e3, {"all-reduce": 3}, 2**20)
)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the compiler is asked for."""
    found = []

    def told(settings, **given):
        found.append((type(settings).__name__, given))
        return TOLD

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "topology", lambda field, name: ["a chip"] * 8)
    monkeypatch.setattr(plan, "compiler_versions", lambda: {"libtpu": "1.2"})
    monkeypatch.setattr(plan, "forecast_system", told)
    monkeypatch.setattr(plan, "open_mesh", lambda text, **given: Mesh(text))
    return found


class Mesh:
    def __init__(self, text):
        self.shape = {text: len(text)}


def test_every_phase_is_planned_and_nothing_written(asked, tmp_path, capsys):
    options = saegan.parse_options(["--plan", "v5e:2x4", "--mesh", "data=8", "--seeds", "2"])
    with pytest.raises(SystemExit) as end:
        saegan.run(options)
    assert end.value.code is None
    assert [name for name, _ in asked] == ["SAEConfig", "SAEGANConfig"]
    assert asked[1][1]["batch_size"] == options.model.gan.batch_size
    assert {key: asked[0][1][key] for key in ("image_shape", "n_seeds", "n_classes", "chip")} == {
        "image_shape": (8, 8, 1),
        "n_seeds": 2,
        "n_classes": 10,
        "chip": "v5e",
    }
    said = capsys.readouterr().out
    assert "v5e:2x4, mesh data=8=6; libtpu 1.2" in said
    assert "not timings" in said
    assert "3.0 GiB of state and batch and 1 MiB of temporaries, of 16.0 GiB" in said
    assert "50.0% of the peak in bfloat16; 3 all-reduce, 1 MiB sent by each chip" in said
    assert list(tmp_path.iterdir()) == []


def test_one_chip_by_default_and_the_model_of_a_cyclegan(asked, capsys):
    with pytest.raises(SystemExit):
        cyclegan.run(cyclegan.parse_options(["--plan", "v5e:2x4"]))
    assert [name for name, _ in asked] == ["TranslationConfig"]
    assert asked[0][1]["mesh"].shape == {"data=1": 6}


def test_a_slice_that_there_is_not_is_refused_before_data_are_read():
    options = saegan.parse_options(["--plan", "v9:2x4", "--dataset", "nowhere"])
    with pytest.raises(ConfigError, match=r"plan = 'v9:2x4' .* as in v5e:2x4"):
        saegan.run(options)


def test_what_does_not_fit():
    said = plan.described(Forecast("v5e", 1, too_large="20G of 15.75G hbm"))
    assert "does not fit: the compiler counts 20G of 15.75G hbm; use a smaller batch" in said
    assert "nothing sent between chips" in plan.described(TOLD._replace(estimate=Estimate(2e3)))
