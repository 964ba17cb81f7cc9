"""What is being done where there are no steps to count."""

import io
import re
import time
from pathlib import Path

from rich.console import Console

from saegan_jax.training.busy import busy

ROOT = Path(__file__).resolve().parents[2]


def wait_for(text: str, out: io.StringIO) -> None:
    deadline = time.monotonic() + 30
    while text not in out.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    out = io.StringIO()
    with busy(Console(file=out, width=20), "scoring the samples of a long name", every=0.02) as say:
        wait_for("scoring the samples of a long name, for 0:00:00\n", out)
        say("[second]")
        wait_for("[second], for 0:00:00\n", out)
    last = out.getvalue()
    time.sleep(0.1)
    assert out.getvalue() == last


def test_what_is_short_prints_nothing() -> None:
    out = io.StringIO()
    with busy(Console(file=out), "short"):
        pass
    assert out.getvalue() == ""


def test_on_a_terminal_it_is_shown_at_once() -> None:
    out = io.StringIO()
    with busy(Console(file=out, force_terminal=True, width=60), "scoring") as say:
        say("drawing")
        wait_for("drawing", out)


def test_nothing_else_keeps_silent_in_a_pipe() -> None:
    """rich's own status prints nothing where there is no terminal."""
    files = [*(ROOT / "saegan_jax").rglob("*.py"), *(ROOT / "experiments").glob("*.py")]
    found = [str(path) for path in files if re.search(r"\.status\(", path.read_text()) and path.name != "busy.py"]
    assert found == []
