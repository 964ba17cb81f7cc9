"""Published results rerun, as a table beside the published numbers."""

from saegan_jax.report.table import Line, Result, cell, document, each, origin, pivot


def ours(line: Line) -> str:
    """The only row of a line, to four digits."""
    (row,) = line.values()
    return cell(row, digits=4)


def tables(result: Result) -> str:
    """One line for each measure of each experiment."""
    columns = {
        "ours": ours,
        "published": each("published", form="{:.4g}".format),
        "chance": each("floor", form="{:.4g}".format),
    }
    index, corner = ("table", "arm", "metric"), ("experiment", "", "measure")
    table = pivot(result.rows, index=index, corner=corner, columns=columns)
    return document(origin(result), table, result.extra["note"])
