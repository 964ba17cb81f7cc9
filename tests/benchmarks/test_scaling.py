"""``python -m benchmarks.scaling`` on a tiny algorithm."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from tiny_works import SHAPE, TOY_FLOPS, check_form, toy_algorithm

from benchmarks import scaling
from benchmarks.harness.reports import markdown, pictures
from benchmarks.harness.reports.scaling import held_by
from benchmarks.scaling import Limits, climb
from benchmarks.workloads.growth import Point, Series, doubling


def point(batch_size, members=None):
    return Point(toy_algorithm(batch_size), batch_size, members, 2)


BATCH = Series("tiny, batch", "batch", doubling(4, 4), point, SHAPE)
SEEDS = Series("tiny, seeds", "seeds", doubling(1), lambda v: point(8, v if v > 1 else None), SHAPE)
LIMITS = Limits(memory=1e12, budget=1e6, turn=1e-3, repeats=1)


@pytest.fixture(scope="module")
def peaks():
    """What the first two points of the batch take."""
    ran, beyond = climb(BATCH, LIMITS._replace(most=2))
    assert ([one.value for one in ran], beyond) == ([4, 16], [])
    return [one.cost.peak_bytes for one in ran]


def test_growing_stops_before_the_memory(peaks):
    assert 10_000 * 64 < peaks[0] < peaks[1]
    fits, beyond = climb(BATCH, LIMITS._replace(memory=peaks[1] - 1))
    assert [one.value for one in fits] == [4]
    assert [(row["value"], row["predicted_bytes"], row["limit"]) for row in beyond] == [(16, peaks[1], "memory")]
    assert "GiB predicted" in beyond[0]["reason"]


def test_growing_stops_when_the_time_is_used_up():
    late, beyond = climb(BATCH, LIMITS._replace(budget=1e-9))
    assert late == []
    assert "used up" in beyond[0]["reason"]
    assert (beyond[0]["limit"], beyond[0]["predicted_bytes"]) == ("time", None)


def test_a_point_that_would_take_too_long_is_predicted_and_left_out(peaks):
    ran, beyond = climb(BATCH, LIMITS._replace(turn=1e9, most=3))
    assert [one.value for one in ran] == [4]
    assert (beyond[0]["value"], beyond[0]["limit"]) == (16, "time")


def test_a_point_that_runs_out_of_memory_ends_its_series(monkeypatch):
    def exhausted(self, calls):
        raise scaling.jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(scaling.Scanned, "run", exhausted)
    ran, beyond = climb(BATCH, LIMITS)
    assert ran == []
    assert beyond[0]["reason"] == "out of memory in spite of the prediction"
    assert beyond[0]["limit"] == "memory"


@pytest.fixture(scope="module")
def written(tmp_path_factory, machine):
    """The files of a run along one axis."""
    out = tmp_path_factory.mktemp("written") / "scaling.json"
    arguments = ["--axes", "seeds", "--quick", "--memory", "1", "--budget", "1000000", "--out", str(out)]
    scaling.run(scaling.parse_options(arguments), series=(BATCH, SEEDS), measure=lambda *a, **k: machine)
    return out


def test_scaling_of_a_tiny_work(written):
    result = json.loads(written.read_text())
    check_form(result)
    assert {(row["work"], row["arm"]) for row in result["rows"]} == {("tiny, seeds", "1"), ("tiny, seeds", "2")}
    assert written.with_suffix(".md").read_text() == markdown(result)
    found = {(row["arm"], row["metric"]): row for row in result["rows"]}
    for arm in "12":
        assert found[arm, "images"]["values"] == [8 * v for v in found[arm, "rate"]["values"]]
        assert found[arm, "step"]["values"] == [1e3 / v for v in found[arm, "rate"]["values"]]
    # The products and the pixels' scaling, whatever the number of seeds.
    assert all(TOY_FLOPS < found[arm, "flops"]["median"] * 1e6 < 4 * TOY_FLOPS for arm in "12")


def test_what_was_not_run_is_in_the_table_and_the_picture(written):
    result = json.loads(written.read_text())
    beyond = {"work": "tiny, seeds", "value": 4, "limit": "memory", "reason": "3 GiB predicted"}
    larger = {**result, "not_run": [{**beyond, "predicted_bytes": 3 * 2**30}]}
    assert "Not run: seeds 4: 3 GiB predicted." in markdown(larger)
    images = [Image.open(io.BytesIO(pictures.scaling(one))) for one in (result, larger)]
    assert np.asarray(images[0]).std() > 5
    assert images[0].tobytes() != images[1].tobytes()
    assert Image.open(written.with_suffix(".png")).tobytes() == images[0].tobytes()


def test_what_holds_a_step():
    assert held_by(10.0, 6.0, 5.0) == "operations"
    assert held_by(10.0, 1.0, 6.0) == "memory"
    assert held_by(10.0, 1.0, 16.0) == "memory, partly from a cache"
    assert held_by(10.0, 4.0, 4.0) == "neither"
