r"""The answer that a completion settles on, in a form in which equal answers are equal texts."""

from __future__ import annotations

import re
from fractions import Fraction

from groupwise.tasks.built_in.exact import normalise
from groupwise.tasks.rewards import answer_of, boxed_of

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+|\d+/\d+)", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?", re.ASCII)


def voted_answer(completion: str) -> str:
    r"""What a completion votes for: its last <answer>, else its last \boxed{}, else its last line that is not blank.

    A \boxed{} inside the tags is opened too. Case and the width of spaces do not matter, and numbers are compared by
    value; otherwise equal mathematics in other words is another answer.

    >>> [voted_answer(text) for text in ("so <answer> 1,250.0 </answer>", r"thus $\boxed{\frac{1}{2}}$.", "Not A\nB")]
    ['1250', '\\frac{1}{2}', 'b']
    """
    tagged = answer_of(completion)
    boxed = boxed_of(completion if tagged is None else tagged)
    last_line = completion.strip().rpartition("\n")[2]
    return _normalised(next(answer for answer in (boxed, tagged, last_line) if answer is not None))


def _normalised(answer: str) -> str:
    text = normalise(answer, ignore_case=True)
    plain = text.replace(",", "") if _THOUSANDS.fullmatch(text) else text
    if not _NUMBER.fullmatch(plain):
        return text
    try:
        return str(Fraction(plain))
    except (ValueError, ZeroDivisionError):  # more digits than Python reads; a division by 0
        return plain
