"""A command line as an options' dataclass, by tyro; what cannot be read is one sentence that names the option and the fix."""

import argparse
import dataclasses
import sys
import typing
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise, takewhile
from typing import Any, NamedTuple, TypeVar

import tyro

from saegan_jax.errors import ConfigError, most_like, require_choice
from saegan_jax.runs.help import field_docs
from saegan_jax.runs.program import program_name

T = TypeVar("T")
DASHES = "-–—"  # word processors make long ones of two short ones
HELP = ("--help", "--help-all")
NUMBERS = {int: "a whole number, written without commas", float: "a number, written with a dot and without commas"}
_UNPREFIXED, _HIDDEN, _POSITIONAL = (
    typing.get_args(marker[int])[1] for marker in (tyro.conf.OmitArgPrefixes, tyro.conf.Suppress, tyro.conf.Positional)
)


class Flag(NamedTuple):
    """An option as it is written.

    Attributes:
      name: such as ``--gan.steps``.
      default: of the command at hand; :data:`dataclasses.MISSING` of what must be given.
      on: of a switch, whether it is on by default; None of what takes a value.
    """

    name: str
    default: Any
    on: bool | None = None


def flags_of(kind: Any, default: Any = None, prefix: str = "") -> Iterator[Flag]:
    """Every option of a dataclass and of its groups, as tyro names them."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        marks = getattr(hints[field.name], "__metadata__", ())
        hint = typing.get_args(hints[field.name])[0] if marks else hints[field.name]
        usual = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        value = usual if default is None else getattr(default, field.name, None)
        given = next((name for name in (getattr(mark, "name", None) for mark in marks) if isinstance(name, str)), None)
        name = field.name if given is None else given
        if _HIDDEN in marks:
            continue
        if dataclasses.is_dataclass(hint):
            inner = prefix if not name or _UNPREFIXED in marks else f"{prefix}{name}."
            yield from flags_of(hint, value if dataclasses.is_dataclass(value) else None, inner)
        elif _POSITIONAL not in marks:
            on = (value is True) if hint is bool else None
            yield Flag("--" + f"{prefix}{name}".replace("_", "-"), value, on)


def turned_off(name: str) -> str:
    """The other name of a switch: ``--no-resume``, ``--gan.no-conditional``."""
    path, dot, last = name.removeprefix("--").rpartition(".")
    return f"--{path}{dot}no-{last}"


def peek(arguments: Sequence[str], **defaults: str | None) -> argparse.Namespace:
    """Options that others depend on, before all are read; ``sae.variant`` is ``--sae.variant``.

    What is wrong with them is left to :func:`read_options`; one without a value has its default here.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in defaults.items():
        parser.add_argument("--" + name.replace("_", "-"), dest=name, nargs="?", default=default, const=default)
    return parser.parse_known_args([_hyphenated(word) for word in arguments])[0]


def _hyphenated(word: str) -> str:
    """tyro takes ``--log_every`` for ``--log-every``."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word


def _parts(word: str) -> list[str]:
    """``--seed=1`` is ``--seed 1``."""
    return word.split("=", 1) if word.startswith("--") else [word]


def read_options(
    kind: type[T],
    arguments: Sequence[str] | None = None,
    *,
    default: T | None = None,
    program: str | None = None,
    description: str | None = None,
) -> T:
    """The command line as ``kind``; ``--help`` and ``--help-all`` print every option and end the program.

    Raises:
      ConfigError: an option that there is not, a value that is missing or none of its kind, or settings that cannot work.
    """
    program = program or program_name()
    words = list(sys.argv[1:] if arguments is None else arguments)
    settings: dict[str, Any] = {} if default is None else {"default": default}
    if description is not None:
        settings["description"] = description
    refusal = _Refusal(kind, words, list(flags_of(kind, default)), program)
    with refusal.hooked():
        return tyro.cli(
            kind, prog=program, args=["--help" if word == "--help-all" else word for word in words], **settings
        )


class _Refusal:
    """Says what is wrong with the words of a command line."""

    def __init__(self, kind: Any, words: list[str], flags: list[Flag], program: str) -> None:
        self.kind = kind
        self.words = [part for word in words for part in _parts(_hyphenated(word))]
        self.flags = {flag.name: flag for flag in flags}
        for flag in flags:  # a switch has two names
            if flag.on is not None:
                self.flags[turned_off(flag.name)] = flag
        self.more = f"{program} --help-all lists every option."

    def hooked(self) -> AbstractContextManager[Any]:
        """While tyro reads: a version of tyro without its hook says what is wrong in a box of its own."""
        hook = getattr(getattr(tyro, "_errors", None), "on_parse_error", None)
        return nullcontext() if hook is None else hook(self)

    def __call__(self, event: Any) -> None:
        """Raise what :mod:`tyro._errors` is about to print; an event of another kind is left to it."""
        kinds = {
            "UnrecognizedArgs": self._unrecognised,
            "MissingArgs": self._missing,
            "BadValue": self._bad_value,
            "InvalidChoice": self._invalid_choice,
            "InstantiationFailure": self._not_made,
        }
        tell = kinds.get(type(event).__name__)
        if tell is not None:
            tell(event)

    def _unrecognised(self, event: Any) -> None:
        self._unknown([_hyphenated(token) for token in event.tokens])

    def _missing(self, event: Any) -> None:
        self._unknown([_hyphenated(token) for token in event.unrecognized_tokens])
        argument = event.missing_arguments[0].arg
        purpose = field_docs(self.kind).get(argument.field.intern_name, "see --help.")
        raise ConfigError(_name(argument), "", f"it must be given: {purpose[:1].lower()}{purpose[1:]}")

    def _bad_value(self, event: Any) -> None:
        if event.reason == "too_few_values":
            name = _name(event.argument)
            raise ConfigError(name, "", f"it needs a value{self._example(name)}. {self.more}")

    def _invalid_choice(self, event: Any) -> None:
        declared = [str(part) for part in _leaves(event.argument.field.type_stripped)]  # in the order they are written
        choices = tuple(part for part in declared if part in event.choices and part != "None")
        require_choice(_name(event.argument), event.value, choices or tuple(event.choices))

    def _not_made(self, event: Any) -> None:
        if event.argument is not None:
            name = _name(event.argument)
            given = self._given(name)
            kind = next((k for k in NUMBERS if k in _leaves(event.argument.field.type_stripped)), None)
            what = f"give {NUMBERS[kind]}{self._example(name)}." if kind else f"{event.message}."
            raise ConfigError(name, given[0] if len(given) == 1 else tuple(given), what)
        raised = sys.exc_info()[1]  # tyro handles it while it calls the hook, and its event has the text alone
        cause = raised if raised is None or isinstance(raised, ConfigError) else raised.__cause__ or raised.__context__
        if not isinstance(cause, ConfigError):
            raise ValueError(" ".join(str(event.message).split()))
        group = getattr(raised, "arg", "")
        parts = [*(group.split(".") if isinstance(group, str) and group else ()), cause.field]
        while len(parts) > 1 and "--" + ".".join(parts).replace("_", "-") not in self.flags:
            parts.pop(0)  # a group whose options have no prefix
        raise ConfigError(".".join(parts), cause.value, cause.fix) from None

    def _unknown(self, tokens: list[str]) -> None:
        """Raise what is wrong with the first of the words that belong to no option."""
        if not tokens:
            return
        named = [token for token in tokens if token.startswith(tuple(DASHES)) and not _is_number(token)]
        if named:
            word = named[0].partition("=")[0]
            hint = self._similar(word)
            raise ConfigError("option", word, f"there is none of this name; {hint}{self.more}")
        word = tokens[0]
        needed = [
            name for name, flag in self.flags.items() if flag.default is dataclasses.MISSING and name not in self.words
        ]
        switches = {name for name, flag in self.flags.items() if flag.on is not None}
        before = next((a for a, b in pairwise(self.words) if b == word and a in switches), None)
        if before is not None:
            other = turned_off(before)
            fix = f"{before} takes no value; leave it out" + (f", or write {other}." if other in switches else ".")
        elif f"--{word}" in self.flags:
            fix = f"did you mean --{word}? Options begin with two dashes."
        elif needed:
            fix = f"did you mean {needed[0]} {word}?"
        else:
            fix = f"no option takes it. {self.more}"
        raise ConfigError("argument", word, fix)

    def _similar(self, word: str) -> str:
        """A hint at the option that may be meant: first one of the same last part."""
        bare = word.lstrip(DASHES)
        names = [*self.flags, *HELP]
        same = [name for name in names if name.split(".")[-1].lstrip("-") == bare.lower()]
        if same:
            return f"did you mean {' or '.join(same[:3])}? "
        bare_names = [name.removeprefix("--") for name in names]
        found = most_like(bare, bare_names) or most_like(bare, [name.split(".")[-1] for name in bare_names])
        meant = [name for name in names if name.removeprefix("--") == found or name.split(".")[-1] == found]
        return f"did you mean {' or '.join(meant[:3])}? " if found else ""

    def _example(self, name: str) -> str:
        flag = self.flags.get(name)
        value = None if flag is None or flag.default in (None, dataclasses.MISSING, "", ()) else flag.default
        if value is None or dataclasses.is_dataclass(value):
            return ""
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        return f", as in {name} {shown}"

    def _given(self, name: str) -> list[str]:
        """The words after the last ``name``."""
        if name not in self.words:
            return []
        after = self.words[len(self.words) - self.words[::-1].index(name) :]
        return list(takewhile(lambda word: not word.startswith("--"), after))


def _name(argument: Any) -> str:
    """An argument of tyro as it is written."""
    return str(argument.display_name() if argument.is_positional() else argument.lowered.name_or_flags[0])


def _leaves(hint: Any) -> list[Any]:
    """The types and the choices that a hint is made of, in their order."""
    parts = typing.get_args(hint)
    return [leaf for part in parts for leaf in _leaves(part)] if parts else [hint]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
