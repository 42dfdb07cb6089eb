"""Pure pieces that rewards are made of."""

from __future__ import annotations

import re

from groupwise.types import Prompt

_OPEN, _CLOSE = "<answer>", "</answer>"
_BRACE = re.compile(r"\\boxed\s*\{|\\[{}]|[{}]")


def answer_of(completion: str) -> str | None:
    """The stripped text inside the last <answer>...</answer>, or None where no pair is complete.

    The same answer as `reasoning_gym.utils.extract_answer` gives, found without a regular expression: that one takes
    quadratic time on a completion that repeats "<answer>" and never closes it, as a policy early in training may.

    >>> answer_of("<answer>3</answer> or rather <answer> 4 </answer>")
    '4'
    """
    answer, start = None, completion.find(_OPEN)
    while start >= 0:
        end = completion.find(_CLOSE, start + len(_OPEN))
        if end < 0:
            break
        answer = completion[start + len(_OPEN) : end].strip()
        start = completion.find(_OPEN, end + len(_CLOSE))
    return answer


def reference_of(prompt: Prompt) -> str | None:
    """The prompt's answer, to compare with; None where there is none: the empty cell of a table is no answer."""
    return prompt.answer if prompt.answer and prompt.answer.strip() else None


def boxed_of(text: str) -> str | None:
    r"""The inside of the last complete \boxed{...}, or None where none is.

    >>> boxed_of(r"\boxed{1} and \boxed{\frac{2}{3}} and \boxed{4")
    '\\frac{2}{3}'
    """
    last, open_braces = None, list[re.Match[str]]()
    for brace in _BRACE.finditer(text):  # one pass: a policy may open thousands and close none
        if brace[0] == "}" and open_braces:
            opening = open_braces.pop()
            if opening[0] != "{":
                last = text[opening.end() : brace.start()]
        elif brace[0].endswith("{") and brace[0] != r"\{":
            open_braces.append(brace)
    return last


def length_penalty(length: int, max_tokens: int, buffer: int) -> float:
    """The soft overlong punishment of DAPO (arXiv 2503.14476, eq. 13), to be added to the reward.

        0                                        length <= max_tokens - buffer
        (max_tokens - buffer - length) / buffer  between
        -1                                       length >= max_tokens

    The paper's last line says length > max_tokens; the middle one is -1 at max_tokens already, so with a buffer the two
    agree. Ours holds for a buffer of 0 as well: then only a completion that fills max_tokens is punished.

    >>> length_penalty(75, 100, 50)
    -0.5
    """
    if not 0 <= buffer <= max_tokens:
        raise ValueError(f"buffer {buffer} is not between 0 and max_tokens {max_tokens}")
    if length >= max_tokens:
        return -1.0
    return min(0.0, (max_tokens - buffer - length) / buffer) if buffer else 0.0
