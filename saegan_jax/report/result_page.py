"""The page of a published result: intervals as SVG, every seed's value, floors and published values."""

from collections.abc import Sequence
from typing import Any

from saegan_jax.report.axes import Axis
from saegan_jax.report.page import environment
from saegan_jax.report.table import Result, Row

SETTLED = ("change", "note", "parameters", "steps", "flops", "failed", "seeds")
"""Extra fields that say something of a row, and do not tell one from another."""


def names_of(rows: Sequence[Row]) -> list[str]:
    """What tells rows of one metric apart: the arm, and whatever else differs between the rows of an arm."""
    extras = dict.fromkeys(name for row in rows for name in row.extra if name not in SETTLED)
    plain = [name for name in extras if all(isinstance(row.get(name), str | int | float | None) for row in rows)]
    telling = [name for name in plain if len({row.get(name) for row in rows}) > 1]
    parts = [[row.arm, *(f"{name} {row.get(name)}" for name in telling if row.get(name) is not None)] for row in rows]
    return [", ".join(part) for part in parts]


def chart(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows of one metric on one line of numbers: places of means, intervals, values, floors and published values."""
    numbers = [x for row in rows for x in (row.mean, row.low, row.high, row.floor, row.published, *row.values)]
    axis = Axis.over(numbers)
    place = axis.place
    lines = []
    for name, row in zip(names_of(rows), rows, strict=True):
        at = {key: None if (x := getattr(row, key)) is None else place(x) for key in ("mean", "low", "high")}
        at |= {key: None if (x := getattr(row, key)) is None else place(x) for key in ("floor", "published")}
        dots = [(place(v), v) for v in row.values if v is not None]
        lines.append({"name": name, "row": row, "at": at, "dots": dots, "failed": row.values.count(None)})
    unit = next((row.unit for row in rows if row.unit), "")
    return {"metric": rows[0].metric, "unit": unit, "log": axis.log, "ticks": axis.ticks(), "lines": lines}


def change_chart(rows: Sequence[Row]) -> dict[str, Any] | None:
    """What arms change of one metric, as times the baseline; None where no row says it."""
    changed = [row for row in rows if isinstance(row.get("change"), dict)]
    if not changed:
        return None
    ratios = [[1 + row["change"][key] for key in ("change", "low", "high")] for row in changed]
    # An interval without end, of one seed, would leave no room for the others.
    ends = [(mean, max(low, mean / 20), min(high, mean * 20)) for mean, low, high in ratios]
    axis = Axis.over([1.0, *(x for three in ends for x in three)])
    lines = [
        {
            "name": name,
            "verdict": row["change"].get("verdict", ""),
            "numbers": three,
            "at": dict(zip(("mean", "low", "high"), map(axis.place, end), strict=True)),
        }
        for name, row, three, end in zip(names_of(changed), changed, ratios, ends, strict=True)
    ]
    return {"log": axis.log, "ticks": axis.ticks(), "one": axis.place(1.0), "lines": lines}


def result_html(result: Result) -> str:
    """The page as one HTML document without any address; one chart for each metric, in order of appearance."""
    by_metric: dict[str, list[Row]] = {}
    for row in result.rows:
        by_metric.setdefault(row.metric, []).append(row)
    charts = [chart(rows) | {"change": change_chart(rows)} for rows in by_metric.values()]
    facts = {"device": result.device, "commit": result.commit}
    facts |= {name: str(version) for name, version in result.versions.items()}
    note = str(result.extra.get("note", "")).replace("*", "")  # it is Markdown
    has = {name: any(row.get(name) is not None for row in result.rows) for name in ("floor", "published", "low")}
    template = environment().get_template("result.html")
    return template.render(result=result, charts=charts, facts=facts, note=note, has=has)
