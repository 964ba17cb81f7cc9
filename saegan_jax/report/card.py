"""The model card of shared weights, as Markdown with the header that model hubs read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from saegan_jax.data.registry import FOLDER, VECTORS

TAGS = ("jax", "flax", "sparse-autoencoder")
USES = {
    "sae": "codes = model.encode(images)  # float32, (n, {shape})\nimages = model.decode(codes)",
    "generator": "images = model.sample(jax.random.key(0), 16)  # float32 in [0, 1], (16, {shape})",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model card says.

    Attributes:
      title: name of the run.
      part: ``sae`` or ``generator``.
      what: the weights in one phrase.
      licence: identifier, such as ``apache-2.0``.
      dataset: that it was trained on.
      seed: of the member that the weights are of.
      member, members: that member, counted from 0, and how many the run has.
      step: of the checkpoint.
      shape: ``(height, width, channels)``.
      settings: of the run, flat.
      scores: rows of ``summary.json``.
      trained_with: version of this package that trained it.
      versions: of the packages that wrote the files.
      command: that trained the run; None where it is not known.
    """

    title: str
    part: str
    what: str
    licence: str
    dataset: str
    seed: int
    member: int
    members: int
    step: int
    shape: tuple[int, int, int]
    settings: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, Any]]
    trained_with: str
    versions: Mapping[str, str]
    command: str | None = None


def without_folders(value: Any) -> Any:
    """A setting without the folders of a path in it, which are nobody else's business; ``kind:PATH`` keeps its kind."""
    if isinstance(value, list | tuple):
        return [without_folders(one) for one in value]
    if not isinstance(value, str) or not any(mark in value for mark in ("/", "\\")):
        return value
    kind, colon, path = value.partition(":")
    last = PurePath((path if colon else kind).replace("\\", "/")).name
    return f"{kind}:{last}" if colon and len(kind) > 1 else last


def data_name(dataset: str) -> str:
    """A data set without the folders of ``folder:PATH`` and ``vectors:PATH``; the slash of ``name/config`` stays."""
    return without_folders(dataset) if dataset.startswith((FOLDER, VECTORS)) else dataset


def shared_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, as they may be given to others: without folders."""
    return {name: (data_name if name == "dataset" else without_folders)(value) for name, value in settings.items()}


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def number(value: Any) -> str:
    """Three digits, or a word where there is no number."""
    return "not finite" if value is None or value != value else f"{value:.3g}"


def score_rows(card: Card) -> list[list[str]]:
    """Every score of the member, beside its floor and those of the other members."""
    rows = []
    for name, row in card.scores.items():
        values = row["values"]
        own = number(values[card.member]) if card.member < len(values) else number(values[0])
        floor = "" if row["floor"] is None else number(row["floor"])
        others = " ".join(map(number, values)) if len(values) > 1 else ""
        rows.append([name, own, floor, others, row["unit"], row["note"]])
    return rows


def model_card(card: Card) -> str:
    """The whole README.md."""
    shape = ", ".join(map(str, card.shape))
    header = [
        "---",
        f"license: {card.licence}",
        "library_name: saegan_jax",
        "tags:",
        *(f"- {tag}" for tag in TAGS),
        "---",
    ]
    facts: list[list[object]] = [
        ["weights", card.what],
        ["data set", data_name(card.dataset)],
        ["input" if card.part == "sae" else "output", f"height, width, channels {shape}"],
        ["seed", f"{card.seed} (member {card.member} of {card.members} in the run)"],
        ["step", card.step],
        ["licence", card.licence],
        ["trained with", f"saegan_jax {card.trained_with}"],
        ["written with", ", ".join(f"{name} {version}" for name, version in card.versions.items())],
    ]
    scores = (
        table(("measure", "value", "floor", "every seed", "unit", "beside"), score_rows(card))
        if card.scores
        else "The run has not been scored."
    )
    settings = table(("setting", "value"), list(shared_settings(card.settings).items()))
    code = USES[card.part].format(shape=shape)
    training = [] if card.command is None else [f"## Training\n\n```bash\n{card.command}\n```"]
    parts = [
        "\n".join(header),
        f"# {card.title}",
        table(("", ""), facts),
        f'## Use\n\n```python\nimport jax\nimport saegan_jax\n\nmodel = saegan_jax.from_pretrained("FOLDER")\n{code}\n```',
        *training,
        f"## Scores\n\nOf the whole run. The floor is what real data score.\n\n{scores}",
        f"## Configuration\n\n{settings}",
    ]
    return "\n\n".join(parts) + "\n"
