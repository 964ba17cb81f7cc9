"""Put the published result tables into README.md, each between the markers that name its file."""

import re
from pathlib import Path

from saegan_jax.training.files import write_bytes

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- table: (?P<path>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """``text`` with every marked block replaced by the file that its marker names, without that file's title."""

    def table(match: re.Match[str]) -> str:
        lines = (ROOT / match["path"]).read_text().splitlines()
        # One level down, below README's own headings.
        lines = [f"#{line}" if line.startswith("## ") else line for line in lines if not line.startswith("# ")]
        body = "\n".join(lines).strip()
        return f"{match[1]}\n{body}\n\n{match[3]}"

    return BLOCK.sub(table, text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    write_bytes(readme, filled(readme.read_text()).encode())
