"""How many labels the translations of a CycleGAN keep, and how well codes tell labels across its domains, as tables."""

from saegan_jax.report.table import Result, document, origin, pivot

HEADINGS = {
    "label kept, A to B": "label_kept_ab",
    "label kept, B to A": "label_kept_ba",
    "Frechet distance, A to B": "frechet_ab",
    "Frechet distance, B to A": "frechet_ba",
    "cycle error": "cycle",
}
"""Columns and their measures."""


def tables(result: Result) -> str:
    """Arms down, measures across; below it the same of validation images, and what each measure is."""
    titles = dict(HEADINGS) | {"A to B": "validation_ab", "B to A": "validation_ba"}
    validation = {title: titles[title] for title in ("A to B", "B to A")}
    shown = [row for row in result.rows if row.metric in validation.values()]
    units = {row.metric: row.unit for row in result.rows}
    legend = "\n".join(f"- {title}: {units[name]}" for title, name in HEADINGS.items() if name in units)
    return document(
        origin(result),
        result.extra["note"],
        pivot([row for row in result.rows if row.metric in HEADINGS.values()], columns=HEADINGS),
        legend,
        "Labels kept by 500 validation images of each domain, or as many as there are, at the last step:",
        pivot(shown, columns=validation),
    )


def code_tables(result: Result) -> str:
    """Codes down, directions across: how often the nearest image of the other domain has the same label."""
    columns = {"A to B": "agreement_ab", "B to A": "agreement_ba"}
    units = {row.metric: row.unit for row in result.rows}
    legend = "\n".join(f"- {title}: {units[name]}" for title, name in columns.items() if name in units)
    return document(origin(result), result.extra["note"], pivot(result.rows, columns=columns), legend)
