"""The package's structure: short functions, shallow nesting, short modules, no circles, no choice by a configuration's type.

Every rule lists all violations, one a line, and has a test in which it finds a planted one.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

import saegan_jax

PACKAGE = Path(saegan_jax.__file__).parent
TESTS = Path(__file__).parent
PURE = {
    "losses",
    "networks",
    "algorithms",
    "priors",
    "metrics",
    "steering",
    "images",
    "activations",
    "errors",
    "stats",
    "hlo",
    "spmd",
}
WORLDLY = {
    *("saegan_jax.training", "saegan_jax.data", "saegan_jax.evaluation", "saegan_jax.runs", "saegan_jax.report"),
    *("saegan_jax.cli", "saegan_jax.signals", "saegan_jax.noise", "experiments", "benchmarks"),
    *("array_record", "grain", "matplotlib", "orbax", "PIL", "rich", "safetensors", "sklearn", "tensorboardX"),
    *("tensorflow", "tensorflow_datasets", "tyro"),
    *("asyncio", "gzip", "http", "io", "logging", "os", "pathlib", "pickle", "random", "shutil", "signal", "socket"),
    *("subprocess", "sys", "tempfile", "threading", "time", "urllib", "warnings", "zipfile"),
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}
FUNCTION_LINES = 60
NESTING = 2
MODULE_LINES = 400
STUDY_LINES = 150
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENDMARKER, tokenize.ENCODING),
}
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function


class Module(NamedTuple):
    """One file: its name as it is imported, whether it is a package's ``__init__``, and its text."""

    name: str
    is_package: bool
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


def modules_of(folder: Path) -> list[Module]:
    """Every module of the package in ``folder``, which is named as the folder is."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        found.append(Module(".".join(parts[:-1] if is_package else parts), is_package, path.read_text()))
    return found


def modules_of_tests() -> list[Module]:
    """The files of tests and their helpers."""
    return [Module(str(path.relative_to(TESTS)), False, path.read_text()) for path in sorted(TESTS.rglob("*.py"))]


def functions_of(node: ast.AST, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Function, int]]:
    """Every function below ``node``: its qualified name, the function, and how many functions it is in, itself counted."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield prefix + child.name, child, depth + 1
            yield from functions_of(child, f"{prefix}{child.name}.", depth + 1)
        else:
            inner = f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix
            yield from functions_of(child, inner, depth)


def code_lines(text: str) -> set[int]:
    """Numbers of the lines that hold code: neither empty, nor a comment, nor a docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            lines.difference_update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return lines


def long_functions(modules: Sequence[Module]) -> list[str]:
    """Functions of more than 60 lines of code; those of functions inside them count."""
    found = []
    for module in modules:
        lines = code_lines(module.text)
        for name, function, _ in functions_of(module.tree):
            n = len(lines & set(range(function.lineno, (function.end_lineno or function.lineno) + 1)))
            if n > FUNCTION_LINES:
                found.append(
                    f"{module.name}:{function.lineno} {name} has {n} lines of code, of at most {FUNCTION_LINES}"
                )
    return found


def deep_functions(modules: Sequence[Module]) -> list[str]:
    """Functions within a function that is itself within one."""
    return [
        f"{module.name}:{function.lineno} {name} is nested {depth} deep, of at most {NESTING}"
        for module in modules
        for name, function, depth in functions_of(module.tree)
        if depth > NESTING
    ]


def long_modules(modules: Sequence[Module], *, most: int = MODULE_LINES) -> list[str]:
    """Files of more lines than ``most``."""
    lengths = {module.name: len(module.text.splitlines()) for module in modules}
    return [f"{name} has {n} lines, of at most {most}" for name, n in lengths.items() if n > most]


def is_type_checking(node: ast.AST) -> bool:
    """Whether a node is ``if TYPE_CHECKING:`` or ``if typing.TYPE_CHECKING:``."""
    return isinstance(node, ast.If) and ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING"


def run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """As :func:`ast.walk`, without what only a type checker reads."""
    yield node
    unseen = node.body if isinstance(node, ast.If) and is_type_checking(node) else []
    for child in ast.iter_child_nodes(node):
        if child not in unseen:
            yield from run_nodes(child)


def imports_of(module: Module, *, for_types: bool = False) -> set[str]:
    """Absolute names that a module imports when it runs, or also ``for_types``; ``from a import b`` gives ``a`` and ``a.b``."""
    package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(module.tree) if for_types else run_nodes(module.tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            names.add(source)
            names.update(f"{source}.{alias.name}" for alias in node.names)
    return names


def package_graph(modules: Sequence[Module]) -> dict[str, set[str]]:
    """For every package and top-level module those that it imports, itself and the root not counted."""
    graph: dict[str, set[str]] = {}
    known = {module.name.split(".")[1] for module in modules if "." in module.name}
    for module in modules:
        root, *inner = module.name.split(".")
        if not inner:
            continue
        imported = [name.split(".") for name in imports_of(module)]
        targets = {parts[1] for parts in imported if parts[0] == root and len(parts) > 1} & known
        graph.setdefault(inner[0], set()).update(targets - {inner[0]})
    return graph


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Everything that ``start`` imports, directly or through others."""
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph.get(name, ())
    return seen


def import_circles(modules: Sequence[Module]) -> list[str]:
    """Groups of packages of which each imports every other, directly or through others."""
    graph = package_graph(modules)
    after = {name: reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted({name} | {o for o in after[name] if name in after[o]})) for name in graph if name in after[name]
    }
    return [
        "; ".join(f"{name} imports {', '.join(sorted(graph[name] & set(group)))}" for name in group)
        for group in sorted(groups)
    ]


def type_switches(modules: Sequence[Module]) -> list[str]:
    """``isinstance`` or ``match`` on a class whose name ends in Config."""
    found = []
    for module in modules:
        for node in ast.walk(module.tree):
            tested: ast.AST | None = None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
                tested = node.args[1] if node.func.id in ("isinstance", "issubclass") else None
            elif isinstance(node, ast.MatchClass):
                tested = node.cls
            names = [] if tested is None else [getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(tested)]
            for name in names:
                if name.endswith("Config"):
                    found.append(
                        f"{module.name}:{getattr(node, 'lineno', 0)} chooses by the type {name}; use a registry"
                    )
    return found


def is_worldly(name: str) -> bool:
    """Whether a module of this name, or a package that it is in, touches the world."""
    parts = name.split(".")
    return any(".".join(parts[:i]) in WORLDLY for i in range(1, len(parts) + 1)) or name.startswith("tensorflow")


def pure_modules(modules: Sequence[Module]) -> list[Module]:
    """Those of the pure packages and top-level modules."""
    return [module for module in modules if module.name.split(".")[1:2] and module.name.split(".")[1] in PURE]


def worldly_imports(modules: Sequence[Module]) -> list[str]:
    """Imports and calls of the pure modules that touch the world."""
    found = []
    for module in pure_modules(modules):
        names = sorted(imports_of(module, for_types=True))
        found += [f"{module.name} imports {name}" for name in names if is_worldly(name)]
        calls = {n.func.id for n in ast.walk(module.tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        found += [f"{module.name} calls {name}" for name in sorted(calls & IMPURE_CALLS)]
    return found


def importers(modules: Sequence[Module], name: str) -> list[str]:
    """Modules that import ``name``."""
    return [module.name for module in modules if name in imports_of(module)]


MODULES = modules_of(PACKAGE)
Rule = Callable[[Sequence[Module]], list[str]]
RULES: dict[str, Rule] = {
    "functions are short": long_functions,
    "functions are not nested deep": deep_functions,
    "modules are short": long_modules,
    "packages do not import in a circle": import_circles,
    "nothing is chosen by a configuration's type": type_switches,
    "pure modules import nothing worldly": worldly_imports,
}
STUDIES = modules_of(PACKAGE.parent / "experiments")
STUDY_RULES: dict[str, Rule] = {
    "functions are short": long_functions,
    "functions are not nested deep": deep_functions,
    "files are short": partial(long_modules, most=STUDY_LINES),
    "nothing is chosen by a configuration's type": type_switches,
}


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps(rule: str) -> None:
    violations = RULES[rule](MODULES)
    assert not violations, f"{rule}: {len(violations)} violations\n" + "\n".join(violations)


@pytest.mark.parametrize("rule", STUDY_RULES)
def test_the_experiments_keep(rule: str) -> None:
    """They are options, ``run()`` and a note; what another study could use is in the package."""
    violations = STUDY_RULES[rule](STUDIES)
    assert not violations, f"{rule}: {len(violations)} violations\n" + "\n".join(violations)


def test_every_module_is_walked_and_every_pure_part_is_there() -> None:
    assert len(MODULES) == len(list(PACKAGE.rglob("*.py"))) > 60
    assert {"experiments.compare", "experiments.train_gan"} <= {module.name for module in STUDIES}
    assert {module.name.split(".")[1] for module in pure_modules(MODULES)} == PURE


def test_library_and_tests_check_by_chex() -> None:
    assert importers(MODULES, "chex")
    assert importers(modules_of_tests(), "chex")
    assert importers([Module("a", False, "import chex"), Module("b", False, "import chess")], "chex") == ["a"]


# Each rule finds a planted violation, and no more.


def planted(tmp_path: Path, **files: str) -> list[Module]:
    """A package ``p`` of the texts given, by their path with ``__`` for a slash."""
    for name, text in files.items():
        path = tmp_path / "p" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    return modules_of(tmp_path / "p")


def body(lines: int) -> str:
    return "".join(f"    x = {i}\n" for i in range(lines))


def test_long_functions_are_found_by_their_code_alone(tmp_path: Path) -> None:
    extra = '    """A docstring\n\n    of three lines."""\n    # A comment.\n\n'
    modules = planted(
        tmp_path,
        fits=f"def f():\n{extra}{body(59)}",
        long=f"class C:\n    def f(self):\n{body(60).replace('    x', '        x')}",
        nested=f"def f():\n    def g():\n{body(57).replace('    x', '        x')}    return g\n",
        text='def f():\n    x = """' + "\n" * 60 + '"""\n',
    )
    found = long_functions(modules)
    assert [line.split(" has ")[0] for line in found] == ["p.long:2 C.f", "p.text:1 f"]
    assert "61 lines" in found[0]
    assert long_functions(planted(tmp_path, nested=f"def f():\n    def g():\n        x = 1\n{body(59)}")) != found


def test_deep_functions_are_found(tmp_path: Path) -> None:
    text = "class C:\n    def f(self):\n        if self:\n            def g():\n                {}\n"
    fits = text.format("return lambda: 1")
    deep = text.format("async def h():\n                    pass")
    assert deep_functions(planted(tmp_path, fits=fits)) == []
    assert deep_functions(planted(tmp_path, deep=deep)) == ["p.deep:5 C.f.g.h is nested 3 deep, of at most 2"]


def test_long_modules_are_found(tmp_path: Path) -> None:
    modules = planted(tmp_path, fits="# x\n" * 400, long="# x\n" * 401)
    assert long_modules(modules) == ["p.long has 401 lines, of at most 400"]
    study = planted(tmp_path, fits="# x\n" * 150, long="# x\n" * 151)
    assert long_modules(study, most=STUDY_LINES) == ["p.long has 151 lines, of at most 150"]


def test_circles_of_packages_are_found(tmp_path: Path) -> None:
    modules = planted(
        tmp_path,
        a__one="from p import b\n",
        a__two="from .one import x\nimport p.a.one\n",  # within a package
        b="def f():\n    from p.c.deep import x\n",  # when it is called
        c__deep="from ..a import two\n",
        d="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.e import x\nelse:\n    import os\n",
        e="import p.d\nimport p.a.one\n",
    )
    assert import_circles(modules) == ["a imports b; b imports c; c imports a"]
    assert package_graph(modules)["e"] == {"a", "d"}
    assert package_graph(modules)["d"] == set()
    both = [*modules, Module("p.f", False, "import p.g"), Module("p.g", False, "import p.f")]
    assert len(import_circles(both)) == 2


def test_switches_on_types_are_found(tmp_path: Path) -> None:
    modules = planted(
        tmp_path,
        fits="isinstance(x, (int, list))\nConfig = isinstance(GANConfig, type)\n",
        one="isinstance(x, m.GANConfig)\n",
        several="isinstance(x, (int, SAEConfig | GANConfig))\n",
        cases="match x:\n    case GANConfig(width=2):\n        pass\n",
    )
    found = [line.split(" chooses by the type ") for line in type_switches(modules)]
    assert [(place, rest.split(";")[0]) for place, rest in found] == [
        ("p.cases:2", "GANConfig"), ("p.one:1", "GANConfig"), ("p.several:1", "SAEConfig"), ("p.several:1", "GANConfig")
    ]  # fmt: skip


def test_worldly_imports_and_calls_are_found() -> None:
    """Plain, from-, relative and nested imports, those for types too; of pure modules alone."""
    text = "import functools\nfrom saegan_jax.training import loop\ndef f():\n    import os.path as p\n    return open(p)\n"
    relative = "from ..data import registry\nfrom . import adversarial\n"
    for_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tensorflow_probability\n"
    modules = [
        Module("saegan_jax", True, text), Module("saegan_jax.training.y", False, text),
        Module("saegan_jax.losses.y", False, text), Module("saegan_jax.losses.x", False, relative),
        Module("saegan_jax.images", False, for_types),
    ]  # fmt: skip
    assert worldly_imports(modules) == [
        "saegan_jax.losses.y imports os.path", "saegan_jax.losses.y imports saegan_jax.training",
        "saegan_jax.losses.y imports saegan_jax.training.loop", "saegan_jax.losses.y calls open",
        "saegan_jax.losses.x imports saegan_jax.data", "saegan_jax.losses.x imports saegan_jax.data.registry",
        "saegan_jax.images imports tensorflow_probability",
    ]  # fmt: skip
    assert not is_worldly("saegan_jax.losses")
    assert not is_worldly("functools")


def foreign_folders(root: Path) -> list[str]:
    """Folders of tests that mirror neither a package within ``saegan_jax`` nor one beside it."""
    folders = sorted({path.parent.relative_to(root / "tests") for path in (root / "tests").rglob("test_*.py")})
    packages = (root / "saegan_jax", root)
    return [
        str(f) for f in folders if f.parts and not any((package / f / "__init__.py").is_file() for package in packages)
    ]


def private_imports(modules: Sequence[Module]) -> list[str]:
    """Private names that tests take from ``algorithms`` or ``training``."""
    pattern = re.compile(r"saegan_jax\.(algorithms|training)\b.*\._(?!_)")
    return [f"{module.name} imports {name}" for module in modules for name in imports_of(module) if pattern.match(name)]


def test_every_folder_of_tests_mirrors_a_package(tmp_path: Path) -> None:
    assert foreign_folders(TESTS.parent) == []
    for path in ("tests", "tests/a", "tests/a/b", "tests/c", "tests/old"):
        (tmp_path / path).mkdir()
        (tmp_path / path / "test_x.py").touch()
    for package in ("saegan_jax/a", "c"):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
    assert foreign_folders(tmp_path) == ["a/b", "old"]


def test_tests_take_no_private_function_of_algorithms_or_training() -> None:
    assert private_imports(modules_of_tests()) == []
    planted = "from saegan_jax.training.loop import _run\nfrom saegan_jax.priors.copula import _root\n"
    assert private_imports([Module("t", False, planted)]) == ["t imports saegan_jax.training.loop._run"]
