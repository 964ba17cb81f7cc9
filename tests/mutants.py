"""Whether the tests notice a fault: single-line mutants of the pure code, each met by the tests that mirror its package.

    python tests/mutants.py --n 100 --seed 0
    python tests/mutants.py --equivalent ID "why no test could tell"

Mutants are chosen with a fixed seed, as many of each kind as there are. A copy of the tree in a temporary folder is
mutated, never the tree itself. ``tests/results/mutants.json`` is written after every mutant; a run that was stopped goes
on where it ended. A mutant is ``caught`` if a test fails or takes too long, else it ``survived``, until a person finds it
``equivalent``.
"""

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tests" / "results" / "mutants.json"
MUTATED = ("losses", "algorithms", "metrics", "priors", "training/transforms.py")
COPIED = ("saegan_jax", "tests", "experiments", "benchmarks", "docs", "pyproject.toml", "README.md", "CONTRIBUTING.md")
SWAPS: dict[type[ast.AST], tuple[str, tuple[str, ...]]] = {
    ast.Add: ("+", ("-",)),
    ast.Sub: ("-", ("+",)),
    ast.Mult: ("*", ("/",)),
    ast.Div: ("/", ("*",)),
    ast.Pow: ("**", ("*",)),
    ast.FloorDiv: ("//", ("*",)),
    ast.Mod: ("%", ("*",)),
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.And: ("and", ("or",)),
    ast.Or: ("or", ("and",)),
}
# Packages whose files are tested by those of another.
BESIDE = {
    "algorithms": ("tests/algorithms/test_registry.py", "tests/algorithms/gan", "tests/algorithms/sae"),
    "training": ("tests/training/test_transforms.py",),
}


@dataclass(frozen=True, order=True)
class Mutant:
    """One replacement within one line of ``path``; columns count bytes."""

    path: str
    line: int
    column: int
    end: int
    kind: str
    text: str

    @property
    def id(self) -> str:
        return f"{self.path}:{self.line}:{self.column} {self.kind} -> {self.text}"

    def applied(self, source: str) -> str:
        lines = source.encode().splitlines(keepends=True)
        row = lines[self.line - 1]
        lines[self.line - 1] = row[: self.column] + self.text.encode() + row[self.end :]
        return b"".join(lines).decode()


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def mutable(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes whose value the program uses: no annotations, texts, imports, nor what an error says."""
    yield node
    skipped: list[ast.AST | None] = []
    if isinstance(node, ast.FunctionDef):
        skipped = [node.returns, *node.decorator_list]
    elif isinstance(node, ast.arg | ast.AnnAssign):
        skipped = [node.annotation]
    elif isinstance(node, ast.Raise):
        skipped = [node.exc, node.cause]
    for child in ast.iter_child_nodes(node):
        silent = isinstance(child, ast.JoinedStr | ast.Import | ast.ImportFrom) or is_docstring(child)
        if child not in skipped and not silent:
            yield from mutable(child)


def replaced(node: ast.AST, kind: str, text: str) -> tuple[int, int, int, str, str]:
    return node.lineno, node.col_offset, node.end_col_offset, kind, text  # type: ignore[attr-defined]


def operators(node: ast.AST, lines: Sequence[bytes]) -> Iterator[tuple[int, int, int, str, str]]:
    """Another operator between two operands."""
    if isinstance(node, ast.BinOp):
        parts = [("operator", node.left, node.op, node.right)]
    elif isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        parts = [("comparison", a, op, b) for a, op, b in zip(operands, node.ops, operands[1:], strict=False)]
    elif isinstance(node, ast.BoolOp):
        parts = [("operator", a, node.op, b) for a, b in zip(node.values, node.values[1:], strict=False)]
    else:
        return
    for kind, left, op, right in parts:
        if type(op) not in SWAPS or left.end_lineno != right.lineno:
            continue
        sign, others = SWAPS[type(op)]
        gap = lines[right.lineno - 1][left.end_col_offset : right.col_offset]
        at = gap.find(sign.encode())
        if at >= 0:
            start = left.end_col_offset + at
            for other in others:
                yield right.lineno, start, start + len(sign), kind, other


def values(node: ast.AST, lines: Sequence[bytes]) -> Iterator[tuple[int, int, int, str, str]]:
    """A number one larger, a sign or a ``not`` left out, the first two arguments swapped."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield replaced(node, "constant", repr(node.value + 1))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        word = {ast.USub: "-", ast.Not: "not "}[type(node.op)]
        yield node.lineno, node.col_offset, node.col_offset + len(word), "sign", ""
    elif isinstance(node, ast.Call) and len(node.args) >= 2 and node.args[0].lineno == node.args[1].end_lineno:
        first, second = node.args[:2]
        if not any(isinstance(a, ast.Starred) for a in (first, second)) and first.end_lineno == first.lineno:
            row = lines[first.lineno - 1]
            a, b = row[first.col_offset : first.end_col_offset], row[second.col_offset : second.end_col_offset]
            between = row[first.end_col_offset : second.col_offset]
            if a != b:
                text = (b + between + a).decode()
                yield first.lineno, first.col_offset, second.end_col_offset or 0, "arguments", text


def statements(node: ast.AST, lines: Sequence[bytes]) -> Iterator[tuple[int, int, int, str, str]]:
    """A statement that is called for its effect, left out."""
    if isinstance(node, ast.Expr | ast.AugAssign | ast.Raise) and not is_docstring(node):
        yield replaced(node, "statement", "pass")


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Every mutant of a file that still parses and reads otherwise."""
    tree, lines = ast.parse(source), source.encode().splitlines()
    whole = ast.dump(tree)
    found = set()
    for node in mutable(tree):
        if getattr(node, "lineno", 0) != getattr(node, "end_lineno", 0) and not isinstance(
            node, ast.BinOp | ast.Compare | ast.BoolOp | ast.Call
        ):
            continue
        for make in (operators, values, statements):
            for place in make(node, lines):
                mutant = Mutant(path, *place)
                try:
                    changed = ast.dump(ast.parse(mutant.applied(source))) != whole
                except SyntaxError:
                    changed = False
                if changed:
                    found.add(mutant)
    return sorted(found)


def chosen(mutants: Sequence[Mutant], n: int, seed: int) -> list[Mutant]:
    """``n`` mutants, the kinds in turn, so that constants do not crowd out the rest."""
    rng, kinds = random.Random(seed), {}
    for kind in sorted({m.kind for m in mutants}):
        kinds[kind] = [m for m in mutants if m.kind == kind]
        rng.shuffle(kinds[kind])
    taken: list[Mutant] = []
    while len(taken) < n and any(kinds.values()):
        taken += [waiting.pop() for waiting in kinds.values() if waiting]
    return taken[:n]


def tests_of(path: str) -> tuple[str, ...]:
    """The tests that mirror a module, those of its name first."""
    inner = Path(path).relative_to("saegan_jax")
    folder = next(f for f in inner.parents if (ROOT / "tests" / f).is_dir())
    same = Path("tests") / inner.parent / f"test_{inner.stem}.py"
    first = (str(same),) if (ROOT / same).is_file() else ()
    beside = BESIDE.get(str(folder))
    if beside is not None:
        return first or beside
    return (*first, str(Path("tests") / folder))


def copy_of_the_tree(folder: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


def fails(folder: Path, tests: Sequence[str], *, limit: float) -> tuple[bool, str]:
    """Whether the tests fail in ``folder``, and by which one."""
    # A module of the same size written in the same second would be taken from its compiled form.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    program = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return True, f"not done after {limit:.0f} s"
    if done.returncode not in (0, 1, 2, 4):
        raise SystemExit(f"error: pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode != 0, lines[0][:200] if lines else ""


def write(results: dict[str, dict[str, object]], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    outcomes = [record["outcome"] for record in results.values()]
    counts = {name: outcomes.count(name) for name in ("caught", "survived", "equivalent")}
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps({"counts": counts, "mutants": results}, indent=1) + "\n")
    temporary.replace(path)


def run(mutants: Sequence[Mutant], path: Path, *, limit: float) -> None:
    """Every mutant that has no result yet."""
    results = json.loads(path.read_text())["mutants"] if path.exists() else {}
    passed: set[tuple[str, ...]] = set()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        copy_of_the_tree(folder)
        for i, mutant in enumerate(mutants, 1):
            source = (folder / mutant.path).read_text()
            row = source.splitlines()[mutant.line - 1].strip()
            if results.get(mutant.id, {}).get("before") == row:
                continue
            tests = tests_of(mutant.path)
            if tests not in passed:
                failed, by = fails(folder, tests, limit=10 * limit)
                if failed:
                    raise SystemExit(f"error: without a mutant {by}; {' '.join(tests)} must pass first")
                passed.add(tests)
            start = time.perf_counter()
            (folder / mutant.path).write_text(mutant.applied(source))
            failed, by = fails(folder, tests, limit=limit)
            (folder / mutant.path).write_text(source)
            seconds = round(time.perf_counter() - start, 1)
            outcome = "caught" if failed else "survived"
            after = mutant.applied(source).splitlines()[mutant.line - 1].strip()
            results[mutant.id] = asdict(mutant) | {
                "before": row, "after": after, "tests": list(tests), "outcome": outcome, "by": by, "seconds": seconds
            }  # fmt: skip
            write(results, path)
            print(
                f"{i}/{len(mutants)} {outcome} {seconds} s {mutant.path}:{mutant.line} {row}  ->  {after}", flush=True
            )


def judge(identifier: str, why: str, path: Path) -> None:
    """Record that no test could tell a mutant from the code."""
    results = json.loads(path.read_text())["mutants"]
    if results.get(identifier, {}).get("outcome") not in ("survived", "equivalent"):
        raise SystemExit(f"error: no survivor is called {identifier!r}")
    results[identifier] |= {"outcome": "equivalent", "why": why}
    write(results, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--only", default="", help="those of files whose path contains this")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that the tests of a mutant may take")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--equivalent", nargs=2, metavar=("ID", "WHY"), help="judge a survivor; nothing is run")
    options = parser.parse_args()
    if options.equivalent:
        judge(*options.equivalent, options.results)
        return
    places = [ROOT / "saegan_jax" / name for name in MUTATED]
    files = sorted(file for place in places for file in ([place] if place.is_file() else place.rglob("*.py")))
    paths = {str(file.relative_to(ROOT)): file.read_text() for file in files}
    mutants = [mutant for path, text in paths.items() if options.only in path for mutant in mutants_of(path, text)]
    run(chosen(mutants, options.n, options.seed), options.results, limit=options.limit)


if __name__ == "__main__":
    main()
