"""One direction of imports: harness, workloads, peers, the commands; and one module that touches the package."""

import ast
from pathlib import Path

import pytest
from test_structure import RULES, modules_of

import benchmarks

PACKAGE = Path(benchmarks.__file__).parent
LAYERS = ("harness", "workloads", "peers", "commands")
CONTACT = "benchmarks.workloads.package"
TIMED = ("saegan_jax.algorithms", "saegan_jax.training")
"""The one module that writes files, and what it writes them with."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def layer(name: str) -> int:
    """How high a module of the benchmarks stands: nothing imports what stands above it."""
    part = [*name.split("."), ""][1]
    return LAYERS.index(part) if part in LAYERS else len(LAYERS) - 1


def module_name(path: Path, package: Path = PACKAGE) -> str:
    parts = ["benchmarks", *path.relative_to(package).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def mentioned(path: Path) -> set[str]:
    """Modules that a file imports anywhere, or names in a string as ``benchmarks.x.y`` or ``benchmarks.x.y:function``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            found |= {node.value.split(":")[0]}
    return found


def above(path: Path, package: Path = PACKAGE) -> list[str]:
    """What a file of the benchmarks imports that stands above it."""
    mine = layer(module_name(path, package))
    inside = [name for name in mentioned(path) if name.startswith("benchmarks.")]
    return sorted(name for name in inside if layer(name) > mine)


def touches(path: Path, package: Path = PACKAGE) -> list[str]:
    """What a file imports of the package's algorithms and training, but for what it may."""
    name = module_name(path, package)
    found = {one for one in mentioned(path) if one.startswith(TIMED)}
    return [] if name == CONTACT else sorted(found)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    assert above(path) == []
    assert touches(path) == []


@pytest.mark.parametrize("rule", RULES)
def test_the_benchmarks_keep_the_rules_of_the_package(rule):
    assert RULES[rule](modules_of(PACKAGE)) == []


def test_the_rules_can_fail(tmp_path):
    assert {layer(module_name(path)) for path in MODULES} == set(range(len(LAYERS)))
    assert layer("benchmarks.run") == layer("benchmarks.scaling") == 3

    def violations(text: str, place: str) -> tuple[list[str], list[str]]:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return above(path, tmp_path), touches(path, tmp_path)

    nested = "def f():\n    from benchmarks.workloads import sae\n"
    assert violations(nested, "harness/x.py")[0] == ["benchmarks.workloads", "benchmarks.workloads.sae"]
    assert violations(nested, "peers/x.py")[0] == []
    assert violations("import benchmarks.peers.torch\n", "workloads/deep/x.py")[0] == ["benchmarks.peers.torch"]
    assert violations("from benchmarks import run\n", "peers/x.py")[0] == ["benchmarks.run"]
    assert violations('FACTORY = "benchmarks.peers.keras:make"\n', "harness/x.py")[0] == ["benchmarks.peers.keras"]
    assert violations("from benchmarks.harness import rows\n", "harness/x.py") == ([], [])
    algorithms = "from saegan_jax.algorithms.sae import sae\n"
    assert violations(algorithms, "workloads/sae.py")[1] == [
        "saegan_jax.algorithms.sae",
        "saegan_jax.algorithms.sae.sae",
    ]
    assert violations(algorithms, "workloads/package.py")[1] == []
    assert violations("from saegan_jax.training.loop import train\n", "run.py")[1] != []
    assert violations("from saegan_jax.files import write_bytes\n", "harness/results.py")[1] == []
