"""What is being done where there are no steps to count: a spinner on a terminal, anywhere else a plain line now and then."""

import datetime
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

LINE_EVERY = 30.0
"""Seconds between plain lines."""


class Ticker:
    """Prints ``line()`` every ``every`` seconds from a thread, so that what takes long shows too."""

    def __init__(self, console: Console, line: Callable[[], str], *, every: float) -> None:
        self._console, self._line, self._every = console, line, every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._print, name="progress", daemon=True)
        self._thread.start()

    def _print(self) -> None:
        while not self._ended.wait(self._every):
            self._console.print(Text(self._line()), soft_wrap=True)

    def end(self) -> None:
        """Print no more."""
        self._ended.set()
        self._thread.join()


@contextmanager
def busy(console: Console, text: str, *, every: float = LINE_EVERY) -> Iterator[Callable[[str], None]]:
    """While open, say what is done: beside a spinner on a terminal, else every ``every`` seconds, with the time so far.

    Yields:
      ``say(text)``, which says something else from now on.
    """
    if console.is_terminal:
        with console.status(text) as status:
            yield status.update
        return
    began, shown = time.monotonic(), [text]

    def line() -> str:
        return f"{shown[0]}, for {datetime.timedelta(seconds=round(time.monotonic() - began))}"

    def say(text: str) -> None:
        shown[0] = text

    ticker = Ticker(console, line, every=every)
    try:
        yield say
    finally:
        ticker.end()
