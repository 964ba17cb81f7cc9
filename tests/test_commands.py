"""Every command that a result file records is still understood by the parser of its script; none of them is run."""

import ast
import importlib
import json
import shlex
from pathlib import Path

import pytest

from experiments.readme import documented_commands
from saegan_jax.cli import module_of
from saegan_jax.errors import ConfigError

ROOT = Path(__file__).parents[1]
FILES = sorted((*(ROOT / "benchmarks" / "results").glob("*.json"), *(ROOT / "experiments" / "results").glob("*.json")))
GONE: dict[str, str] = {}
"""Scripts that are no longer there under the name that a result file records, and why."""
WITHOUT_OPTIONS = {"experiments.readme"}


def recorded(path: Path) -> list[str]:
    """The words of the command that made a result file."""
    return shlex.split(json.loads(path.read_text())["command"])


def parsed(words: list[str]) -> object:
    """The options that a command's script reads from it.

    Raises:
      ConfigError: the script refuses them.
    """
    python, dash_m, module, *arguments = words
    assert (python, dash_m) == ("python", "-m")
    return importlib.import_module(module).parse_options(arguments)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recorded_command_is_still_understood(path):
    words = recorded(path)
    if words[2] in GONE:
        pytest.skip(GONE[words[2]])
    options = parsed(words)
    assert type(options).__module__.split(".")[0] in ("saegan_jax", words[2].split(".")[0])


def test_a_documented_command_is_understood():
    """Every command of README and docs, by the parser that would read it."""
    found = documented_commands()
    assert len(found) > 40
    for command in found:
        words = list(command.words)
        if words[0] == "saegan":
            module, arguments, _ = module_of(words[1:])
            module.parse_options(arguments)
        elif words[2] not in WITHOUT_OPTIONS:
            parsed(words)


def test_what_is_listed_as_gone_is_gone_and_recorded():
    names = {recorded(path)[2] for path in FILES}
    for name in GONE:
        assert name in names
        assert not (ROOT / f"{name.replace('.', '/')}.py").exists()


def scripts() -> list[str]:
    """Modules that do something when they are run."""
    paths = [*(ROOT / "experiments").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    return sorted(f"{path.parent.name}.{path.stem}" for path in paths if "__main__" in path.read_text())


def test_every_script_has_a_parser_and_uses_it():
    assert {"benchmarks.run", "experiments.train_gan"} <= set(scripts())
    for name in set(scripts()) - WITHOUT_OPTIONS:
        tree = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text())
        imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert "parse_options" in imported | defined, name
        (block,) = (node for node in tree.body if isinstance(node, ast.If))
        called = {n.func.id for n in ast.walk(block) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        assert "parse_options" in called, name


def test_the_check_can_fail():
    assert len(FILES) > 20
    words = next(words for words in map(recorded, FILES) if "--seeds" in words)
    for wrong in ([*words, "--no-such-option", "1"], [w.replace("--seeds", "--sedes") for w in words]):
        with pytest.raises(ConfigError, match=r"option = '--(no-such-option|sedes)'"):
            parsed(wrong)
    with pytest.raises(ModuleNotFoundError):
        parsed(["python", "-m", "experiments.placements"])
    place = words.index("--seeds") + 1
    changed = parsed([*words[:place], "64", *words[place + 1 :]])
    assert changed.seeds == 64
    assert changed != parsed(words)
