"""What ends a benchmark, or leaves a part of it out."""

from typing import Any


class OptionError(ValueError):
    """An option that cannot be used, found before anything is timed: the message names the option and the fix."""

    def __init__(self, option: str, value: Any, fix: str) -> None:
        super().__init__(f"{option} {value} cannot be used: {fix}")


class DisagreementError(AssertionError):
    """A peer that does not compute what we compute; timing it would compare different things."""


class UnavailableError(RuntimeError):
    """A work or a peer that cannot be timed here, and why: the run goes on without it."""
