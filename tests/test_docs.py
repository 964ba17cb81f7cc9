"""README and docs say what the result files say, name only what exists, and show commands and code that can work."""

import ast
import re
from pathlib import Path

import pytest

from experiments.readme import (
    FENCE,
    ROOT,
    TABLE,
    Command,
    commands_of,
    documented_commands,
    filled,
    pages,
    without_code,
    without_tables,
)

PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in pages()}
ANSWER = "experiments/results/does-sparsity-help.md"
# Beside the pages, what is held to the same rules of links and numbers.
TEXTS = PAGES | {name: (ROOT / name).read_text() for name in ("CHANGELOG.md", "CONTRIBUTING.md", ANSWER)}
README_BYTES = 9 * 1024
SYSTEMS = ("sae", "gan", "saegan", "vae", "energy", "cyclegan")
PARTS = {"experiments.reliability": ("kills", "damage", "non-finite", "fuzz", "soak")}
"""Words that a command takes without an option."""
LINK = re.compile(r"\]\((?!https?:|mailto:)(?P<path>[^)#]*)(?:#(?P<anchor>[^)]+))?\)")
NO_LEADING_ZERO = re.compile(r"(?<![\w.])\.\d")


def anchors(text: str) -> set[str]:
    """What the headings of a page are called in links: small letters and hyphens."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def snippets() -> list[tuple[str, str]]:
    blocks = [(page, block[0]) for page, text in PAGES.items() for block in FENCE.finditer(text)]
    return [
        (page, FENCE.match(block)["code"])  # type: ignore[index]
        for page, block in blocks
        if block.startswith("```python")
    ]


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_result_files(page):
    assert filled(PAGES[page]) == PAGES[page], "run `python -m experiments.readme`"


def test_an_outdated_table_is_noticed():
    name = "experiments/results/saegan_digits.md"
    block = f"<!-- table: {name} -->\n| old |\n<!-- end -->"
    assert "| old |" not in filled(block)
    assert "SAE FVU" in filled(block)


def test_some_tables_are_included():
    assert sum(len(TABLE.findall(text)) for text in PAGES.values()) >= 8


def test_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= README_BYTES


def test_readme_holds_the_test_command():
    block = re.search(r"<!-- test-begin -->\n```bash\n(.*?)```\n<!-- test-end -->", PAGES["README.md"], re.DOTALL)
    assert block is not None
    assert "pytest" in block[1]


@pytest.mark.parametrize("page", TEXTS)
def test_links_and_pictures_exist(page):
    for link in LINK.finditer(without_tables(TEXTS[page])):
        target = (ROOT / page).parent / link["path"] if link["path"] else ROOT / page
        assert target.exists(), link[0]
        if link["anchor"]:
            assert link["anchor"] in anchors(target.read_text()), link[0]


@pytest.mark.parametrize("page", TEXTS)
def test_numbers_have_a_leading_zero(page):
    found = NO_LEADING_ZERO.search(without_code(without_tables(TEXTS[page])))
    assert found is None, TEXTS[page][max(0, found.start() - 40) :][:80]


@pytest.mark.parametrize(
    ("text", "bad"), [("of .5", True), ("[-.3, 1]", True), ("0.5", False), ("a .npz", False), ("v1.2.3", False)]
)
def test_a_number_without_leading_zero_is_noticed(text, bad):
    assert bool(NO_LEADING_ZERO.search(text)) == bad


def test_every_result_is_listed():
    listed = {
        ((ROOT / "docs") / link["path"]).resolve() for link in LINK.finditer(PAGES["docs/results.md"]) if link["path"]
    }
    folders = (ROOT / "experiments/results", ROOT / "benchmarks/results")
    published = {path for folder in folders for path in folder.iterdir() if path.suffix in (".md", ".png")}
    assert published - listed == set(), "add them to docs/results.md"


def test_every_page_is_listed():
    listed = {link["path"] for link in LINK.finditer(PAGES["docs/index.md"])}
    assert {Path(page).name for page in PAGES if page.startswith("docs/")} - listed == {"index.md", "site.md"}
    contents = set(re.findall(r"^[\w./-]+$", PAGES["docs/site.md"], re.MULTILINE))
    assert {Path(page).stem for page in PAGES if page.startswith("docs/") and "/api/" not in page} - contents == {
        "site"
    }


def problem(command: Command) -> str | None:
    """What is wrong with the form of a command, as far as it can be seen without the parser of the command."""
    words = list(command.words)
    if words[:2] == ["python", "-m"]:
        module, options = words[2], words[3:]
        if not (ROOT / (module.replace(".", "/") + ".py")).exists():
            return f"there is no {module}"
    else:
        kind, options = words[1], words[2:]
        if kind not in (
            "train",
            "sample",
            "translate",
            "export",
            "data",
            "report",
            "invert",
            "audit",
            "runs",
            "push",
            "pull",
        ):
            return f"saegan has no {kind}"
        if kind == "train":
            if not options or options.pop(0) not in SYSTEMS:
                return f"saegan train wants one of {', '.join(SYSTEMS)}"
        elif kind == "report":
            if not options or options.pop(0).startswith("--"):
                return "saegan report wants a run or a result"
        elif kind == "data":
            if not options or options.pop(0) not in ("list", "inspect", "prepare"):
                return "saegan data wants list, inspect or prepare"
        elif kind in ("runs", "push", "pull"):
            while options and not options[0].startswith("--"):
                options.pop(0)  # folders and names
        elif wanted := {"--real", "--fake", "--out"} - set(options) if kind == "audit" else {"--run"} - set(options):
            return f"saegan {kind} wants {' and '.join(sorted(wanted))}"
    if options and options[0] in PARTS.get(words[2], ()):
        options = options[1:]
    if options and not options[0].startswith("--"):
        return f"{options[0]!r} belongs to no option"
    names = [word for word in options if word.startswith("--")]
    wrong = [name for name in names if not re.fullmatch(r"--[a-z][a-z0-9]*([.-][a-z0-9]+)*", name)]
    if wrong:
        return f"{wrong} are no names of options"
    if len(set(names)) < len(names):
        return "an option is given twice"
    return None


def test_commands_are_well_formed():
    found = documented_commands()
    assert len(found) >= 40
    assert {page for page, _ in found} >= {"README.md", "docs/training.md", "docs/sae.md"}
    assert [(command, wrong) for command in found if (wrong := problem(command))] == []


def test_commands_are_found_in_blocks_and_in_lines():
    text = "Run `saegan train\nsae`, or:\n\n```bash\npip install x && saegan sample \\\n  --run 'my run'  # all\n```\n"
    assert commands_of(text, page="p") == [
        Command("p", ("saegan", "sample", "--run", "my run")),
        Command("p", ("saegan", "train", "sae")),
    ]


@pytest.mark.parametrize(
    "code",
    [
        "saegan fly --run x",
        "saegan train nothing",
        "saegan sample",
        "saegan report --features 5",
        "saegan audit --real mnist",
        "python -m experiments.missing",
        "python -m experiments.compare extra",
        "python -m experiments.reliability extra",
        "python -m experiments.compare --Arms both",
        "python -m experiments.compare --seeds 1 --seeds 2",
    ],
)
def test_a_wrong_command_is_noticed(code):
    (command,) = commands_of(f"`{code}`")
    assert problem(command) is not None


def test_an_unclosed_quotation_mark_is_an_error():
    with pytest.raises(ValueError, match=r"page: .* is not a command"):
        commands_of("`python -m benchmarks.run --only 'gan`", page="page")


@pytest.mark.parametrize(("page", "code"), snippets(), ids=lambda value: value if value in PAGES else "")
def test_code_imports_what_exists(page, code):
    tree = ast.parse(code, page)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, type_ignores=[]), page, "exec"), {})


def test_the_reference_names_every_public_package():
    reference = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    documented = set(re.findall(r"automodule:: (saegan_jax\.[\w.]+)", reference))
    public = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "saegan_jax").rglob("__init__.py")
        if re.search(r"^__all__ = \[$", path.read_text(), re.MULTILINE)
    }
    assert public - documented == set()
