"""Errors that a person reads: each names the field, its value and the fix."""

import difflib
from collections.abc import Iterable
from typing import Any


class ConfigError(ValueError):
    """A setting that cannot work, found before anything is compiled or written."""

    def __init__(self, field: str, value: Any, fix: str) -> None:
        super().__init__(f"{field} = {value!r} cannot be used: {fix}")
        self.field, self.value, self.fix = field, value, fix


def most_like(value: str, choices: Iterable[str]) -> str:
    """The choice most like ``value``, whatever the case, the first of several; empty where none is like it."""

    def likeness(choice: str) -> float:
        return difflib.SequenceMatcher(None, value.casefold(), choice.casefold()).ratio()

    found = max(choices, key=likeness, default="")
    return found if found and likeness(found) >= 0.6 else ""


def closest(value: str, choices: Iterable[str]) -> str:
    """The words "did you mean X? " of :func:`most_like`; empty where there is none."""
    found = most_like(value, choices)
    return f"did you mean {found}? " if found else ""


def require(condition: bool, field: str, value: Any, fix: str) -> None:
    """Raise :class:`ConfigError` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(field, value, fix)


def require_positive(**fields: float) -> None:
    """Raise :class:`ConfigError` for the first field that is not a finite number above zero."""
    for field, value in fields.items():
        require(0 < value < float("inf"), field, value, "it must be a finite number above zero.")


def require_non_negative(**fields: float) -> None:
    """Raise :class:`ConfigError` for the first field that is not a finite number of at least zero."""
    for field, value in fields.items():
        require(0 <= value < float("inf"), field, value, "it must be a finite number, zero or above.")


def require_integer(**fields: int) -> None:
    """Raise :class:`ConfigError` for the first field that is not a whole number."""
    for field, value in fields.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        require(whole, field, value, "it is a count and must be a whole number.")


def require_choice(field: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise :class:`ConfigError` unless ``value`` is one of ``choices``; the message names the one most like it."""
    require(value in choices, field, value, f"{closest(str(value), choices)}choose one of {', '.join(choices)}.")
