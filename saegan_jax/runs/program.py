"""How every command runs: compiled programs are kept, and an error is one paragraph."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import jax
from rich.console import Console
from rich.text import Text

from saegan_jax import noise, signals
from saegan_jax.evaluation.features import cache_folder
from saegan_jax.training.finite import NonFiniteError
from saegan_jax.training.stop import StoppedError


def program_name() -> str:
    """The running command as its user wrote it: ``saegan train gan``, or ``python -m experiments.train_gan``."""
    if sys.argv[0].startswith("saegan "):
        return sys.argv[0]
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return f"python -m {spec.name}" if spec is not None else Path(sys.argv[0]).name


def experiment_command(name: str) -> str:
    """The running command of the experiment ``name``, as its published result records it."""
    return f"python -m experiments.{name} {shlex.join(sys.argv[1:])}".strip()


def prefixed(say: Callable[[str], None], prefix: str) -> Callable[[str], None]:
    """``say`` with ``prefix`` before every text: who it is that makes progress."""
    return lambda text: say(f"{prefix}{text}")


def keep_compiled() -> None:
    """Keep compiled programs between runs, in ``xla`` beside the feature networks, unless JAX was told where to or not to."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        # The many small programs of a job take as long together as its two large ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def plain(error: Exception) -> str:
    """What an error says, in one paragraph; of the system's errors the file and the reason, without their number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}."
    return " ".join(str(error).split())


def main(script: Callable[[], None]) -> None:
    """Run a script; an error that its user can correct is one paragraph, not a traceback.

    The code is 2 after such an error, 130 after SIGINT and 143 after SIGTERM.
    """
    if signals.LISTENER.active:  # a process of its own
        noise.divert()
    with signals.listening():
        try:
            _run(script)
        finally:
            signals.ended()


def _run(script: Callable[[], None]) -> None:
    keep_compiled()
    try:
        script()
    except BrokenPipeError:  # whoever read the output has had enough, for instance `head`
        sys.stderr.close()
        sys.exit(0)
    except (ValueError, OSError, NonFiniteError) as error:
        # As Text: in a string rich would take a name in brackets for markup, and leave it out.
        Console(stderr=True).print(Text.assemble(("error:", "red"), f" {plain(error)}{noise.more()}"), soft_wrap=True)
        sys.exit(2)
    except (StoppedError, signals.Stopped) as stop:
        Console(stderr=True).print(Text(f"{stop} {signals.LISTENER.advice()}"), soft_wrap=True)
        sys.stdout.flush()
        if isinstance(stop, signals.Stopped):  # the device may still compute, and Python's own end crashes under that
            os._exit(128 + stop.number)
        sys.exit(128 + stop.number)
    except KeyboardInterrupt:  # where no handler could be installed
        Console(stderr=True).print(Text("Interrupted."))
        sys.exit(130)
