"""The files that readers copy: short, and doing what they say."""

import runpy

import jax
import pytest

from experiments.readme import ROOT


def example(name: str):
    """Its ``main``."""
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]


@pytest.mark.parametrize("name", ["own_loop_sae", "gan_in_one_file"])
def test_they_fit_on_a_screen(name):
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) <= 80


@pytest.fixture
def as_users_run():
    """Ranks and dtypes are promoted, and programs optimised, as by default."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.usefixtures("as_users_run")
def test_an_autoencoder_in_ones_own_loop(capsys):
    scores = example("own_loop_sae")(steps=300)
    assert scores["fvu"] < 0.8
    assert 0.02 < scores["mean_activation"] < 0.15
    assert "fvu" in capsys.readouterr().out


@pytest.mark.usefixtures("as_users_run")
def test_a_gan_that_obeys_codes():
    assert example("gan_in_one_file")(steps=400) > 0.5
