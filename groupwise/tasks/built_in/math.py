r"""Whether the answer is mathematically equal to the reference, by the package math-verify."""

from __future__ import annotations

import importlib
import logging
import re
from functools import cache
from types import ModuleType

from groupwise.tasks.built_in.exact import normalise
from groupwise.tasks.rewards import answer_of, boxed_of, reference_of
from groupwise.types import Prompt, UserError

_TAIL = 1000  # characters at the end of a completion in which its last expression is sought
_WORD = re.compile(r"(?<![\\A-Za-z])(?!(?:sqrt|pi|sin|cos|tan|log|ln|exp|in|cup|cap)\b)[A-Za-z]{2,}")
_LATEX = re.compile(r"\$|\\[(\[]")
_TEXT = re.compile(r"\\(?:text|textbf|mathrm)\s*\{([^{}]*)\}")


def math(prompt: Prompt, completion: str) -> float | None:
    r"""1 where the completion's answer equals `prompt.answer`, else 0; None where the prompt has no answer.

    The answer is the text in the last <answer> tags, of that (or of the whole completion) the last \boxed{...}, or else
    the last expression of the completion's last 1,000 characters. One answer counts: boxing several does not help.
    Equal means equal to math-verify: 1/2, 0.5 and \frac{1}{2} are, numbers agree to 6 decimals, x = 5 answers 5. A
    reference that is no mathematics (Paris) is compared as text, without regard to case. What a completion reasons is
    not looked at. Some expressions keep sympy busy for ever; the reward's deadline ends them.

    >>> prompt = Prompt(id="1", task="t", domain="d", text="1 - 1/2 =", answer="1/2")
    >>> math(prompt, r"So it is \boxed{\frac{2}{4}}."), math(prompt, "<answer>0.5</answer>"), math(prompt, "It is 2.")
    (1.0, 1.0, 0.0)
    """
    given = reference_of(prompt)
    if given is None:
        return None
    said = answer_of(completion)
    boxed = boxed_of(completion if said is None else said)
    answer = said if boxed is None else boxed
    reference = boxed_of(given)
    reference = given if reference is None else reference
    if _plain(completion if answer is None else answer) == _plain(reference):
        return 1.0
    gold = _parse(reference)
    if not gold:
        return 0.0
    found = _parse(completion[-_TAIL:], prose=True) if answer is None else _parse(answer)
    return float(load_library().verify(gold, found, timeout_seconds=None))


@cache
def load_library() -> ModuleType:
    """math_verify, imported at the first call; UserError where it is not installed."""
    try:
        library = importlib.import_module("math_verify")
    except ModuleNotFoundError as error:
        if error.name != "math_verify":
            raise
        raise UserError("math needs the package math-verify: pip install 'groupwise[math]'") from None
    for part in ("parser", "grader"):  # they warn that they have no deadline: ours ends the process
        logging.getLogger(f"math_verify.{part}").setLevel(logging.ERROR)
    warm = library.parse(r"\boxed{x = \frac{1}{2}}", parsing_timeout=None)
    library.verify(warm, warm, timeout_seconds=None)  # sympy imports more at its first use: not on a call's time
    return library


def _parse(text: str, prose: bool = False) -> list[object]:
    """What math-verify reads in `text`: all of it as one expression, or where it is prose the last one in it."""
    prose = prose or bool(_LATEX.search(text) or _WORD.search(text))
    found: list[object] = load_library().parse(text if prose else rf"\boxed{{{text}}}", parsing_timeout=None)
    return found


def _plain(text: str) -> str:
    return normalise(_TEXT.sub(r"\1", text), ignore_case=True)
