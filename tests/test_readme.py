"""README says what the result files say, and names only what exists."""

import re

from experiments.readme import BLOCK, ROOT, filled

README = (ROOT / "README.md").read_text()


def test_tables_are_those_of_the_result_files():
    assert BLOCK.search(README)
    assert filled(README) == README, "run `python -m experiments.readme`"


def test_pictures_and_scripts_exist():
    for path in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m ((?:experiments|benchmarks)\.\w+)", README):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module
