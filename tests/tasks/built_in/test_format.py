"""The tags, all the tags, and nothing but the tags."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.tasks.built_in.format import tag_format

from .cases import prompt

PIECES = ["<think>", "</think>", "<answer>", "</answer>", " ", "\n", "x", "<think"]


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ("<think>a</think><answer>b</answer>", 1.0),
        (" \n<think>a\nb</think>\n\n<answer>c</answer> ", 1.0),
        ("<think></think><answer></answer>", 1.0),
        ("<think>1 < 2 </ think></think><answer>b</answer>", 1.0),
        ("", 0.0),
        ("<answer>b</answer>", 0.0),
        ("<answer>b</answer><think>a</think>", 0.0),
        ("<think>a</think> so <answer>b</answer>", 0.0),
        ("Well, <think>a</think><answer>b</answer>", 0.0),
        ("<think>a</think><answer>b</answer>!", 0.0),
        ("<think>a</think><answer>b", 0.0),
        ("<think>a<answer>b</think></answer>", 0.0),
        ("<think>a<answer>b</answer></think>", 0.0),
        ("<think>a</think><think>a</think><answer>b</answer>", 0.0),
        ("<think>a</think><answer>b</answer><answer>b</answer>", 0.0),
        ("<think>a</think></think><answer>b</answer>", 0.0),
        ("<think>a<think>b</think><answer>c</answer>", 0.0),
        ("<think>a<answer></think><answer>b</answer>", 0.0),
        ("<Think>a</Think><answer>b</answer>", 0.0),
    ],
)
def test_format(completion: str, reward: float) -> None:
    assert tag_format(prompt(), completion) == reward


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_it_is_the_regular_expression(text: str) -> None:
    import re

    body = r"((?!</?think>|</?answer>).)*"
    pattern = rf"\s*<think>{body}</think>\s*<answer>{body}</answer>\s*"
    assert tag_format(prompt(), text) == float(re.fullmatch(pattern, text, re.DOTALL) is not None)


def test_tags_of_your_own() -> None:
    text = "<plan>a</plan><code>b</code><test>c</test>"
    assert tag_format(prompt(), text, tags=("plan", "code", "test")) == 1.0
    assert tag_format(prompt(), text, tags=("code", "plan", "test")) == 0.0


def test_a_completion_that_opens_for_ever_takes_no_time() -> None:
    start = time.perf_counter()
    assert tag_format(prompt(), "<think>" * 100_000) == 0.0
    assert time.perf_counter() - start < 0.5
