"""What a completion votes for: the same text for the same answer, whatever surrounds it."""

from __future__ import annotations

import pytest

from groupwise.tasks.answers import voted_answer

SAME = {
    "tags": ("<answer>4</answer>", "so <answer> 4 </answer>.", "<answer>5</answer> no: <answer>4</answer>"),
    "tags come before boxes": (r"\boxed{7} <answer>4</answer>", "<answer>4</answer>"),
    "a box in the tags": (r"<answer>\boxed{4}</answer>", "<answer>4</answer>"),
    "boxes": (r"\boxed{5}, or rather $\boxed{4}$.", "4", r"so \boxed{ 4.0 } holds"),
    "braces in a box": (r"\boxed{\frac{1}{2}}", r"<answer>\frac{1}{2}</answer>"),
    "a box that is never closed": ("\\boxed{7\nfour", "Four"),
    "a box before one that is never closed": (r"\boxed{4} or \boxed{7", "4"),
    "the last line": ("Let me see.\nParis\n\n", "paris", "  PARIS  "),
    "spaces": ("<answer>a  b\n c</answer>", "a b c"),
    "numbers": ("4", "4.0", "+4", "04", "4.", "8/2"),
    "thousands": ("1,250", "1250", "1250.00", "+1,250.0"),
    "fractions": ("0.5", "1/2", ".5", "2/4"),
    "zero": ("0", "-0", "0.0"),
    "nothing": ("", "  \n\n ", "<answer></answer>", "<answer> </answer>"),
}
DIFFERENT = {
    "numbers": ("4", "5", "-4", "0.4", "40"),
    "long numbers that are one as floats": ("12345678901234567890", "12345678901234567891"),
    "a list is no number": ("1,25", "125"),
    "not numbers": ("1/0", "nan", "inf", "1e5", "4 5", "1_000", "1000"),
    "words": ("new york", "newyork"),
}


@pytest.mark.parametrize("completions", SAME.values(), ids=SAME)
def test_the_same_answer(completions: tuple[str, ...]) -> None:
    assert len({voted_answer(completion) for completion in completions}) == 1


@pytest.mark.parametrize("completions", DIFFERENT.values(), ids=DIFFERENT)
def test_different_answers(completions: tuple[str, ...]) -> None:
    assert len({voted_answer(completion) for completion in completions}) == len(completions)


def test_what_a_policy_may_babble_takes_no_time() -> None:
    for completion in ("9" * 100_000, r"\boxed{" * 50_000, "<answer>" * 50_000, "1/" + "9" * 5000, "1," * 50_000):
        voted_answer(completion)
