"""Which prompts are the same, and which are kept for evaluation: decided by what they say, never by their order."""

from __future__ import annotations

import hashlib

SHARE = 0.1  # of the prompts are held out where nobody says otherwise
_STEPS = 10**6  # a share counts in millionths


def prompt_id(family: str, question: str) -> str:
    """A question's identity across runs and machines."""
    return hashlib.sha256(f"{family}\n{question}".encode()).hexdigest()[:16]


def likeness(text: str) -> str:
    r"""Identity of a text up to case and white space, whatever the task: what must not be on both sides.

    >>> likeness("What is  1+1?") == likeness(" what is\n1+1? ")
    True
    """
    return prompt_id("", " ".join(text.casefold().split()))


def is_held_out(key: str, share: float = SHARE) -> bool:
    """Whether the prompt with this id is kept for evaluation. A smaller share keeps some of those of a larger one."""
    number = int(key[:8], 16)
    # the last two digits come first: whole per cents were all there was, and choose the same prompts still
    return number % 100 * 10_000 + number // 100 % 10_000 < share * _STEPS
