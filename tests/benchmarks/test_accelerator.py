"""``benchmarks/accelerator.sh``: its parts, with a stand-in for Python that says what it was asked."""

import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accelerator.sh"
STAND_IN = """#!/bin/sh
echo "$JAX_DEFAULT_MATMUL_PRECISION $*"
case "$*" in
  *"--only topk"*) echo "no such thing" >&2; exit 3 ;;
  *"--only products"*) kill -TERM $$ ;;
esac
while [ $# -gt 1 ]; do [ "$1" = --out ] && echo '{}' > "$2"; shift; done
"""


@pytest.fixture
def script(tmp_path):
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)

    def run(*arguments):
        environment = {**os.environ, "PYTHON": str(python), "SAEGAN_JAX_MANUAL_DIR": str(tmp_path)}
        return subprocess.run(
            ["bash", str(SCRIPT), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return run


def test_a_part_that_fails_does_not_end_the_others(script, tmp_path):
    done = script("out")
    assert done.returncode == 1
    assert "Parts done: 15" in done.stdout
    assert "Parts not done: 2" in done.stdout
    assert "topk: exit code 3 after 0 s: no such thing" in done.stdout
    assert "products: stopped after 0 s" in done.stdout
    assert "Total: " in done.stdout.splitlines()[-1]
    assert (tmp_path / "out" / "quality.json").exists()
    logs = {path.stem: path.read_text() for path in (tmp_path / "out" / "logs").iterdir()}
    assert len(logs) == 17
    assert "quality --dataset mnist" in logs["quality"]
    assert logs["steps-rpgan"].startswith("highest -m benchmarks.run --only gan_rpgan* ")
    assert logs["default-rpgan"].startswith(" -m benchmarks.run")
    assert "--quick" not in logs["quality"]


def test_a_quick_run_of_some_parts(script, tmp_path):
    done = script("out", "--quick", "--only", "q*")
    assert done.returncode == 0
    assert "Parts done: 1" in done.stdout
    assert "--dataset digits --seeds 3 --quick --out" in (tmp_path / "out" / "logs" / "quality.log").read_text()


def test_a_pattern_that_matches_no_part_is_no_success(script):
    done = script("out", "--only", "nothing")
    assert done.returncode == 2
    assert "matches no part" in done.stderr


def test_stopped_it_stops_the_part_that_runs(tmp_path):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho $$ > {tmp_path / 'pid'}\nexec sleep 60\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    started = subprocess.Popen(["bash", str(SCRIPT), str(tmp_path / "out")], env={**os.environ, "PYTHON": str(python)})
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    started.terminate()
    assert started.wait(30) == 143
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


@pytest.mark.parametrize(
    "arguments",
    [(), ("out", "--minutes"), ("out", "--minutes", "x"), ("out", "--minutes", "00"), ("out", "more"), ("out", "--no")],
)
def test_bad_arguments_are_refused(script, tmp_path, arguments):
    done = script(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: bash benchmarks/accelerator.sh OUT")
    assert not (tmp_path / "out").exists()
