"""A peer in another process, for frameworks that are chosen when they are imported: ``python -m benchmarks.harness.worker``.

The parent sends pickled ``(name, arguments)`` over the child's standard input, and reads pickled ``("ok", result)`` or
``("error", text)`` from its standard output. The first message is ``("build", (factory, arguments))``, the factory named as
``module:function``; all others are methods and properties of the peer that it returns.
"""

import importlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from benchmarks.harness.agreement import Observation
from benchmarks.harness.errors import UnavailableError


def _answer(peer: Any, name: str, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    """The peer, built now or earlier, and what it replies."""
    if name == "build":
        factory, rest = arguments
        module, function = factory.split(":")
        return getattr(importlib.import_module(module), function)(*rest), None
    attribute = getattr(peer, name)
    return peer, attribute(*arguments) if callable(attribute) else attribute


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Do what the parent asks for, until it closes its end."""
    peer: Any = None
    while True:
        try:
            name, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            peer, result = _answer(peer, name, arguments)
            reply = ("ok", result)
        except UnavailableError as error:
            reply = ("unavailable", str(error))
        except Exception as error:
            reply = ("error", f"{type(error).__name__}: {error}")
        pickle.dump(reply, replies, pickle.HIGHEST_PROTOCOL)
        replies.flush()


class Remote:
    """A :class:`benchmarks.harness.agreement.Peer` whose calls are done by a worker.

    Args:
      factory: ``module:function`` that makes the peer in the worker.
      arguments: for it; they must pickle.
      environment: added to this process's.

    Raises:
      UnavailableError: the factory says so, or the worker did not start.
    """

    def __init__(self, factory: str, arguments: tuple[Any, ...], *, environment: Mapping[str, str] | None = None):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, lives as long as the worker
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(environment or {})},
            process_group=0,  # Ctrl-C is for the parent, which closes the pipe; the worker then ends
        )
        try:
            self._ask("build", (factory, arguments))
            self.steps_per_call: int = self._ask("steps_per_call")
        except BaseException:
            self.close()
            raise

    def _ask(self, name: str, arguments: tuple[Any, ...] = ()) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((name, arguments), self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
            kind, value = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError) as error:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()[-3:]
            raise RuntimeError(
                f"the worker ended with code {self._process.wait()}: {' '.join(said) or 'it said nothing'}"
            ) from error
        if kind == "unavailable":
            raise UnavailableError(value)
        if kind == "error":
            raise RuntimeError(f"in the worker: {value}")
        return value

    def step(self, images: np.ndarray, *draws: np.ndarray) -> None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        self._ask("step", (images, *draws))

    def observe(self) -> Observation:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        result: Observation = self._ask("observe")
        return result

    def run(self, calls: int) -> None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        self._ask("run", (calls,))

    def flops(self) -> float | None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        result: float | None = self._ask("flops")
        return result

    def compile_s(self) -> float | None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        result: float | None = self._ask("compile_s")
        return result

    def peak_bytes(self) -> int | None:
        """See :class:`benchmarks.harness.agreement.Peer`."""
        result: int | None = self._ask("peak_bytes")
        return result

    def close(self) -> None:
        """End the worker; its pipe closes, and it has nothing left to do."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:  # a message that it did not live to read
                continue
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


if __name__ == "__main__":
    # What libraries print goes to the parent's error file, and not between the replies.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)
