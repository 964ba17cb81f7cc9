"""Steps compiled for TPUs that are not there; where their compiler is not installed, only what is said then."""

from importlib.util import find_spec

import jax
import pytest

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.errors import ConfigError
from saegan_jax.training import aot
from saegan_jax.training.aot import Forecast, forecast_system, topology
from saegan_jax.training.estimate import CHIPS, Estimate
from saegan_jax.training.sharding import open_mesh

HAS_COMPILER = find_spec("libtpu") is not None
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason='compiles for TPUs: pip install -e ".[aot]"')
SHAPE = (4, 4, 1)


def test_a_slice_of_unknown_chips_is_refused():
    with pytest.raises(ConfigError, match=r"plan = 'v9:2x4' .* one of v5e, v5p, v6e, as in v5e:2x4"):
        topology("plan", "v9:2x4")


def test_without_the_compiler_the_extra_is_named(monkeypatch):
    def missing(name):
        raise aot.PackageNotFoundError(name)

    monkeypatch.setattr(aot, "version", missing)
    with pytest.raises(ConfigError, match=r"pip install \"saegan_jax\[aot\]\""):
        topology("plan", "v5e:2x4")


def test_a_forecast_in_numbers():
    told = Forecast("v5e", 1, flops=131072 * 500.0, estimate=Estimate(1000.0, open_loops=(3e6,), missing={"sort": 1}))
    assert told.ms == pytest.approx(1e3 * 1000 / CHIPS["v5e"].clock)
    assert told.share == 0.5
    assert told.caveats == ("a loop of unknown length is counted once, 2 ms", "sort is not counted")
    assert Forecast("v5e", 1, too_large="20G of 15.75G hbm").share == 0


def test_what_is_short_is_in_the_message():
    found = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 26.67G of 15.75G hbm. Exceeded"
    assert aot._shortage(found) == "26.67G of 15.75G hbm"
    other = "Ran out of memory on HBM, the total memory required for HLO temporaries (23.21G) exceeds available HBM (15.75G)."
    assert aot._shortage(f"RESOURCE_EXHAUSTED: {other}") == "23.21G of 15.75G hbm"
    assert aot._shortage("RESOURCE_EXHAUSTED: no room\nmore") == "RESOURCE_EXHAUSTED: no room"


@needs_compiler
def test_a_slice_that_there_is_not():
    with pytest.raises(ConfigError, match="there is no such slice"):
        topology("plan", "v5e:banana")


@needs_compiler
def test_a_step_on_one_chip_and_on_eight():
    config = SAEConfig(d_sae=8, batch_size=16, steps=10)
    devices = topology("plan", "v5e:2x4")
    assert len(devices) == 8
    told = {}
    for text in ("data=1", "data=8"):
        mesh = open_mesh(text, n_seeds=1, batch_sizes={"sae": 16}, devices=devices)
        told[text] = forecast_system(config, image_shape=SHAPE, batch_size=16, chip="v5e", mesh=mesh)
    one, eight = told.values()
    assert one.ms > 0
    assert one.flops > 0
    assert not one.estimate.collectives
    assert eight.estimate.collectives["all-reduce"] >= 1
    # The gradients of both matrices and of more, to seven of eight others, twice.
    assert eight.estimate.sent > 2 * 7 / 8 * 4 * 2 * 16 * 8
    assert jax.default_backend() == "cpu"
