"""What a command does when it is asked to end: said at once, done when nothing is lost by it, with the usual exit codes."""

import os
import re
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import pytest
from command_line import ROOT

from saegan_jax import signals


class Ended(NamedTuple):
    code: int
    err: str
    waited: float


def ended(code: str, *numbers: int, after: str = "ready", pause: float = 0.0) -> Ended:
    """Run Python code in a process, send it the signals once it has printed ``after``, and wait for its end."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code, "--out", "my run"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.readline() == f"{after}\n", process.communicate()
        began = time.monotonic()
        for i, number in enumerate(numbers):
            time.sleep(pause if i else 0)
            process.send_signal(number)
        _, err = process.communicate(timeout=60)
        return Ended(process.returncode, err, time.monotonic() - began)


@pytest.mark.parametrize("first", ["sys.argv[0] = '-m'; import experiments", "import saegan_jax.__main__ as entry"])
def test_commands_listen_before_jax_is_imported(first):
    code = f"""
import sys
{first}
if "entry" in globals():
    sys.modules["saegan_jax.cli"] = type("", (), {{"main": lambda: None}})
    entry.main()
from saegan_jax.signals import LISTENER
print(bool(LISTENER.expendable), "jax" in sys.modules)
"""
    shown = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert shown.stdout.decode().split() == ["True", "False"], shown.stderr


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_while_importing_a_signal_ends_the_process_even_where_exceptions_are_swallowed(number):
    code = """
import time
from saegan_jax.signals import listen_while_importing
listen_while_importing()
print("ready", flush=True)
while True:
    try:
        time.sleep(0.1)
    except BaseException:
        pass
"""
    found = ended(code, number)
    assert found.code == 128 + number
    name = signal.Signals(number).name
    assert re.fullmatch(
        rf"Stopped by {name} while loading; nothing was written\. To continue: python.* --out 'my run'\n",
        found.err,
        re.S,
    )


# Like a compilation: it lets other threads run, and Python calls no handler until it is over.
BLOCKED = """
import hashlib
from saegan_jax import signals
with signals.listening():
    signals.continue_with("--resume")
    with signals.deferred("once the program is compiled"):
        print("ready", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", {rounds})
    raise SystemExit(128 + signals.requested())
"""


def test_a_request_is_said_while_python_cannot_run_a_handler_and_repeats_are_one():
    found = ended(BLOCKED.format(rounds=3_000_000), signal.SIGTERM, signal.SIGTERM)
    assert found.code == 143
    assert found.err == "SIGTERM: stopping once the program is compiled; a second signal ends the process at once.\n"


def test_a_second_signal_ends_the_process_and_shows_how_to_go_on():
    found = ended(BLOCKED.format(rounds=10**9), signal.SIGINT, signal.SIGTERM, pause=signals.REPEATED + 0.2)
    assert found.code == 130
    assert found.waited < 10
    last = found.err.splitlines()[-1]
    assert "Ended by a second signal, SIGTERM" in found.err
    assert last.endswith("--out 'my run' --resume")


def test_outside_a_training_a_signal_is_raised_and_the_command_shown():
    code = """
import time
from saegan_jax import signals
from saegan_jax.runs.program import main
def script():
    signals.continue_with("--resume")
    print("ready", flush=True)
    time.sleep(60)
main(script)
"""
    found = ended(code, signal.SIGTERM)
    assert (found.code, found.waited < 10) == (143, True)
    assert "Stopped by SIGTERM. To continue: python" in found.err
    assert found.err.endswith("--out 'my run' --resume\n")
    assert "Traceback" not in found.err


def test_a_signal_at_the_very_end_of_a_command_raises_nothing():
    code = """
import atexit, time
from saegan_jax import signals
from saegan_jax.runs.program import main
signals.listen_while_importing()
@atexit.register
def slow():
    print("ready", flush=True)
    time.sleep(60)
main(lambda: None)
"""
    found = ended(code, signal.SIGTERM)
    assert (found.code, found.waited < 10) == (143, True)
    assert "Stopped by SIGTERM after the end; everything is written." in found.err
    assert "Traceback" not in found.err


def test_listening_gives_back_what_was_there():
    before = [signal.getsignal(number) for number in signals.NUMBERS]
    with signals.listening():
        assert signals.LISTENER.active
        with pytest.raises(signals.Stopped, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in signals.NUMBERS] == before
    assert signals.requested() is None
    assert signal.set_wakeup_fd(-1) == -1


def test_what_may_be_lost_is_known_before_the_first_handler_is_there(monkeypatch):
    listener, known = signals.Listener(), []
    monkeypatch.setattr(signals.signal, "signal", lambda *_: known.append(listener.expendable))
    monkeypatch.setattr(signals.signal, "set_wakeup_fd", lambda *_, **__: -1)
    listener.listen(expendable="while loading")
    listener.give_back()
    assert known[:2] == ["while loading"] * 2
