"""Several devices beside one, in processes with several virtual ones: ``shard_map``, explicit axes, whole trainings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Of the largest number of an array: sums in another order. Adam divides by gradients that are almost 0.
TOLERANCE = {"spmd_losses": 1e-5, "spmd_steps": 1e-4, "spmd_trainings": 1e-3}


def with_devices(program: str, *arguments: str, n: int = 8) -> dict[str, float]:
    """What a program of this folder prints, in a process with ``n`` virtual devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={n}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, str(TESTS / f"{program}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
@pytest.mark.parametrize("program", TOLERANCE)
def test_several_devices_are_one(program: str, every: bool) -> None:
    found = with_devices(program, *["every"] * every)
    assert len(found) > 5
    assert {name: worst for name, worst in found.items() if not worst <= TOLERANCE[program]} == {}
