"""Results in the documentation: whatever stands between the marks of a result is written by its benchmark's report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

SPEED = Path(__file__).resolve().parents[1] / "docs" / "speed.md"


def fill(page: Path, name: str, text: str) -> None:
    """Put `text` between `<!-- results: NAME -->` and `<!-- end of NAME -->`. ValueError where the page lacks them."""
    page.write_text(filled(page.read_text(), name, text))


def filled(content: str, name: str, text: str) -> str:
    r"""The page's content with `text` between the marks of `name`.

    >>> filled("a <!-- results: x --> old <!-- end of x --> b", "x", "new")
    'a <!-- results: x -->\n\nnew\n\n<!-- end of x --> b'
    """
    begin, end = f"<!-- results: {name} -->", f"<!-- end of {name} -->"
    parts = re.split(f"({re.escape(begin)}|{re.escape(end)})", content)
    if parts[1::2] != [begin, end]:
        raise ValueError(f"the page must have {begin} and then {end}, each once")
    return f"{parts[0]}{begin}\n\n{text}\n\n{end}{parts[4]}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """In Markdown.

    >>> print(table(["a", "b"], [[1, "x"]]))
    | a | b |
    |---|---|
    | 1 | x |
    """
    lines = [header, *rows]
    text = ["| " + " | ".join(map(str, line)) + " |" for line in lines]
    return "\n".join([text[0], "|" + "---|" * len(header), *text[1:]])
