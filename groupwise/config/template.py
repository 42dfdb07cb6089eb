"""Templates such as `Solve: {question}`: text with the names of columns in braces."""

from __future__ import annotations

from functools import lru_cache
from string import Formatter


def is_template(prompt: str) -> bool:
    """Whether `prompt` is a template; otherwise it is the name of a column."""
    return "{" in prompt or "}" in prompt


@lru_cache(maxsize=64)
def parse_template(template: str) -> tuple[tuple[str, str | None], ...]:
    """Pairs of plain text and the column that follows it, None where none does. ValueError for what is no template.

    >>> parse_template("Solve: {question} {{x}}")
    (('Solve: ', 'question'), (' {', None), ('x}', None))
    """
    try:
        parts = [(text, field, bool(spec or how)) for text, field, spec, how in Formatter().parse(template)]
    except ValueError as error:
        raise ValueError(f"{str(error).lower()}; write {{{{ and }}}} for braces that are text") from None
    for _, field, more in parts:
        if more or field == "":
            raise ValueError("braces hold the name of a column, as in {question}; write {{ and }} for braces of text")
    if not any(field for _, field, _ in parts):
        raise ValueError("it names no column; write one in braces, as in {question}")
    return tuple((text, field) for text, field, _ in parts)
