"""Whether a completion consists of the tags that were asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from groupwise.types import Prompt, UserError


def tag_format(prompt: Prompt, completion: str, *, tags: list[str] | tuple[str, ...] = ("think", "answer")) -> float:
    """1 where the completion is <think>...</think> <answer>...</answer> and nothing else, else 0 (`tags` in order).

    The format reward of DeepSeek-R1 (arXiv 2501.12948, section 2.2.2), strictly: each tag opens and closes exactly
    once, in order, one after the other, with only white space around them. What the tags hold is not looked at, and
    may be empty. Where the model's template has opened the first tag already, no completion can have this format.

    >>> prompt = Prompt(id="1", task="t", domain="d", text="")
    >>> tag_format(prompt, "<think>1 + 1</think> <answer>2</answer>"), tag_format(prompt, "<answer>2</answer>")
    (1.0, 0.0)
    """
    rest = completion.strip()
    if any(rest.count(mark) != 1 for tag in tags for mark in (f"<{tag}>", f"</{tag}>")):
        return 0.0
    for tag in tags:
        if not rest.startswith(f"<{tag}>"):
            return 0.0
        _, closed, rest = rest.partition(f"</{tag}>")
        if not closed:
            return 0.0
        rest = rest.lstrip()
    return float(not rest)


def check_tags(tags: Sequence[str]) -> None:
    """Refuse tags that could not be told apart."""
    wrong = [tag for tag in tags if not re.fullmatch(r"[\w.-]+", tag)]
    if wrong or not tags or len(set(tags)) < len(tags):
        raise UserError(
            f"params.tags: names without brackets, one or more, each once, e.g. [think, answer], not {tags}"
        )
