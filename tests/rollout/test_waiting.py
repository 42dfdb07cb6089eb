"""Who enters when: nobody is forgotten, the budget holds, and prompts are read together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.rollout.waiting import Waiting

PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), max_size=30)


def cached(prompts: list[tuple[int, ...]], inside: list[int], longest: int) -> int:
    """Tokens of these rows, if they share what they can."""
    width = max((len(prompts[i]) for i in inside), default=0)
    return len(inside) * longest + len({prompts[i] for i in inside}) * width


@given(PROMPTS, st.integers(1, 8), st.integers(1, 90), st.booleans(), st.data())
def test_everybody_enters_once_and_the_budget_holds(
    prompts: list[tuple[int, ...]], rows: int, tokens: int, shared: bool, data: st.DataObject
) -> None:
    waiting = Waiting(prompts, 5, rows=rows, tokens=tokens, shared=shared)
    inside: list[int] = []
    entered: list[int] = []
    while waiting or inside:
        entering = waiting.take(inside)
        assert entering or inside
        assert shared or not (entering and inside)
        inside += entering
        entered += entering
        assert len(inside) <= rows
        assert cached(prompts, inside, 5) <= tokens or len(inside) == 1
        stay = data.draw(st.sets(st.sampled_from(inside), max_size=len(inside) - 1))
        inside = [i for i in inside if i in stay]
    assert sorted(entered) == list(range(len(prompts)))
    assert [len(prompts[i]) for i in entered] == sorted(map(len, prompts), reverse=True)


def test_a_prompt_that_is_shared_counts_once() -> None:
    prompts = [(1, 2, 3)] * 10
    assert len(Waiting(prompts, 2, rows=99, tokens=15, shared=True).take([])) == 6
    assert len(Waiting(prompts, 2, rows=99, tokens=15, shared=False).take([])) == 3


@pytest.mark.parametrize(("inside", "entering"), [(16, 0), (14, 0), (13, 0), (12, 4), (3, 13)])
def test_a_few_rows_do_not_enter_alone(inside: int, entering: int) -> None:
    waiting = Waiting([(1,)] * 50, 1, rows=16, tokens=999, shared=True)
    assert waiting.take([]) == list(range(16))
    assert len(waiting.take(list(range(inside)))) == entering


def test_the_last_rows_do() -> None:
    waiting = Waiting([(1,)] * 17, 1, rows=16, tokens=999, shared=True)
    waiting.take([])
    assert waiting.take(list(range(15))) == [16]
    assert not waiting
