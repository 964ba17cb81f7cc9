"""What may import what: the pure core stays pure, and nothing here pulls in TensorFlow or wakes a device."""

import ast
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
PURE = sorted(
    path
    for part in (
        "losses",
        "networks",
        "algorithms",
        "metrics",
        "activations.py",
        "priors.py",
        "priors",
        "images.py",
        "errors.py",
        "steering.py",
        "stats.py",
    )
    for path in ([PACKAGE / part] if part.endswith(".py") else (PACKAGE / part).rglob("*.py"))
    if path.exists()
)
WORLDLY = {
    *("saegan_jax.training", "saegan_jax.data", "saegan_jax.report", "experiments", "benchmarks"),
    *("array_record", "grain", "matplotlib", "orbax", "PIL", "rich", "safetensors", "sklearn", "tensorboardX"),
    *("tensorflow", "tensorflow_datasets", "tyro"),
    *("asyncio", "gzip", "http", "io", "logging", "os", "pathlib", "pickle", "random", "shutil", "signal", "socket"),
    *("subprocess", "sys", "tempfile", "threading", "time", "urllib", "warnings", "zipfile"),
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}


def imported(path):
    """Absolute names of all modules that a file imports anywhere, `from a import b` counted as `a` and `a.b`."""
    package = ["saegan_jax", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_worldly(name):
    parts = name.split(".")
    return any(".".join(parts[:i]) in WORLDLY for i in range(1, len(parts) + 1)) or name.startswith("tensorflow")


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_code_imports_nothing_worldly(path):
    assert [name for name in imported(path) if is_worldly(name)] == []
    calls = [
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert IMPURE_CALLS.isdisjoint(calls)


def test_the_import_rule_can_fail(tmp_path):
    """The walk sees plain, from-, relative and nested imports."""
    assert len(PURE) > 15
    assert is_worldly("os.path")
    assert is_worldly("saegan_jax.training.loop")
    assert is_worldly("tensorflow_probability")
    assert not is_worldly("saegan_jax.losses")
    assert not is_worldly("functools")
    for path in (PACKAGE / "training").glob("loop.py"):
        assert any(is_worldly(name) for name in imported(path))
    source = tmp_path / "x.py"
    source.write_text(
        "def f():\n    from ..training import loop\n    from saegan_jax import data\n    import os.path as p\n"
    )
    names = list(imported_as(source, ("algorithms", "x.py")))
    assert {"saegan_jax.training", "saegan_jax.training.loop", "saegan_jax.data", "os.path"} <= set(names)


def imported_as(source, parts):
    """`imported` of a text as if it lay in the package."""

    class At(type(source)):
        def relative_to(self, *_, **__):
            return Path(*parts)

    return imported(At(source))


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
    allowed = {"saegan_jax", "saegan_jax.activations"}
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
