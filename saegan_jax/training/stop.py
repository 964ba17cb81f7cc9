"""Stopping a training cleanly when the process is asked to end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from saegan_jax import signals


class StoppedError(RuntimeError):
    """The run was asked to stop, and did so after saving.

    Attributes:
      number: of the signal that asked.
    """

    def __init__(self, message: str, number: int = int(signal.SIGINT)) -> None:
        super().__init__(message)
        self.number = number


Requested = Callable[[], int | None]
"""The number of the signal that has asked for a stop, or None."""


class Requests:
    """Whether a stop has been asked for by SIGINT or SIGTERM; a second signal has its usual effect."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Take the signals over, unless this is not the main thread, where they are left to whoever has them."""
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            try:
                self._before[number] = signal.signal(number, self._handle)
            except ValueError:
                return

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self._before[number])

    def give_back(self) -> None:
        """Put the handlers back that were there before."""
        for number, before in self._before.items():
            signal.signal(number, before)


@contextmanager
def stop_requests() -> Iterator[Requested]:
    """While the block runs SIGINT and SIGTERM ask for a stop; yields a function that says which has asked for one.

    In a command :mod:`saegan_jax.signals` has the handlers. A program that has none gets them for the time of the block.

    Raises:
      StoppedError: on leaving, if a request has come and nothing else was raised: after the last step, or while the last save
        was being finished.
    """
    if signals.LISTENER.active:
        requested = signals.requested
        with signals.deferred("after this chunk of steps"):
            yield requested
    else:
        requests = Requests()
        requests.listen()
        requested = lambda: requests.number  # noqa: E731
        try:
            yield requested
        finally:
            requests.give_back()
    if (number := requested()) is not None:
        raise StoppedError("Stopped; everything is saved.", number)
