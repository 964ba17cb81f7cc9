"""Published results: one record for a number, one file format, one way to lay numbers out as a Markdown table."""

import dataclasses
import json
import math
import os
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from saegan_jax.errors import ConfigError
from saegan_jax.files import write_bytes, write_json
from saegan_jax.report.results import provenance
from saegan_jax.stats import over_seeds

_NUMBERS = ("mean", "low", "high", "floor", "published")
_RENAMED = re.compile(r"\b((?:[Ff]irst|[Bb]est|[Ll]ast)\*?) look\b")


def present_name(text: str) -> str:
    """``text`` with the names that measures have now: earlier versions called an evaluation a look.

    Args:
      text: a measure's or an arm's name, or a note that mentions them.
    """
    return _RENAMED.sub(r"\1 evaluation", text)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure of one arm.

    Attributes:
      arm: what was measured.
      metric: which measure of it.
      unit: of the values.
      mean, low, high: over the seeds, with the ends of the interval; None where there is none.
      values: one for each seed or repeat; None where it failed.
      floor: the measure of real data, or of a perfect model.
      published: the value in the literature.
      extra: fields that only some results have, such as ``fraction``, ``dose`` or ``note``.

    Raises:
      ValueError: a number that is not finite, which no result may hold: a value that failed is None.
    """

    arm: str
    metric: str
    unit: str = ""
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    values: tuple[float | None, ...] = ()
    floor: float | None = None
    published: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        numbers |= {f"values[{i}]": value for i, value in enumerate(self.values)}
        for name, value in numbers.items():
            if value is not None and not math.isfinite(value):
                raise ValueError(
                    f"{name} = {value} of {self.metric!r}, arm {self.arm!r}: a result holds finite numbers; "
                    "a value that failed is None."
                )
        twice = sorted(self.extra.keys() & {f.name for f in dataclasses.fields(self)})
        if twice:
            raise ValueError(
                f"extra of {self.metric!r}, arm {self.arm!r} has {', '.join(twice)}, which a row has itself."
            )

    @classmethod
    def of(
        cls,
        arm: str,
        metric: str,
        values: Iterable[float | None],
        *,
        unit: str = "",
        floor: float | None = None,
        published: float | None = None,
        skip_failed: bool = False,
        **extra: Any,
    ) -> Self:
        """A row with the mean of ``values`` and its bootstrap interval over seeds.

        Args:
          arm, metric, unit, floor, published: see the attributes; a floor that is not finite is None.
          values: one for each seed; one that is None or not finite has failed, and is kept as None.
          skip_failed: take the mean over the other seeds, for tables that count the failed ones; otherwise a row with a
            failed seed has no mean.
          extra: further fields.
        """
        kept = tuple(_finite(value) for value in values)
        finite = [v for v in kept if v is not None]
        whole = finite and (skip_failed or len(finite) == len(kept))
        mean, low, high = over_seeds(finite) if whole else (None, None, None)
        return cls(
            arm=arm, metric=metric, unit=unit, mean=mean, low=low, high=high, values=kept,
            floor=_finite(floor), published=published, extra=extra,
        )  # fmt: skip

    def __getitem__(self, name: str) -> Any:
        """The field ``name``, of the row or among its extra ones."""
        named = {f.name for f in dataclasses.fields(self)} - {"extra"}
        return getattr(self, name) if name in named else self.extra[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The field ``name``, or ``default`` where the row has none."""
        try:
            return self[name]
        except KeyError:
            return default

    def to_json(self) -> dict[str, Any]:
        """All fields as one flat dict."""
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "extra"}
        return named | {"values": list(self.values)} | dict(self.extra)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """The row that :meth:`to_json` wrote, or that of an earlier version.

        An earlier one may lack some fields, has NaN for None, and other names (see :func:`present_name`).

        Raises:
          ValueError: no ``arm`` or no ``metric``.
        """
        named = {f.name for f in dataclasses.fields(cls)} - {"extra"}
        missing = [name for name in ("arm", "metric") if name not in saved]
        if missing:
            raise ValueError(f"a row has no {' and no '.join(missing)}, only {', '.join(saved) or 'nothing'}.")
        known: dict[str, Any] = {name: saved[name] for name in saved if name in named}
        for name in _NUMBERS:
            known[name] = _finite(known.get(name))
        known["arm"], known["metric"] = present_name(saved["arm"]), present_name(saved["metric"])
        known["values"] = tuple(_finite(value) for value in known.get("values", ()))
        return cls(**known, extra={name: value for name, value in saved.items() if name not in named})


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


@dataclass(frozen=True, kw_only=True)
class Result:
    """A published result: where its numbers come from, and the numbers.

    Attributes:
      name: its title.
      command: that made it.
      commit: of the code; see :func:`saegan_jax.report.results.commit`.
      device: that it was measured on.
      versions: of Python and the packages.
      rows: the numbers.
      extra: everything else that the file holds, such as ``note`` and ``config``, as JSON values.
    """

    name: str
    command: str
    commit: str
    device: str
    versions: Mapping[str, str]
    rows: tuple[Row, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def here(cls, name: str, command: str, rows: Iterable[Row], **extra: Any) -> Self:
        """A result of this machine and this version of the code."""
        return cls(name=name, **provenance(command), rows=tuple(rows), extra=extra)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, the rows last."""
        origin = {name: getattr(self, name) for name in ("name", "command", "commit", "device")}
        return origin | {"versions": dict(self.versions), **self.extra, "rows": [row.to_json() for row in self.rows]}

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """The result in a JSON file.

        Raises:
          ConfigError: no such file, no JSON, or not that of a result.
        """
        try:
            saved = json.loads(Path(path).read_text())
            named = {f.name for f in dataclasses.fields(cls)} - {"rows", "extra"}
            known = {name: saved[name] for name in named}
            rows = tuple(Row.from_json(row) for row in saved["rows"])
            extra = {name: value for name, value in saved.items() if name not in named | {"rows"}}
            if "note" in extra:
                extra["note"] = present_name(extra["note"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            fix = f"it is not a published result ({type(error).__name__}: {error})."
            raise ConfigError("result", str(path), fix) from None
        return cls(**known, rows=rows, extra=extra)

    def write(self, path: str | os.PathLike[str], markdown: str) -> None:
        """Write the JSON file, and beside it the Markdown made from it."""
        write_json(Path(path), self.to_json())
        write_bytes(Path(path).with_suffix(".md"), markdown.encode())


def origin(result: Result) -> str:
    """Command, device and versions of a result, as the first line of its Markdown."""
    packages = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return f"`{result.command}` on {result.device}; {packages}."


def document(*parts: str) -> str:
    """Paragraphs, headings and tables as one Markdown text."""
    return "\n\n".join(part for part in parts if part) + "\n"


def seeds_text(n: int) -> str:
    """How many seeds, and what the cells of a table over several of them show."""
    return f"{n} seeds; mean [bootstrap 95 % interval over seeds]" if n > 1 else f"{n} seed"


def cell(row: Row | None, *, digits: int = 3, count_failed: bool = True) -> str:
    """``mean [low, high]`` to so many digits, or what there is of it.

    Where failed seeds leave no mean their number is shown, unless ``count_failed`` is off because another column does.
    """
    if row is None:
        return ""
    if row.mean is None:
        failed = sum(value is None for value in row.values)
        return f"{failed} of {len(row.values)} failed" if failed and count_failed else ""
    interval = "" if row.low is None else f" [{row.low:.{digits}g}, {row.high:.{digits}g}]"
    return f"{row.mean:.{digits}g}{interval}"


def floor_rows(rows: Iterable[Row], arm: str) -> list[Row]:
    """The floors of ``rows`` as rows of an arm of that name, one a metric."""
    return [
        Row(arm=arm, metric=row.metric, unit=row.unit, mean=row.floor, extra=row.extra)
        for row in {row.metric: row for row in rows if row.floor is not None}.values()
    ]


Line = Mapping[Any, Row]
"""The rows that one line of a table shows, by the field that tells its columns apart."""
Text = Callable[[Line], str]


def each(name: str, *, of: Hashable | None = None, form: Callable[[Any], str] = str) -> Text:
    """A column that shows the field ``name`` of a line's row ``of``, or of its first row; nothing where there is none."""

    def text(line: Line) -> str:
        row = line.get(of) if of is not None else next(iter(line.values()), None)
        value = None if row is None else row.get(name)
        return "" if value is None else form(value)

    return text


def pivot(
    rows: Iterable[Row],
    *,
    index: str | Sequence[str] = "arm",
    columns: str | Mapping[str, Hashable | Text] = "metric",
    by: str = "metric",
    corner: str | Sequence[str] = "",
    cell: Callable[[Row | None], str] = cell,
    drop_empty: bool = False,
    spaced_rule: bool = False,
) -> str:
    """A Markdown table: one line for every value of ``index``, in order of appearance.

    Args:
      rows: what is laid out; of two with the same place the last is shown.
      index: the field, or fields, whose values name the lines.
      columns: a field, each of whose values becomes a column; or for each heading the value of the field ``by`` that its
        cells show, or a function from the line's rows to the text of its cell.
      by: the field that tells the rows of a line apart, where ``columns`` is a mapping.
      corner: headings over the index.
      cell: the text of a row, or of the absence of one.
      drop_empty: leave out lines in which no cell has a text.
      spaced_rule: write the rule under the headings as ``| --- |``; it is ``|---|`` otherwise.

    Returns:
      The table, without a line break at its end.
    """
    rows = list(rows)
    fields = (index,) if isinstance(index, str) else tuple(index)
    corners = (corner,) if isinstance(corner, str) else tuple(corner)
    corners += ("",) * (len(fields) - len(corners))
    if isinstance(columns, str):
        by = columns
        columns = {str(value): value for value in dict.fromkeys(row.get(by) for row in rows)}
    lines: dict[tuple[Any, ...], dict[Any, Row]] = {}
    for row in rows:
        lines.setdefault(tuple(row.get(name) for name in fields), {})[row.get(by)] = row

    def text(column: Any, line: Line) -> str:
        return column(line) if callable(column) else cell(line.get(column))

    heads = [_escaped(head) for head in (*corners, *columns)]
    made = ["|" + "".join(f" {head} |" if head else " |" for head in heads)]
    made.append("|" + (" --- |" if spaced_rule else "---|") * len(heads))
    for names, line in lines.items():
        texts = [text(column, line) for column in columns.values()]
        if any(texts) or not drop_empty:
            made.append("|" + "".join(f" {_escaped(shown)} |" for shown in (*names, *texts)))
    return "\n".join(made)


def _escaped(text: Any) -> str:
    """A bar would end its cell."""
    return str(text).replace("|", "\\|")
