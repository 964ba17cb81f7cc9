"""The benchmarks measure the same thing on both sides and write what their pages promise; no time is asserted."""

import numpy as np
import pytest
from tiny_works import SHAPE

from benchmarks.harness.program.cost import Machine
from benchmarks.workloads.images import images


@pytest.fixture(scope="session")
def machine() -> Machine:
    """A machine of known rates."""
    return Machine(1e11, 1e10)


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    return images(64, SHAPE)
