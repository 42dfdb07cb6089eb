"""Whether the answer is, letter by letter, the reference."""

from __future__ import annotations

import unicodedata

from groupwise.tasks.rewards import answer_of, reference_of
from groupwise.types import Prompt


def exact(prompt: Prompt, completion: str, *, ignore_case: bool = False, tags: bool = False) -> float | None:
    """1 where the answer equals `prompt.answer`, else 0; None where the prompt has no answer.

    The answer is the text in the last <answer> tags, else, unless `tags` asks for them, the whole completion. Both
    sides are compared after Unicode's NFKC and with runs of white space as one blank. So "4.0" is not "4".

    >>> prompt = Prompt(id="1", task="t", domain="d", text="Capital of France?", answer="Paris")
    >>> exact(prompt, "<answer> Paris </answer>"), exact(prompt, "paris"), exact(prompt, "paris", ignore_case=True)
    (1.0, 0.0, 1.0)
    """
    reference = reference_of(prompt)
    if reference is None:
        return None
    answer = answer_of(completion)
    if answer is None and not tags:
        answer = completion
    return float(answer is not None and normalise(answer, ignore_case) == normalise(reference, ignore_case))


def normalise(text: str, ignore_case: bool = False) -> str:
    r"""NFKC, white space as single blanks, and case folded where `ignore_case`.

    >>> normalise("  One\n two ")
    'One two'
    """
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    return text.casefold() if ignore_case else text
