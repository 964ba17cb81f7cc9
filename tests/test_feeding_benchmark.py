"""The feeding benchmark runs, and its table says what its rows do; no rate is asserted."""

import numpy as np
import pytest

from benchmarks import feeding
from benchmarks.feeding import DEVICE, DISK, MEMORY, READING, Case
from saegan_jax.algorithms.sae import SAEConfig, sae


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "CASES", {"tiny": tiny})


def tiny() -> Case:
    algorithm = sae(SAEConfig(d_sae=8, batch_size=16), image_shape=(8, 8, 3))
    return Case(algorithm, 16, (8, 8, 3), 2, "png")


def test_a_run_measures_every_arm_and_writes_its_table() -> None:
    result = feeding.measure_all({"tiny": tiny}, command="x", repeats=2, seconds=0.01, n_images=40)
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
    text = feeding.markdown(result)
    assert "8x8x3 as PNG" in text
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")][1:] == [
        f"| {arm}" for arm in (DEVICE, DISK, MEMORY, READING)
    ]


def test_settings_that_cannot_be_measured_are_refused() -> None:
    with pytest.raises(SystemExit, match="--only 'x' matches none of tiny"):
        feeding.main(only="x")
    with pytest.raises(SystemExit, match="--repeats 0 "):
        feeding.main(repeats=0)
