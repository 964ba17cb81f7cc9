"""What other packages report: into log.txt of the run folder, so that an error of a command stays one paragraph."""

import atexit
import contextlib
import logging
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any

MOST = 500  # reports kept while there is no file to write them to


class _Log(logging.Handler):
    """Reports of other packages, written to a file as soon as there is one that can be written."""

    def __init__(self) -> None:
        super().__init__()
        self.path: Path | None = None
        self.kept: list[str] = []
        self.active = self.wrote = False

    def emit(self, record: logging.LogRecord) -> None:
        self.keep(self.format(record))

    def keep(self, text: str) -> None:
        """Write a report, or keep it until that is possible: files or the disk may be exhausted."""
        self.kept = [*self.kept[1 - MOST :], text.rstrip() + "\n"]
        self.flush()

    def flush(self) -> None:
        if self.path is None or not self.kept:
            return
        with contextlib.suppress(OSError), self.path.open("a", errors="backslashreplace") as file:
            file.writelines(self.kept)
            self.kept, self.wrote = [], True


LOG = _Log()


def divert() -> None:
    """For the rest of the process: log records, warnings and exceptions in threads and finalisers go to the log."""
    LOG.active = True
    logging.getLogger().handlers = [LOG]
    shown = warnings.showwarning

    def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        if "saegan_jax" in filename:
            shown(message, category, filename, lineno, file, line)
        else:
            LOG.keep(warnings.formatwarning(message, category, filename, lineno, line))

    warnings.showwarning = show
    threading.excepthook = lambda hook: LOG.keep(
        "".join(traceback.format_exception(hook.exc_type, hook.exc_value, hook.exc_traceback))
    )
    sys.unraisablehook = lambda hook: LOG.keep(
        f"{hook.err_msg or 'ignored in'} {hook.object!r}\n"
        + "".join(traceback.format_exception(hook.exc_type, hook.exc_value, hook.exc_traceback))
    )
    atexit.register(LOG.flush)


def log_to(path: Path) -> None:
    """Where the reports go from now on; the file is made when there is one."""
    if LOG.active:
        LOG.path = path
        LOG.flush()


def more() -> str:
    """Where an error message's reader finds more; empty where nothing was reported."""
    return f" More is in {LOG.path}." if LOG.wrote else ""
