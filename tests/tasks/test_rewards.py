"""The pieces that rewards are made of."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.tasks.rewards import answer_of, length_penalty

PIECES = st.lists(st.sampled_from(["<answer>", "</answer>", "<answer", "4", " ", "\n", "x"]), max_size=14).map("".join)


@given(PIECES)
@settings(deadline=None)
def test_answer_is_the_one_that_reasoning_gym_extracts(text: str) -> None:
    from reasoning_gym.utils import extract_answer

    assert answer_of(text) == extract_answer(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", None),
        ("4", None),
        ("<answer>4", None),
        ("<answer></answer>", ""),
        ("<answer> 4\n</answer>", "4"),
        ("<answer>3</answer><answer>4</answer> said", "4"),
        ("<answer>3</answer><answer>4", "3"),
    ],
)
def test_answer_of(text: str, answer: str | None) -> None:
    assert answer_of(text) == answer


def test_unclosed_tags_take_linear_time() -> None:
    start = time.perf_counter()
    assert answer_of("<answer>" * 100_000) is None
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("length", "buffer", "penalty"),
    [
        *((0, 20, 0), (80, 20, 0), (81, 20, -0.05), (90, 20, -0.5), (100, 20, -1), (130, 20, -1)),
        *((99, 0, 0), (100, 0, -1), (0, 100, 0), (50, 100, -0.5)),
    ],
)
def test_length_penalty(length: int, buffer: int, penalty: float) -> None:
    assert length_penalty(length, 100, buffer) == pytest.approx(penalty)


@given(st.integers(1, 300), st.data())
def test_length_penalty_falls_within_its_bounds(max_tokens: int, data: st.DataObject) -> None:
    buffer = data.draw(st.integers(0, max_tokens))
    penalties = [length_penalty(length, max_tokens, buffer) for length in range(max_tokens + 5)]
    assert penalties == sorted(penalties, reverse=True)
    assert all(-1 <= p <= 0 for p in penalties)
    assert penalties[max_tokens] == -1


@pytest.mark.parametrize("buffer", [-1, 101])
def test_length_penalty_refuses_an_impossible_buffer(buffer: int) -> None:
    with pytest.raises(ValueError, match=f"buffer {buffer} is not between 0 and max_tokens 100"):
        length_penalty(50, 100, buffer)
