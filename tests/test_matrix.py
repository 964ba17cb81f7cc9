"""The matrix of versions: what it reads from a report of pytest, and what it keeps."""

import json
import sys
from pathlib import Path

import matrix
import pytest

REPORT = """<testsuites><testsuite name="pytest">
<testcase classname="tests.test_a" name="test_good"/>
<testcase classname="tests.test_a" name="test_bad"><failure message="no"/></testcase>
<testcase classname="tests.test_a" name="test_broken"><error message="no"/></testcase>
<testcase classname="tests.test_b" name="test_left_out"><skipped/></testcase>
</testsuite></testsuites>"""


def result(python: str, which: str, tests: str = "tests", passed: int = 1) -> dict[str, object]:
    versions = dict.fromkeys(matrix.SHOWN, "1.0") | {"python": python}
    return {"versions": versions, "with": which, "tests": tests, "passed": passed, "failed": 0, "skipped": 2}


def test_a_report_is_counted_and_what_failed_is_named(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    found = matrix.outcome(tmp_path / "report.xml")
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 2, 1)
    assert found["failures"] == ["tests.test_a::test_bad", "tests.test_a::test_broken"]


def test_a_new_outcome_takes_the_place_of_the_old_one_alone():
    old = [result("3.9.2", "newest"), result("3.13.0", "newest"), result("3.13.0", "pinned")]
    new = result("3.13.0", "newest", passed=7)
    found = matrix.kept(old, new)
    assert found == [old[0], new, old[2]]  # 3.9 before 3.13
    assert matrix.kept(old, result("3.13.0", "newest", "tests/losses")) != old
    lines = matrix.table(found).splitlines()
    assert len(lines) == 5
    assert lines[3].startswith("| 3.13.0 | newest | 1.0 |")
    assert lines[3].endswith("| tests | 7 | 0 | 2 |")


def test_an_interpreter_that_is_not_there_is_named():
    assert Path(matrix.interpreter(sys.executable)).exists()
    with pytest.raises(SystemExit, match=r"pythons: there is no 'python0\.0'"):
        matrix.main(["--pythons", "python0.0"])


def test_what_was_published_has_no_failure():
    for published in json.loads(matrix.RESULTS.read_text()):
        assert published["failures"] == []
        assert published["passed"] > 100
