"""Whether a completion matches a pattern."""

from __future__ import annotations

import re

from groupwise.types import Prompt


def regex(prompt: Prompt, completion: str, *, pattern: re.Pattern[str]) -> float:
    r"""1 where `pattern` (Python's `re`) is found anywhere in the completion, else 0.

    `^` and `$` mean its ends; `(?s)` lets a dot match line ends, `(?i)` ignores case. It sees the form only: whatever
    matches is paid, however it came about. A pattern that backtracks for ever meets the reward's deadline.

    >>> prompt = Prompt(id="1", task="t", domain="d", text="")
    >>> regex(prompt, "The answer is 12.", pattern=re.compile(r"\d+\.$"))
    1.0
    """
    return float(pattern.search(completion) is not None)
