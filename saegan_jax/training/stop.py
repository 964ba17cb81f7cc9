"""Stopping a training cleanly when the process is asked to end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StoppedError(RuntimeError):
    """The run was asked to stop, and did so after saving."""


class Requests:
    """Whether a stop has been asked for by SIGINT or SIGTERM; a second signal has its usual effect."""

    def __init__(self) -> None:
        self.stop = False
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Take the signals over, unless this is not the main thread, where they are left to whoever has them."""
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            try:
                self._before[number] = signal.signal(number, self._handle)
            except ValueError:
                return

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.stop = True
        signal.signal(number, self._before[number])

    def give_back(self) -> None:
        """Put the handlers back that were there before."""
        for number, before in self._before.items():
            signal.signal(number, before)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """While the block runs SIGINT and SIGTERM ask for a stop; yields a function that says whether one has been asked for.

    Raises:
      StoppedError: on leaving, if a request has come and nothing else was raised: after the last step, or while the last save
        was being finished.
    """
    requests = Requests()
    requests.listen()
    try:
        yield lambda: requests.stop
    finally:
        requests.give_back()
    if requests.stop:
        raise StoppedError("Stopped; everything is saved.")
