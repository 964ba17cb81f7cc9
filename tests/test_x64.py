"""With JAX_ENABLE_X64=1 every system trains as without it: states stay of 32 bits, and the order of the data is the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax.data.order import shuffled

ORDER = """
import jax, jax.numpy as jnp, json
from saegan_jax.data.order import shuffled
place = 37 + jnp.arange({n}, dtype=jnp.int32)
print(json.dumps(shuffled(jax.random.key(4), place, {n}, epochs=40).tolist()))
"""


def with_x64(*arguments: str) -> str:
    """Standard output of Python with these arguments and 64 bits enabled; a loop without an end fails."""
    root = Path(__file__).parents[1]
    environment = os.environ | {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


def test_every_system_keeps_its_dtypes():
    found = json.loads(with_x64(str(Path(__file__).with_name("x64_program.py"))))
    assert len(found) > 30
    assert {name: leaves for name, leaves in found.items() if leaves} == {}


@pytest.mark.parametrize("n", [16, 100])
def test_the_order_of_the_data_is_the_same(n):
    wanted = shuffled(jax.random.key(4), 37 + jnp.arange(n, dtype=jnp.int32), n, epochs=40)
    np.testing.assert_array_equal(json.loads(with_x64("-c", ORDER.format(n=n))), wanted)
