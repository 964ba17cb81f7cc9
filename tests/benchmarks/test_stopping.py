"""A line as each work is finished, and what is finished is kept whatever ends the run."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from tiny_works import check_form

from benchmarks.harness import results
from benchmarks.harness.errors import UnavailableError
from benchmarks.harness.reports import markdown
from benchmarks.harness.rows import row
from benchmarks.harness.session import Stopped, stopping, survey, work_through

ROOT = Path(__file__).parents[2]
HEAD = {
    "name": "n", "command": "c", "commit": "none", "device": "d", "versions": {"python": "3", "jax": "1"},
    "settings": {"repeats": 2, "seconds": 1.0, "n_images": 10},
}  # fmt: skip


def job(name, seen=None):
    def do(say):
        say("working")
        if seen is not None:
            seen.append(name)
        return {
            "rows": [row(name, "ours, scan", "rate", "steps/s", [2.0, 4.0])],
            "not_compared": [{"work": name, "arm": "a", "quantities": ["q"]}],
        }

    return do


def interrupted(number):
    def do(say):
        os.kill(os.getpid(), number)
        pytest.fail("it went on")

    return do


def console():
    return Console(file=io.StringIO(), width=40)


def deliver(outcome, out, printed=None, whole=False):
    result = results.assemble(HEAD, outcome, ("agreement", "not_compared", "skipped"))
    results.deliver(result, outcome, printed or console(), out=out, name="steps_cpu", whole=whole)


def test_a_line_is_printed_as_each_work_is_finished():
    printed, seen = console(), []

    def second(say):
        seen.append(printed.file.getvalue())
        return job("second")(say)

    def absent(say):
        raise UnavailableError("it needs an accelerator.")

    outcome = work_through({"first": job("first"), "second": second, "absent": absent}, printed)
    lines = printed.file.getvalue().splitlines()
    assert seen == [lines[0] + "\n"]
    assert lines[0].startswith("first: ours, scan 3 steps/s (1 of 3, ")
    assert lines[2].startswith("absent: all left out: it needs an accelerator. (3 of 3, ")
    assert len(lines) == 3
    assert (outcome.finished, outcome.left, outcome.error) == (["first", "second", "absent"], [], None)
    assert [r["work"] for r in outcome.parts["not_compared"]] == ["first", "second"]
    assert outcome.parts["skipped"] == [{"work": "absent", "arm": "all", "reason": "it needs an accelerator."}]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_finished_survives_a_signal(tmp_path, number, code):
    before, printed, seen = signal.getsignal(number), console(), []
    jobs = {"first": job("first"), "second": interrupted(number), "third": job("third", seen)}
    outcome = work_through(jobs, printed)
    assert signal.getsignal(number) is before
    assert seen == []
    assert (outcome.finished, outcome.left) == (["first"], ["second", "third"])
    with pytest.raises(Stopped) as stop:
        deliver(outcome, tmp_path / "x.json", printed)
    assert stop.value.code == code
    result = json.loads((tmp_path / "x.json").read_text())
    assert result["incomplete"] == {"reason": f"stopped by {number.name}", "not_finished": ["second", "third"]}
    assert {r["work"] for r in result["rows"]} == {"first"}
    assert f"**Incomplete**: stopped by {number.name}" in (tmp_path / "x.md").read_text()
    assert f"are in {tmp_path / 'x.json'}, marked incomplete" in printed.file.getvalue()


def test_what_is_finished_survives_an_error(tmp_path):
    outcome = work_through({"first": job("first"), "second": lambda say: 1 / 0}, console())
    with pytest.raises(ZeroDivisionError):
        deliver(outcome, tmp_path / "x.json")
    result = json.loads((tmp_path / "x.json").read_text())
    assert result["incomplete"]["reason"] == "ended by ZeroDivisionError: division by zero"


def test_nothing_is_written_where_nothing_is_finished(tmp_path):
    printed = console()
    outcome = work_through({"first": interrupted(signal.SIGTERM)}, printed)
    with pytest.raises(Stopped):
        deliver(outcome, tmp_path / "x.json", printed)
    assert list(tmp_path.iterdir()) == []
    assert "nothing was written. Not finished: first." in printed.file.getvalue()


def test_a_part_never_replaces_a_complete_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "published")
    part = work_through({"first": job("first"), "second": interrupted(signal.SIGTERM)}, console())
    whole = work_through({"first": job("first")}, console())
    deliver(whole, tmp_path / "x.json")
    complete = (tmp_path / "x.json").read_bytes()
    for _ in range(2):
        with pytest.raises(Stopped):
            deliver(part, tmp_path / "x.json")
        with pytest.raises(Stopped):
            deliver(part, None, whole=True)
    assert (tmp_path / "x.json").read_bytes() == complete
    assert "incomplete" in json.loads((tmp_path / "x-incomplete.json").read_text())
    assert "incomplete" in json.loads((tmp_path / "runs" / "benchmarks" / "steps_cpu.json").read_text())
    assert not (tmp_path / "published").exists()
    deliver(whole, tmp_path / "runs" / "benchmarks" / "steps_cpu.json")
    assert "incomplete" not in json.loads((tmp_path / "runs" / "benchmarks" / "steps_cpu.json").read_text())


def test_a_signal_that_a_finaliser_swallows_still_stops_the_run():
    with stopping() as check:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("no exception")
        except Stopped:
            pass
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # a second signal ends the process
        with pytest.raises(Stopped, match="SIGTERM"):
            check()


def test_the_machine_is_measured_first_and_printed(machine):
    printed = console()
    assert survey(1.0, printed, lambda seconds, say: say("a product") or machine) == machine
    assert printed.file.getvalue() == "machine: 100 GFLOP/s, 10 GB/s\n"
    with pytest.raises(Stopped):
        survey(1.0, printed, lambda seconds, say: interrupted(signal.SIGTERM)(say))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_process_that_is_stopped_keeps_what_it_has(tmp_path, number, code):
    """The smallest work is finished, the next one under way."""
    arguments = ["--only", "sae_b*", "--quick", "--no-peers", "--seeds", "1", "--out", "part.json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    ) as process:
        lines = [process.stdout.readline()]
        while lines[-1] and not lines[-1].startswith("sae_b32: "):
            lines.append(process.stdout.readline())
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
    assert "ours, scan" in lines[-1], err
    assert process.returncode == code
    assert "Traceback" not in err
    assert f"Stopped by {number.name}." in err
    assert "The finished works (sae_b32) are in part.json, marked incomplete" in out
    result = json.loads((tmp_path / "part.json").read_text())
    check_form(result)
    assert {r["work"] for r in result["rows"]} == {"sae_b32"}
    assert result["incomplete"] == {"reason": f"stopped by {number.name}", "not_finished": ["sae_b256"]}
    assert (tmp_path / "part.md").read_text() == markdown(result)
    assert (tmp_path / "part.png").exists()
