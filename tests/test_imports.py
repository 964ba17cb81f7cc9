"""Nothing here pulls in TensorFlow or wakes a device, and every public loss documents itself."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import saegan_jax
from saegan_jax import losses

PACKAGE = Path(saegan_jax.__file__).parent

REPORT = """
import json, sys
from jax._src import xla_bridge
print(json.dumps({"modules": sorted(sys.modules), "backends": xla_bridge.backends_are_initialized()}))
"""


def run_python(code, *path):
    """Modules loaded by ``code`` in a fresh process, and whether it woke a device."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), str(PACKAGE.parent)])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code + REPORT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    return report["modules"], report["backends"]


def test_losses_need_jax_alone_and_touch_no_device():
    modules, backends = run_python("import saegan_jax.losses")
    own = [m for m in modules if m.startswith("saegan_jax")]
    allowed = {"saegan_jax", "saegan_jax.activations", "saegan_jax.spmd"}
    assert [m for m in own if m not in allowed and not m.startswith("saegan_jax.losses")] == []
    others = {
        "flax",
        "optax",
        "orbax",
        "chex",
        "sklearn",
        "matplotlib",
        "tensorflow",
        "tensorflow_datasets",
        "tyro",
        "PIL",
    }
    assert others.isdisjoint(modules)
    assert not backends


def test_importing_everything_brings_no_tensorflow_and_touches_no_device(tmp_path):
    """With a TensorFlow to be found: an empty package of that name, so that a mere attempt to import it shows."""
    for name in ("tensorflow", "tensorflow_cpu"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    assert "tensorflow" in run_python("import tensorflow", tmp_path)[0]
    code = """
import importlib, pkgutil, saegan_jax
for module in pkgutil.walk_packages(saegan_jax.__path__, "saegan_jax."):
    importlib.import_module(module.name)
"""
    modules, backends = run_python(code, tmp_path)
    assert {"saegan_jax.training.loop", "saegan_jax.algorithms.saegan", "saegan_jax.losses.vae"} <= set(modules)
    assert [m for m in modules if m.split(".")[0] in ("tensorflow", "tensorflow_cpu")] == []
    assert not backends


@pytest.mark.parametrize("name", losses.__all__)
def test_public_losses_document_themselves(name):
    """Every argument, the shapes, what comes back, what is raised, and the source."""
    public = getattr(losses, name)
    doc = inspect.getdoc(public) or ""
    if inspect.isclass(public):
        assert re.search(r"scalar|shape|\(batch", doc)
        return
    for part in ("Args:", "Returns:", "Raises:", "Source:"):
        assert part in doc, part
    for argument in inspect.signature(public).parameters:
        assert re.search(rf"\b{argument}\b", doc), argument
    assert re.search(r"shape|scalar|\((batch|d_sae|n)\b", doc)


def test_every_public_loss_is_listed_and_only_those():
    exported = {n for n, v in vars(losses).items() if not n.startswith("_") and not inspect.ismodule(v)}
    assert exported == set(losses.__all__)
    assert list(losses.__all__) == sorted(losses.__all__)
