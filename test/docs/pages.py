"""The pages of the documentation and the code blocks in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Block:
    language: str
    text: str
    line: int  # of the opening fence
    output: str | None = None  # the ```text block right behind this one


def all_pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """All fenced code blocks of a page, an output block attached to the block it follows."""
    found: list[Block] = []
    current: Block | None = None
    adjacent = False  # only blank lines since the last block
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = re.fullmatch(r"```(\w*)", line)
        if current is None:
            if fence:
                current = Block(fence[1], "", number)
            elif line.strip():
                adjacent = False
        elif line == "```":
            if current.language == "text" and adjacent and found[-1].language in ("sql", "sh"):
                found[-1].output = current.text
                adjacent = False
            else:
                found.append(current)
                adjacent = True
            current = None
        else:
            current.text += line + "\n"
    if current is not None:
        raise ValueError(f"{page.name}:{current.line}: code block without an end")
    return found


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
