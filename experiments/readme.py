"""Put the published result tables into README.md and docs/*.md, each between the markers that name its file.

``documented_commands`` lists the commands that these pages show, so that tests can parse them.
"""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from saegan_jax.files import write_bytes

ROOT = Path(__file__).parents[1]
TABLE = re.compile(r"(<!-- table: (?P<path>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
FENCE = re.compile(r"^```[^\n]*\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(?P<code>[^`]+)`")
COMMAND = re.compile(r"python -m (experiments|benchmarks)\.|saegan ")


class Command(NamedTuple):
    """One command of a page: the page's path from the root, and the words that a shell makes of the command."""

    page: str
    words: tuple[str, ...]


def pages() -> list[Path]:
    """The pages that the markers and the commands are looked for in."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str) -> str:
    """``text`` with every marked block replaced by the file that its marker names, without that file's title."""

    def table(match: re.Match[str]) -> str:
        lines = (ROOT / match["path"]).read_text().splitlines()
        # One level down, below the headings of the page.
        lines = [f"#{line}" if line.startswith("## ") else line for line in lines if not line.startswith("# ")]
        body = "\n".join(lines).strip()
        return f"{match[1]}\n{body}\n\n{match[3]}"

    return TABLE.sub(table, text)


def without_tables(text: str) -> str:
    """``text`` without its included tables, which name the commands of their own time."""
    return TABLE.sub("", text)


def without_code(text: str) -> str:
    """``text`` without code blocks and inline code."""
    return INLINE.sub("", FENCE.sub("", text))


def commands_of(text: str, *, page: str = "") -> list[Command]:
    """The commands of this project in a page, from code blocks and from inline code, in that order.

    Commands joined by ``&&`` are taken apart, lines that end in a backslash are joined, and comments are left out.

    Raises:
      ValueError: a command with a quotation mark or a backslash that is never closed; the message names the page.
    """
    text = without_tables(text)
    lines = [line for block in FENCE.finditer(text) for line in block["code"].replace("\\\n", " ").splitlines()]
    spans = [" ".join(span["code"].split()) for span in INLINE.finditer(FENCE.sub("", text))]
    found = []
    for part in (part.strip() for code in (*lines, *spans) for part in code.split("&&")):
        if COMMAND.match(part):
            try:
                found.append(Command(page, tuple(shlex.split(part, comments=True))))
            except ValueError as error:
                raise ValueError(f"{page}: {part!r} is not a command ({error}).") from None
    return found


def documented_commands() -> list[Command]:
    """Every command of this project in README and docs, each as often as it stands there."""
    return [command for path in pages() for command in commands_of(path.read_text(), page=str(path.relative_to(ROOT)))]


if __name__ == "__main__":
    for path in pages():
        write_bytes(path, filled(path.read_text()).encode())
