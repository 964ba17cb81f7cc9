"""What an audit found, as published rows and as a page that a person reads."""

from collections.abc import Sequence

from saegan_jax.evaluation.audit import Audit, ClassOfFeature, Difference, SetTest
from saegan_jax.report.table import Result, Row, document, origin

SHOWN = 12
"""Findings in the page and the picture; the JSON file has every test."""
SECTIONS = {
    "left out": ("missing", "rarer"),
    "invented, or too frequent": ("new", "more frequent"),
    "of another strength": ("weaker", "stronger"),
}
"""Findings of features by what they say of the generator."""
WHOLE_SET = "all images"


def rows_of(audit: Audit) -> list[Row]:
    """One row for each test: of features, the smallest p-value first, then of the whole set."""
    rows = []
    for one in audit.comparison.differences:
        known = audit.classes.get(one.feature)
        extra = {"feature": one.feature, "kind": one.kind, "real_share": one.real_share, "fake_share": one.fake_share}
        extra |= {"p": one.p, "q": one.q, "found": one.q <= audit.comparison.fdr}
        extra |= {} if known is None else {"top_class": known.label, "purity": known.purity}
        unit = "share of fakes minus share of reals" if one.measure == "frequency" else "P(fake stronger than real)"
        rows.append(
            Row(
                arm=f"feature {one.feature}", metric=one.measure, unit=unit, mean=one.effect, low=one.low, high=one.high,
                extra=extra,
            )
        )  # fmt: skip
    for question in audit.comparison.questions.values():
        extra = {"p": question.p, "q": question.q, "found": question.q <= audit.comparison.fdr}
        extra |= {"named": list(question.named)}
        extra |= {"bound": question.bound} if question.question != "described" else {}
        unit = "share of fakes" if question.question != "described" else "P(error of a fake above that of a real)"
        rows.append(
            Row(
                arm=WHOLE_SET, metric=question.question, unit=unit, mean=question.effect, low=question.low,
                high=question.high, floor=question.expected, extra=extra,
            )
        )  # fmt: skip
    return rows


def shown_differences(audit: Audit, *, most: int = SHOWN) -> list[Difference]:
    """Findings of features in the order of the page, at most so many of each section, one a feature."""
    shown: list[Difference] = []
    for kinds in SECTIONS.values():
        known = {one.feature for one in shown}
        fresh = [one for one in audit.comparison.found if one.kind in kinds and one.feature not in known]
        shown += fresh[:most]
    return shown


def percent(share: float) -> str:
    """A share to two digits: 0.5 %, 12 %."""
    return f"{100 * share:.2g} %" if abs(share) < 0.995 else f"{100 * share:.0f} %"


def difference_text(one: Difference, known: ClassOfFeature | None, names: Sequence[str] = ()) -> str:
    """One finding in a sentence."""
    top = ""
    if known is not None:
        name = names[known.label] if names else str(known.label)
        top = f" (class {name}: {percent(known.purity)} of its images)"
    if one.measure == "frequency":
        return (
            f"feature {one.feature}{top}: {one.kind}, active in {percent(one.real_share)} of the reals and "
            f"{percent(one.fake_share)} of the fakes, difference [{100 * one.low:+.2g}, {100 * one.high:+.2g}] points"
        )
    return (
        f"feature {one.feature}{top}: {one.kind} where it is active, a fake exceeds a real with probability {one.effect:.2f} "
        f"[{one.low:.2f}, {one.high:.2f}]"
    )


def question_text(one: SetTest, fdr: float) -> str:
    """The answer to a question in a sentence."""
    if one.question == "copies" and one.bound == 0:
        return (
            f"Copies cannot be looked for: {percent(one.expected)} or more of the held-out reals are copies of training "
            "images, and no fake can be nearer than they are. Remove duplicates from the real images."
        )
    yes = one.q <= fdr
    sure = f"p = {one.p:.2g}"
    if one.question == "described":
        word = "worse than reals" if one.effect > 0.5 else "better than reals"
        said = f"Fakes are described {word if yes else 'as well as reals'}"
        interval = f"{one.effect:.2f} [{one.low:.2f}, {one.high:.2f}]"
        return f"{said}: the error of a fake exceeds a real's with probability {interval}, {sure}."
    said = {
        "undescribed": ("Some fakes have what no feature describes", "No sign of fakes that no feature describes"),
        "copies": ("Some fakes are copies of training images", "No sign of copies of training images"),
    }[one.question][0 if yes else 1]
    beyond = {"undescribed": "have a larger error", "copies": "are nearer to a training image"}[one.question]
    singled = f" {len(one.named):,} of them are singled out." if yes and one.named else ""
    return (
        f"{said}: {percent(one.effect)} [{100 * one.low:.2g}, {100 * one.high:.2g}] {beyond} than all but "
        f"{percent(one.expected)} of the held-out reals, {sure}.{singled}"
    )


def page(result: Result, audit: Audit, *, names: Sequence[str] = (), picture: str = "") -> str:
    """The report of an audit as Markdown.

    Args:
      result: with :func:`rows_of` the audit.
      audit: see :class:`saegan_jax.evaluation.audit.Audit`.
      names: of the classes.
      picture: file beside the page.
    """
    comparison = audit.comparison
    parts = [f"# {result.name}", origin(result), result.extra["note"]]
    answers = [f"- {question_text(one, comparison.fdr)}" for one in comparison.questions.values()]
    for title, kinds in SECTIONS.items():
        found = [one for one in comparison.found if one.kind in kinds]
        lines = [
            f"- {difference_text(one, audit.classes.get(one.feature), names)}, p = {one.p:.1g}."
            for one in found[:SHOWN]
        ]
        if len(found) > SHOWN:
            lines.append(f"- and {len(found) - SHOWN} more, in the JSON file.")
        parts += [f"## Features {title}", "\n".join(lines) or "None found."]
    parts += ["## Whole images", "\n".join(answers)]
    if picture:
        parts.append(f"![Findings: decoder, real images, fake images]({picture})")
    return document(*parts)
