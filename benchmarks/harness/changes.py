"""What changed between two results of ``python -m benchmarks.run``."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.harness.reports.parts import by_work, table

RENAMED = {"gan_non_saturating": "gan_dcgan_w32"}
"""Works that older results have under another name; the step is the same."""
RESAMPLES = 10_000


def product_rate(result: Mapping[str, Any]) -> float | None:
    """Operations a second in the best float32 matrix product that the result's run measured, or None."""
    if "machine" in result:
        return float(result["machine"]["flops_per_s"])
    products = by_work(result).get("matrix_products", {})
    rates = [
        m["throughput"]["median"] * 1e9 for arm, m in products.items() if arm.startswith("xla") and "throughput" in m
    ]
    return max(rates, default=None)


def ratio(new: Mapping[str, Any], old: Mapping[str, Any]) -> tuple[float, float | None, float | None]:
    """Ratio of the medians of two rows, and its 95 % interval.

    The interval is the percentile bootstrap's: both sides' repeats are resampled 10,000 times, independently. It says how
    far repeats of these two runs differ, not what another day or machine would. No interval where a side has one value.
    """
    middle = float(new["median"] / old["median"])
    if min(len(new["values"]), len(old["values"])) < 2:
        return middle, None, None
    rng = np.random.default_rng(0)
    draws = [np.median(rng.choice(row["values"], (RESAMPLES, len(row["values"]))), axis=1) for row in (new, old)]
    low, high = np.quantile(draws[0] / draws[1], (0.025, 0.975))
    return middle, float(low), float(high)


def _differences(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    found = []
    if new["device"] != old["device"]:
        found.append(f"device: {new['device']}, before {old['device']}")
    keys = [(part, key) for part in ("versions", "settings") for key in dict.fromkeys([*new[part], *old[part]])]
    for part, key in keys:
        values = [str(result[part].get(key, "none")) for result in (new, old)]
        if values[0] != values[1]:
            found.append(f"{key}: {values[0]}, before {values[1]}")
    return found


def _rates(result: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """The rows of rates by work and arm."""
    return {
        RENAMED.get(work, work): {arm: metrics["rate"] for arm, metrics in arms.items() if "rate" in metrics}
        for work, arms in by_work(result).items()
    }


def _missing(work: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """What only one of the two results has of a work."""
    notes = []
    for side, here, there in (("new", new, old), ("old", old, new)):
        arms = sorted(there.keys() - here.keys())
        what = f"{work}: {'; '.join(arms)}" if here else work
        notes += [f"not in the {side} result: {what}"] * bool(arms)
    return notes


def _line(work: str, arm: str, row: Mapping[str, Any], before: Mapping[str, Any], scale: float | None) -> list[str]:
    middle, low, high = ratio(row, before)
    certain = low is not None and high is not None and not low <= 1 <= high
    verdict = ("faster" if middle > 1 else "slower") if certain else ""
    return [work, arm, *(_cell(middle, low, high, by) for by in (1.0, scale) if by), verdict]


def changes(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """Markdown: the ratio of rates, new to old, for every work and arm that both results have.

    A second column divides by the ratio of the two runs' float32 product rates, because machines and their load differ. An
    arm is called faster or slower where the interval of the plain ratio leaves out 1. What only one of the results has, and
    where their devices, versions and settings differ, is listed.
    """
    rates = product_rate(new), product_rate(old)
    scale = rates[0] / rates[1] if rates[0] and rates[1] else None
    lines = [
        "# Change of rates",
        "",
        f"New: commit {new['commit']}, {new['device']}. Old: commit {old['commit']}, {old['device']}.",
    ]
    differences = _differences(new, old)
    if differences:
        lines += ["", "**The two runs differ in more than the code:**", "", *(f"- {text}" for text in differences)]
    works_new, works_old = _rates(new), _rates(old)
    rows, missing = [], []
    for work in dict.fromkeys([*works_new, *works_old]):
        mine, theirs = works_new.get(work, {}), works_old.get(work, {})
        missing += _missing(work, mine, theirs)
        both = [arm for arm in mine if arm in theirs and mine[arm]["unit"] == theirs[arm]["unit"]]
        rows += [_line(work, arm, mine[arm], theirs[arm], scale) for arm in both]
    columns = ["work", "arm", "new / old", *(["per product rate"] if scale else []), ""]
    lines += ["", *(table(columns, rows) if rows else ["No arm is in both results."])]
    notes = ["Ratios of median rates; in brackets the bootstrap's 95 % interval over the repeats of these two runs."]
    if scale:
        notes.append(f"The product rate changed by {scale:.3g}; the last ratio is divided by it.")
    return "\n".join([*lines, "", *(f"- {note}" for note in [*notes, *missing]), ""])


def _cell(middle: float, low: float | None, high: float | None, scale: float) -> str:
    interval = "" if low is None or high is None else f" ({low / scale:.3g} to {high / scale:.3g})"
    return f"{middle / scale:.3g}{interval}"
