"""Slopes of memory and handles over a long training, by hand; the training itself is no test."""

import os
import subprocess

import numpy as np
import pytest

from saegan_jax.runs.reliability import rows
from saegan_jax.runs.reliability.soak import Sample, Soak, sample, slope


def test_a_slope_is_that_of_the_later_values_an_hour():
    seconds = np.arange(0, 1000, 10.0)
    values = np.where(seconds < 150, 0.0, 100 + seconds / 3600 * 5)
    found = slope(seconds, values)
    assert (found.slope, found.low, found.high) == pytest.approx((5, 5, 5))
    flat = slope(seconds, np.random.default_rng(0).normal(size=100))
    assert flat.low < 0 < flat.high


def test_a_sample_is_of_the_process():
    one = sample(os.getpid(), 0.0)
    assert one is not None
    assert one.memory > 10
    assert one.handles >= 3
    assert one.threads >= 1


def test_a_process_that_has_ended_has_no_sample():
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not reaped
        assert sample(process.pid, 0.0) is None
    assert sample(process.pid, 0.0) is None


def test_rows_hold_slopes_with_intervals_and_the_speed_at_both_ends():
    samples = tuple(Sample(float(t), 100.0, 10, 4) for t in range(0, 600, 2))
    one = Soak(samples=samples, saves=7, steps=50, rates=(1.0, 2.0, 3.0), fault="")
    made = {(row.arm, row.metric): row for row in rows.soak_rows(one)}
    assert (made["memory", "slope"].mean, made["handles", "median"].mean) == (0, 10)
    assert (made["speed, first third", "median"].mean, made["speed, last third", "median"].mean) == (1, 3)
    assert made["saves", "median"].mean == 7


def test_what_went_wrong_is_told_without_every_sample():
    found = Soak(samples=(Sample(1.0, 2.0, 3, 4),) * 1000, saves=1, steps=2, rates=(1.0,) * 1000, fault="late")
    assert rows.faults_of([found]) == [{"saves": "1", "steps": "2", "fault": "late"}]
