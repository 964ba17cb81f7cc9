"""SIGINT and SIGTERM of a command: what they ask for is said at once, and done as soon as nothing is lost by it.

A command listens before JAX is imported, because that import loses a KeyboardInterrupt. A thread reads the signals: Python
calls a handler only between two bytecodes, and a compilation of ten seconds is one of them.
"""

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)
REPEATED = 0.5  # seconds in which a second signal is the same request: `timeout` signals a process, then its group


class Stopped(BaseException):
    """A signal ends the command. No Exception, so that nothing takes it for a failure of its own.

    Attributes:
      number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"Stopped by {signal.Signals(number).name}.")
        self.number = number


def command_line() -> list[str]:
    """The words with which the running command was started; usable before its module is found."""
    words = list(sys.orig_argv[1:])
    if words and Path(words[0]).name == "saegan":
        return ["saegan", *words[1:]]
    return [Path(sys.orig_argv[0]).name, *words]


class Listener:
    """What has been asked for, and how it is to be answered.

    Attributes:
      active: the handlers are in place.
      number: of the first signal; None before.
      expendable: what goes on, such as "while loading; nothing was written", where the process may end at once.
      deferred: when the command will stop by itself, such as "after this chunk"; None where the signal is raised.
      added: options that the command needs to go on where it was.
    """

    def __init__(self) -> None:
        self.active = False
        self._before: dict[int, Any] = {}
        self._pipe = (-1, -1)
        self._wakeup = -1
        self._reset()

    def _reset(self, expendable: str | None = None) -> None:
        self.expendable = expendable
        self.number: int | None = None
        self.deferred: str | None = None
        self.added: tuple[str, ...] | None = None
        self._announced = self._raised = False

    def advice(self) -> str:
        """The command that goes on."""
        words = command_line()
        return f"To continue: {shlex.join([*words, *(word for word in self.added or () if word not in words)])}"

    def listen(self, *, expendable: str | None = None) -> None:
        """Take the signals over, unless this is not the main thread, where Python allows no handlers."""
        if self.active or threading.current_thread() is not threading.main_thread():
            return
        self._reset(expendable)  # before the handlers are there: a signal may come between two lines
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._before = {int(number): signal.signal(number, self._handle) for number in NUMBERS}
        threading.Thread(target=self._watch, args=(self._pipe[0],), name="signals", daemon=True).start()
        self.active = True

    def give_back(self) -> None:
        """Put back what was there before."""
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._pipe[1])  # ends the thread
        self.active = False

    def forget_in_child(self) -> None:
        """In a forked process the signals have their usual effect."""
        if self.active:
            signal.set_wakeup_fd(-1)
            for number in NUMBERS:
                signal.signal(number, signal.SIG_DFL)
            self.active = False

    def _watch(self, pipe: int) -> None:
        first = 0.0
        while byte := os.read(pipe, 1):
            number = byte[0]
            if number not in NUMBERS:
                continue
            name = signal.Signals(number).name
            if self.number is None:
                self.number, first = number, time.monotonic()
                if self.expendable:
                    self._end(f"Stopped by {name} {self.expendable}.")
                when = f" {self.deferred}" if self.deferred else ""
                _say(f"{name}: stopping{when}; a second signal ends the process at once.")
                self._announced = True
            elif time.monotonic() - first > REPEATED:
                self._end(f"Ended by a second signal, {name}; the newest checkpoint is kept.")
        os.close(pipe)

    def _end(self, text: str) -> None:
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # which a live display may have hidden
        _say(f"{cursor}{text} {self.advice()}")
        os._exit(128 + (self.number or 0))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        for _ in range(100):  # no lock: a handler may be interrupted by itself
            if self._announced:
                break
            time.sleep(0.01)
        if self.deferred is None and self.expendable is None and not self._raised:
            self._raised = True
            raise Stopped(number)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


LISTENER = Listener()
os.register_at_fork(after_in_child=LISTENER.forget_in_child)


def listen_while_importing() -> None:
    """Listen for the rest of the process; a signal ends it at once until :func:`listening` is entered."""
    LISTENER.listen(expendable="while loading; nothing was written")


@contextmanager
def listening() -> Iterator[None]:
    """Listen while a command runs; signals raise :class:`Stopped`, but for the blocks of :func:`deferred`."""
    if LISTENER.active:
        LISTENER.expendable = None
        yield
        return
    LISTENER.listen()
    try:
        yield
    finally:
        if LISTENER.active:
            LISTENER.give_back()


def ended() -> None:
    """The command has done all that it was to do: from now on a signal ends the process at once, and nothing is raised."""
    LISTENER.expendable = "after the end; everything is written"


def continue_with(*options: str) -> None:
    """From now on the command goes on where it was if these options are added to it; the first call, the outermost, counts."""
    if LISTENER.added is None:
        LISTENER.added = options


@contextmanager
def expendable(doing: str) -> Iterator[None]:
    """A signal ends the process at once in this block, such as a compilation: nothing would be lost, and waiting takes long."""
    before, LISTENER.expendable = LISTENER.expendable, doing
    try:
        yield
    finally:
        LISTENER.expendable = before


@contextmanager
def deferred(when: str) -> Iterator[None]:
    """The block stops by itself, ``when``, once :func:`requested` is not None."""
    before, LISTENER.deferred = LISTENER.deferred, when
    try:
        yield
    finally:
        LISTENER.deferred = before


def requested() -> int | None:
    """The signal that asked for a stop, while a command listens."""
    return LISTENER.number if LISTENER.active else None
