"""Who enters when: nobody is forgotten, the budget holds, and prompts are read together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groupwise.rollout.layout import Layout
from groupwise.rollout.waiting import Waiting

PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), max_size=30)


def lines_of(prompts: list[tuple[int, ...]], rows: list[int], shared: bool) -> list[set[int]]:
    """The rows in each line of the layout, when these rows enter together."""
    if not shared:
        return [{i} for i in rows]
    known = {prompt: n for n, prompt in enumerate(dict.fromkeys(prompts[i] for i in rows))}
    layout, _ = Layout.of(torch.tensor([known[prompts[i]] for i in rows]))
    return [{i for i, at in zip(rows, layout._line.tolist(), strict=True) if at == n} for n in range(len(layout))]


@given(PROMPTS, st.integers(1, 8), st.integers(1, 90), st.booleans(), st.booleans(), st.data())
def test_everybody_enters_once_and_the_budget_holds(
    prompts: list[tuple[int, ...]], rows: int, tokens: int, shared: bool, joining: bool, data: st.DataObject
) -> None:
    waiting = Waiting(prompts, 5, rows=rows, tokens=tokens, shared=shared, joining=joining)
    lines: list[set[int]] = []
    entered: list[int] = []
    while waiting or lines:
        inside = [i for line in lines for i in line]
        entering = waiting.take(inside, len(lines))
        assert entering or inside
        assert joining or not (entering and inside)
        lines += lines_of(prompts, entering, shared) if entering else []
        inside += entering
        entered += entering
        assert len(inside) <= rows
        width = max(len(prompts[i]) for i in inside)
        assert len(inside) * 5 + len(lines) * width <= tokens or len(inside) == 1
        stay = data.draw(st.sets(st.sampled_from(inside), max_size=len(inside) - 1))
        lines = [left for line in lines if (left := line & stay)]
    assert sorted(entered) == list(range(len(prompts)))
    assert [len(prompts[i]) for i in entered] == sorted(map(len, prompts), reverse=True)


def test_a_prompt_that_is_shared_counts_once() -> None:
    prompts = [(1, 2, 3)] * 10
    for shared, entering in ((True, 6), (False, 3)):
        waiting = Waiting(prompts, 2, rows=99, tokens=15, shared=shared, joining=True)
        assert len(waiting.take([], 0)) == entering


def test_a_prompt_with_more_rows_than_others_counts_for_each_of_its_lines() -> None:
    prompts = [(1,) * 8] * 13 + [(n,) * 8 for n in (2, 3, 4)]  # four rows a line: four lines and three
    assert len(Waiting(prompts, 1, rows=99, tokens=16 + 7 * 8, shared=True, joining=True).take([], 0)) == 16
    assert len(Waiting(prompts, 1, rows=99, tokens=15 + 7 * 8, shared=True, joining=True).take([], 0)) < 16


def test_a_prompt_counts_for_each_time_that_rows_of_it_entered() -> None:
    waiting = Waiting([(1,) * 8] * 100, 1, rows=99, tokens=40, shared=True, joining=True)
    first = waiting.take([], 0)
    second = waiting.take(first[:4], 1)
    third = waiting.take([*first[:4], *second[:4]], 2)
    assert (len(first), len(second), len(third)) == (40 - 8, 40 - 4 - 2 * 8, 40 - 8 - 3 * 8)


@pytest.mark.parametrize(("inside", "entering"), [(16, 0), (14, 0), (13, 0), (12, 4), (3, 13)])
def test_a_few_rows_do_not_enter_alone(inside: int, entering: int) -> None:
    waiting = Waiting([(1,)] * 50, 1, rows=16, tokens=999, shared=True, joining=True)
    assert waiting.take([], 0) == list(range(16))
    assert len(waiting.take(list(range(inside)), 1)) == entering


def test_the_last_rows_do() -> None:
    waiting = Waiting([(1,)] * 17, 1, rows=16, tokens=999, shared=True, joining=True)
    waiting.take([], 0)
    assert waiting.take(list(range(15)), 1) == [16]
    assert not waiting
