"""Reports of other packages go to the run's log, and those of this package to the user."""

import os
import subprocess
import sys

from command_line import ROOT

CODE = """
import logging, sys, threading, warnings
from pathlib import Path
from saegan_jax import noise
noise.divert()
logging.getLogger("absl").error("before there is a folder")
assert noise.more() == ""
noise.log_to(Path(sys.argv[1]))
threading.Thread(target=lambda: 1 / 0).start()
class Broken:
    def __del__(self):
        raise RuntimeError("in a finaliser")
Broken()
warnings.warn("theirs")
warnings.warn_explicit("ours", UserWarning, "saegan_jax/x.py", 1)
print(noise.more())
"""


def test_reports_of_other_packages_are_logged(tmp_path):
    log = tmp_path / "log.txt"
    command = [sys.executable, "-c", CODE, str(log)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f" More is in {log}.\n"
    assert done.stderr.strip() == "saegan_jax/x.py:1: UserWarning: ours"
    found = log.read_text()
    for report in ("before there is a folder", "ZeroDivisionError", "in a finaliser", "theirs"):
        assert report in found
