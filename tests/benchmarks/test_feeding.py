"""The feeding benchmark runs, and its table says what its rows do; no rate is asserted."""

import json

import numpy as np
import pytest
from tiny_works import check_form, toy_algorithm

from benchmarks import feeding
from benchmarks.harness.errors import OptionError
from benchmarks.workloads.fed import DEVICE, DISK, MEMORY, READING, Case


def test_a_run_measures_every_arm_and_writes_its_table(tmp_path):
    case = Case(toy_algorithm(16, d_in=192), 16, (8, 8, 3), 2, "png")
    out = tmp_path / "feeding.json"
    options = feeding.parse_options(["--repeats", "2", "--seconds", "0.01", "--out", str(out)])
    feeding.run(options, cases={"tiny": lambda: case}, n_images=40)
    result = json.loads(out.read_text())
    check_form(result)
    found = {(row["arm"], row["metric"]): row for row in result["rows"]}
    for arm in (DEVICE, DISK, MEMORY, READING):
        rates = found[arm, "rate"]["values"]
        assert len(rates) == 2
        np.testing.assert_allclose(found[arm, "images"]["values"], [16 * r for r in rates])
        assert found[arm, "cpu"]["median"] > 0
        assert ((arm, "ratio") in found) == (arm != DEVICE)
        assert ((arm, "data_wait") in found) == (arm in (DISK, MEMORY))
    pairs = zip(found[DISK, "rate"]["values"], found[DEVICE, "rate"]["values"], strict=True)
    np.testing.assert_allclose(found[DISK, "ratio"]["values"], [a / b for a, b in pairs])
    waits = found[DISK, "data_wait"]["values"]
    assert len(waits) == 2
    assert all(0 <= wait <= 1 for wait in waits)
    text = out.with_suffix(".md").read_text()
    assert "8x8x3 as PNG" in text
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")][1:] == [
        f"| {arm}" for arm in (DEVICE, DISK, MEMORY, READING)
    ]


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(OptionError, match=r"--only 'x' .*there are gan_dcgan_64x64x3, sae_b256_28x28"):
        feeding.run(feeding.parse_options(["--only", "x"]))
